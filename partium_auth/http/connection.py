"""A connection to an upstream, through the environment's proxy and verified with its CA bundle."""

from __future__ import annotations

import functools
import os
import selectors
import socket
import ssl
import time
import weakref
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_auth_from_url, get_environ_proxies, select_proxy

from partium_auth.exceptions import ConnectionFailed
from partium_auth.http.deadline import Deadline, DeadlineSocket
from partium_auth.http.errors import FoundClosed, ProxyFailed
from partium_auth.http.public_addresses import is_public_address
from partium_auth.http.request import InsecureURL, basic_credentials
from partium_auth.http.response import Response, read_response

_RETRY_PAUSE_SECONDS: Final = 0.1


class Connection:
    """One connection; see :func:`open_connection`. Used by one thread of one process."""

    def __init__(self, origin: tuple[str, str, bool], sock: socket.socket, stream: DeadlineSocket) -> None:
        self.is_reusable = False
        self._origin = origin
        self._sock = sock
        self._stream = stream
        self._http = HTTPConnection("localhost")  # the name is not used: the socket is connected already
        self._http.auto_open = 0
        self._http.sock = cast("Any", stream)
        self._pid = os.getpid()
        self._is_kept = False
        self._used_at = time.monotonic()
        # For a kept connection of a thread that has ended, or of a transport that nobody uses any more.
        weakref.finalize(self, sock.close)

    def reuse(self, url: str, deadline: Deadline, idle_seconds: float, *, public_only: bool) -> bool:
        """Prepare for one more call. Returns False where the connection does not fit, or the upstream has closed it."""
        self._stream.deadline = deadline
        self._is_kept = True
        is_fresh = time.monotonic() - self._used_at < idle_seconds
        # A forked child shares the socket with its parent.
        return (
            self._origin == _origin_of(url, public_only)
            and self._pid == os.getpid()
            and is_fresh
            and not self._is_readable()
        )

    def exchange(self, request: requests.PreparedRequest, endpoint: str, max_bytes: int) -> Response:
        """Send a request and read the response in full.

        Raises:
            FoundClosed: a kept connection was closed before any response.
            OSError, HTTPException: the connection broke, the deadline passed, or the response is not HTTP.
            UnexpectedResponse: see :func:`read_response`.
        """
        body = request.body.encode() if isinstance(request.body, str) else request.body
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # an upstream may answer (413) before it has read all
                self._http.request(str(request.method), request.path_url, body, request.headers)
            raw = self._http.getresponse()
            if self._stream.has_ended:
                raise RemoteDisconnected("no end of headers")
        except (ConnectionError, ssl.SSLEOFError):
            if self._is_kept:
                raise FoundClosed from None
            raise
        response = read_response(raw, endpoint, max_bytes)
        # http.client returns an interim response (103) as if it were the final one.
        self.is_reusable = raw.isclosed() and not raw.will_close and raw.status >= 200
        self._used_at = time.monotonic()
        return response

    def close(self) -> None:
        """Close it; nothing happens where it is closed already."""
        self._sock.close()

    def _is_readable(self) -> bool:
        # Between two calls there is nothing to read but the end of the connection.
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            return bool(selector.select(0))


def open_connection(
    url: str, deadline: Deadline, *, connect_seconds: float, read_seconds: float, public_only: bool = False
) -> Connection:
    """Connect to the host of a URL; a TCP connection that could not be made is tried once more.

    Args:
        url: one that may be called; ``https`` goes through the environment's proxy.
        connect_seconds: for connecting to one address, and for the TLS handshake, each.
        read_seconds: how long proxy and upstream may stay silent.
        public_only: connect to a public address only. A proxy resolves names itself, so behind one this has no effect.

    Raises:
        InsecureURL: the host has an address that is not public, with ``public_only``.
        OSError, UnicodeError: no connection.
        ConnectionFailed: the CA bundle cannot be read, or the environment names a proxy of another kind.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":  # loopback: a proxy is another machine
        sock = _connect(host, parts.port or 80, deadline, connect_seconds, public_only)
        return Connection(_origin_of(url, public_only), sock, DeadlineSocket(sock, deadline, read_seconds))
    context = _tls_context(
        os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    )
    proxy = proxy_of(url)
    if proxy:
        sock = _connect_through_proxy(proxy, host, parts.port or 443, deadline, connect_seconds, read_seconds)
    else:
        sock = _connect(host, parts.port or 443, deadline, connect_seconds, public_only)
    try:
        sock.settimeout(deadline.left(connect_seconds))  # OpenSSL keeps to it for the whole handshake
        sock = context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    return Connection(_origin_of(url, public_only), sock, DeadlineSocket(sock, deadline, read_seconds))


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, if it names one."""
    return select_proxy(url, get_environ_proxies(url))


def _origin_of(url: str, public_only: bool) -> tuple[str, str, bool]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, public_only


def _connect_through_proxy(
    url: str, host: str, port: int, deadline: Deadline, connect_seconds: float, read_seconds: float
) -> socket.socket:
    """Return a socket that the proxy has connected to a host (RFC 9110 §9.3.6)."""
    url = url if "://" in url else f"http://{url}"
    if not url.lower().startswith("http://"):
        raise ConnectionFailed(
            "SOCKS and https:// proxies are not supported; set HTTPS_PROXY to http://host:port.", sent=False
        )
    sock: socket.socket | None = None
    try:
        proxy = urlsplit(url)
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.username:
            lines.append(f"Proxy-Authorization: {basic_credentials(*get_auth_from_url(url)).reveal()}")
        sock = _connect(proxy.hostname or "", proxy.port or 80, deadline, connect_seconds)
        stream = DeadlineSocket(sock, deadline, read_seconds)
        stream.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        raw = HTTPResponse(cast("Any", stream), method="CONNECT")
        raw.begin()
        if not 200 <= raw.status < 300:
            raise ProxyFailed
    except (OSError, HTTPException, ValueError) as e:
        if sock is not None:
            sock.close()
        raise e if isinstance(e, TimeoutError) else ProxyFailed from None
    return sock


def _connect(
    host: str, port: int, deadline: Deadline, connect_seconds: float, public_only: bool = False
) -> socket.socket:
    try:
        return _connect_once(host, port, deadline, connect_seconds, public_only)
    except TimeoutError:
        raise
    except OSError:
        time.sleep(_RETRY_PAUSE_SECONDS)
        return _connect_once(host, port, deadline, connect_seconds, public_only)


def _connect_once(host: str, port: int, deadline: Deadline, connect_seconds: float, public_only: bool) -> socket.socket:
    # socket.create_connection(host) would give each of many dead addresses the whole time.
    failure: OSError = socket.gaierror("no address")
    # Resolved once: we connect to the address that was checked, whatever the name resolves to a moment later.
    addresses = [sockaddr for *_, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if public_only and not all(is_public_address(str(sockaddr[0])) for sockaddr in addresses):
        raise InsecureURL(
            f"{host} has an address that is not public, and a discovery document names it. If that is right, enter the "
            "endpoint in the provider's configuration."
        )
    for sockaddr in addresses:
        address: Any = sockaddr[:2]
        seconds = deadline.left(connect_seconds)
        try:
            sock = socket.create_connection(address, seconds)
        except OSError as e:
            failure = e
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise failure


@functools.lru_cache(maxsize=8)  # loading a bundle takes 13 ms
def _tls_context(ca_bundle: str) -> ssl.SSLContext:
    is_folder = os.path.isdir(ca_bundle)
    try:
        context = ssl.create_default_context(
            cafile=None if is_folder else ca_bundle, capath=ca_bundle if is_folder else None
        )
    except OSError:
        raise ConnectionFailed(
            f"The CA bundle {ca_bundle} cannot be read; check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.", sent=False
        ) from None
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context
