"""The userinfo endpoint (OpenID Connect Core §5.3), and how its claims are merged with those of the ID token."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from partium_auth.exceptions import UpstreamError
from partium_auth.host.upstream import send_upstream_called, transport
from partium_auth.http.transport import raise_for_status
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import Metadata
from partium_auth.oidc.provider import Provider
from partium_auth.oidc.signed_tokens import refuse_unstorable_text, verify

USERINFO_SECONDS = 8.0
MAX_BYTES = 256 * 1024

#: Claims about the login itself: userinfo cannot replace them.
_ID_TOKEN_ONLY = frozenset(
    {
        "iss",
        "sub",
        "aud",
        "azp",
        "exp",
        "iat",
        "nbf",
        "jti",
        "nonce",
        "at_hash",
        "c_hash",
        "auth_time",
        "acr",
        "amr",
        "sid",
    }
)


def fetch(provider: Provider, metadata: Metadata, access_token: str, *, subject: str) -> dict[str, Any]:
    """Return a person's claims from the userinfo endpoint, sent as JSON or as a signed JWT.

    Args:
        subject: the ID token's ``sub``; an answer about somebody else is refused (§5.3.2).

    Raises:
        Refused: the endpoint failed, did not answer with claims, or answered about somebody else.
        UpstreamError: the provider's keys could not be fetched.
    """
    try:
        response = transport().send(
            "GET",
            metadata.userinfo_endpoint,
            bearer=access_token,
            total_seconds=USERINFO_SECONDS,
            max_bytes=MAX_BYTES,
            idempotent=True,
            public_only=not provider.is_typed(metadata.userinfo_endpoint),
            observe=partial(send_upstream_called, Provider, "", "provider_userinfo"),
        )
        raise_for_status(response, "Userinfo endpoint")
        is_token = response.content_type == "application/jwt"
        claims = None if is_token else response.json()
    except (UpstreamError, ValueError) as e:
        raise Refused("userinfo", str(e)) from None
    if is_token:
        token = response.body.decode("ascii", errors="replace").strip()
        _, claims = verify(provider, metadata, token, required=())  # "iss" and "aud" are only recommended (§5.3.2)
    if not isinstance(claims, dict):
        raise Refused("userinfo", "the answer is not a JSON object.")
    refuse_unstorable_text(claims)
    if claims.get("sub") != subject:
        raise Refused("userinfo_sub", "the answer is about somebody else than the ID token.")
    return claims


def merged(id_token: Mapping[str, Any], userinfo: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of both; those about the login itself come from the ID token only.

    ``email_verified`` always comes from the source of ``email``. Where both name the same address, only a JSON boolean
    replaces the ID token's: Cognito's userinfo says ``"true"`` where its ID token says ``true``.
    """
    claims = dict(id_token)
    more = {name: value for name, value in userinfo.items() if name not in _ID_TOKEN_ONLY}
    if "email" not in more:
        more.pop("email_verified", None)
    elif more["email"] != claims.get("email"):
        claims.pop("email_verified", None)
    elif "email_verified" in claims and not isinstance(more.get("email_verified"), bool):
        more.pop("email_verified", None)
    return {**claims, **more}
