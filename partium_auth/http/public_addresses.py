"""Which addresses are on the public Internet: a URL that somebody else wrote is called at these only (SSRF)."""

from __future__ import annotations

import ipaddress
import socket


def is_public_address(address: str) -> bool:
    """Tell whether an IP address is public: not loopback, private, link-local, shared, reserved or multicast."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_global and not ip.is_multicast


def may_be_public(host: str) -> bool:
    """Tell whether a host, as it stands in a URL, may be public; a name has to be resolved before anybody knows.

    Old spellings of an address, such as ``127.1`` and ``0x7f000001``, count as that address, because resolvers accept them.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return is_public_address(host)
    except ValueError:
        pass
    try:
        return is_public_address(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        return True
