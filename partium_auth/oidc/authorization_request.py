"""The authorization request (OpenID Connect Core §3.1.2.1): in the browser's URL, or pushed to the provider first (RFC 9126)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit

from partium_auth.oidc import token_endpoint
from partium_auth.oidc.metadata import Metadata
from partium_auth.oidc.provider import Provider


def parameters_of(
    provider: Provider, *, redirect_uri: str, state: str, nonce: str, code_verifier: str, **more: str
) -> dict[str, Any]:
    """Return the parameters of a request: the provider's extra ones, ``more``, and what a login always sends, which wins.

    Args:
        redirect_uri: as it is registered there.
        code_verifier: whose challenge is sent (RFC 7636).
    """
    challenge = urlsafe_b64encode(sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
    return {
        **provider.extra_parameters,
        **more,
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": provider.scopes,
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }


def url_of(provider: Provider, metadata: Metadata, parameters: Mapping[str, Any]) -> str:
    """Return the URL to send the browser to. Where requests are pushed, it has a reference to the parameters only.

    Raises:
        UpstreamError: the request was pushed, and the provider refused or failed.
    """
    if metadata.pushes:
        request_uri = token_endpoint.push(provider, metadata, parameters)
        parameters = {"client_id": provider.client_id, "request_uri": request_uri}
    return with_query(metadata.authorization_endpoint, parameters)


def with_query(url: str, parameters: Mapping[str, Any]) -> str:
    """Return a URL with more parameters in its query."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(parameters)}"
