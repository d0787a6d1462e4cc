"""A provider's endpoints and abilities: configured, or else from its discovery document (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from partium_auth.http.loopback import is_loopback
from partium_auth.http.public_addresses import may_be_public
from partium_auth.oidc import client_keys, documents
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import BASIC, ENDPOINT_AUDIENCE, ENDPOINTS, POST, PRIVATE_KEY_JWT, Provider

SENDS_SECRET = frozenset({BASIC, POST})
"""Ways of client authentication that send the client secret itself."""

ASSERTION_ALGORITHMS = ("ES256", "PS256", "RS256")
"""What this site can sign client assertions with; the first one that the provider takes is used."""


@dataclass(frozen=True)
class Metadata:
    """A provider's endpoints and abilities; an endpoint that it does not have is an empty string."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    end_session_endpoint: str
    revocation_endpoint: str
    pushed_authorization_request_endpoint: str
    pushes: bool
    """Authorization requests are pushed (RFC 9126): the provider requires it, or the endpoint is configured here."""
    client_authentication: str
    assertion_audience: str
    authentication_methods: tuple[str, ...]
    """What its token endpoint offers; empty where it does not say."""
    sends_issuer: bool
    """It promises the ``iss`` parameter in authorization responses (RFC 9207 §3)."""


def metadata_of(provider: Provider, *, starts_login: bool = False) -> Metadata:
    """Return a provider's metadata; what is not configured is discovered.

    Args:
        starts_login: for somebody who starts a login; see :func:`documents.get`. Then there has to be a key pair
            for ``private_key_jwt``.

    Raises:
        Refused: the document's issuer is another one (Discovery §4.3), an endpoint is missing or not ``https``, or the provider
            offers no way to authenticate this client (check ``client_authentication``).
        UpstreamError: the document is not known and could not be fetched.
    """
    url = provider.discovery_url
    if not provider.issuer and not url:
        raise Refused("configuration", "OIDC_OP_ISSUER or OIDC_OP_DISCOVERY_ENDPOINT has to be set.")
    document: Mapping[str, Any] = documents.get(url, starts_login=starts_login) if url else {}
    metadata = interpret_metadata(provider, document)
    _check_authentication(metadata)
    if starts_login and metadata.client_authentication == PRIVATE_KEY_JWT:
        client_keys.current(provider)  # nobody is sent to a provider from which nobody can come back
    return metadata


def interpret_metadata(provider: Provider, document: Mapping[str, Any]) -> Metadata:
    """Return a provider's metadata by its configuration and a discovery document. Raises Refused, see :func:`metadata_of`."""
    issuer = provider.issuer
    if document:
        issuer = _issuer(provider, document)
    endpoints = {name: provider.endpoints.get(name) or _url(document, name) for name in ENDPOINTS}
    for name in ("authorization_endpoint", "token_endpoint", *(() if provider.signing_key else ("jwks_uri",))):
        if not endpoints[name]:
            raise Refused("discovery", f"the provider names no {name}.")
    for name, url in endpoints.items():
        if url and not is_secure(url):
            raise Refused("discovery", f"the {name} is not an https URL.")
        # A document that others write must not point at localhost or into our network (SSRF).
        if url and not provider.is_typed(url) and not may_be_public(urlsplit(url).hostname or ""):
            raise Refused(
                "discovery", f"the {name} is at an address that is not public, and nobody configured it here."
            )
    pushes_to = endpoints["pushed_authorization_request_endpoint"]
    requires_push = document.get("require_pushed_authorization_requests") is True
    if requires_push and not pushes_to:
        raise Refused(
            "discovery", "the provider requires pushed authorization requests, and names no endpoint for them."
        )
    configured = provider.client_authentication
    return Metadata(
        issuer=issuer,
        pushes=requires_push or "pushed_authorization_request_endpoint" in provider.endpoints,
        client_authentication=configured.removesuffix(ENDPOINT_AUDIENCE) or _client_authentication(document),
        assertion_audience=endpoints["token_endpoint"] if configured.endswith(ENDPOINT_AUDIENCE) else issuer,
        authentication_methods=_authentication_methods(document),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        **endpoints,
    )


def is_secure(url: str) -> bool:
    """Tell whether a URL is ``https``, or ``http`` to this machine, and has no user name in it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or "@" in parts.netloc or any(ord(c) <= 32 for c in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def _issuer(provider: Provider, document: Mapping[str, Any]) -> str:
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or issuer not in provider.issuers:
        named = repr(issuer[:200]) if isinstance(issuer, str) else "none"
        raise Refused(
            "discovery_issuer",
            f"the discovery document's issuer is {named}, the one configured {' or '.join(map(repr, provider.issuers))}.",
        )
    return issuer


def _url(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _authentication_methods(document: Mapping[str, Any]) -> tuple[str, ...]:
    methods = document.get("token_endpoint_auth_methods_supported")
    return tuple(name for name in methods if isinstance(name, str)) if isinstance(methods, list) else ()


def _client_authentication(document: Mapping[str, Any]) -> str:
    # Discovery §3: client_secret_basic where the provider names none.
    methods = _authentication_methods(document)
    return POST if POST in methods and BASIC not in methods else BASIC


def assertion_algorithm(document: Mapping[str, Any]) -> str:
    """Return what to sign client assertions with, by a discovery document.

    Raises:
        Refused: the provider takes none of our algorithms (check ``client_authentication``).
    """
    stated = document.get("token_endpoint_auth_signing_alg_values_supported")
    if not isinstance(stated, list) or not stated:
        return "RS256"  # "Servers SHOULD support RS256" (Discovery §3)
    for name in ASSERTION_ALGORITHMS:
        if name in stated:
            return name
    names = ", ".join(ascii(str(name)[:40]) for name in stated[:10])
    raise Refused(
        "client_authentication", f"the provider takes {names}; this site signs with {', '.join(ASSERTION_ALGORITHMS)}."
    )


def _check_authentication(metadata: Metadata) -> None:
    """Refuse to send a secret to a provider that asks for another way. One of the two that send it may be unlisted."""
    offered = metadata.authentication_methods
    if metadata.client_authentication in SENDS_SECRET and offered and SENDS_SECRET.isdisjoint(offered):
        names = ", ".join(ascii(name[:40]) for name in offered[:10])
        raise Refused(
            "client_authentication",
            f"the provider offers {names}; configured is {metadata.client_authentication}. No secret was sent.",
        )
