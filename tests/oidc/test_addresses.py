"""A discovery document, which others write, makes this server call public addresses only (SSRF)."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from typing import Any

import pytest

from partium_auth.exceptions import TimedOut
from partium_auth.http.public_addresses import is_public_address, may_be_public
from partium_auth.http.transport import InsecureURL, Transport
from partium_auth.oidc import token_endpoint
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import interpret_metadata
from partium_auth.oidc.provider import Provider, discovery_url_of
from partium_auth.oidc.providers import from_row
from partium_auth.services.provider_check import check_provider
from tests.oidc.conftest import add_provider
from tests.oidc.provider import BendableProvider

ISSUER = "https://login.acme.example"
ACME = Provider(
    slug="acme",
    display_name="Acme",
    issuer=ISSUER,
    client_id="portal",
    client_secret="s3cret",
    discovery_url=discovery_url_of(ISSUER),
)
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}
INSIDE = ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "100.64.0.1"]


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def resolve_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let every name resolve to an address, with a port of ours; returns the names that were asked for."""

    def let(*addresses: str, port: int = 443) -> list[str]:
        asked: list[str] = []

        def resolved(host: str, _port: Any, *args: Any, **options: Any) -> list[Any]:
            address = host if host in addresses else addresses[min(len(asked), len(addresses) - 1)]
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        return asked

    return let


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "10.0.0.7", "169.254.169.254", "localhost"]
)
def test_a_document_that_names_an_address_inside_is_refused_unless_an_operator_typed_it(host: str) -> None:
    url = f"https://{host}/x"
    for name in ("token_endpoint", "jwks_uri", "userinfo_endpoint", "revocation_endpoint"):
        with pytest.raises(Refused) as caught:
            interpret_metadata(ACME, {**DOCUMENT, name: url})
        assert caught.value.check == "discovery"
        by_hand = dataclasses.replace(ACME, endpoints={name: url})
        assert getattr(interpret_metadata(by_hand, DOCUMENT), name) == url


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_that_resolves_to_an_address_inside_gets_no_client_secret(
    resolve_as: Callable[..., list[str]], address: str
) -> None:
    """Today's code connects: whoever answers there with a trusted certificate receives the client secret."""
    resolve_as(address)
    metadata = interpret_metadata(ACME, {**DOCUMENT, "token_endpoint": "https://inside.acme.example/token"})
    with pytest.raises(InsecureURL, match="not public") as caught:
        token_endpoint.redeem_code(ACME, metadata, "code", "https://site.example/", "verifier")
    assert not caught.value.sent


def test_the_connection_goes_to_the_address_that_was_checked(
    resolve_as: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to a public address when it is checked, and to loopback a moment later (DNS rebinding)."""
    asked = resolve_as("93.184.216.34", "127.0.0.1")
    connected: list[Any] = []

    def connect(address: Any, *args: Any) -> socket.socket:
        connected.append(address)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TimedOut):
        Transport().send("GET", "https://rebinding.example/", public_only=True)
    assert (asked, connected) == (["rebinding.example"], [("93.184.216.34", 443)])


def test_a_host_counts_as_typed_with_any_port() -> None:
    assert ACME.is_typed(f"{ISSUER}:8443/token")
    assert not ACME.is_typed("https://elsewhere.example/token")


def test_the_check_of_a_provider_says_what_a_proxy_keeps_from_being_checked(
    op: BendableProvider, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    row = add_provider(op)
    op.metadata["revocation_endpoint"] = "https://elsewhere.example/revoke"
    found = [finding for finding in check_provider(from_row(row)) if "proxy" in finding.text]
    assert [finding.level for finding in found] == ["warning"]
    assert "elsewhere.example" in found[0].text


@pytest.mark.parametrize("address", [*INSIDE, "224.0.0.1", "0.0.0.0"])
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)
    assert not may_be_public(address)


@pytest.mark.parametrize("host", ["93.184.216.34", "2606:2800:220:1::1", "login.acme.example"])
def test_hosts_that_may_be_public(host: str) -> None:
    assert may_be_public(host)
