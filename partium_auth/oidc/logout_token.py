"""Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4 and §2.6)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import Metadata
from partium_auth.oidc.provider import Provider
from partium_auth.oidc.signed_tokens import LEEWAY_SECONDS, verify

LIFETIME_SECONDS = 120
"""How old a logout token without ``exp`` may be, besides the leeway."""

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

_LATEST = 250_000_000_000.0  # in the year 9892: Python and every database can store that date


def verify_logout_token(provider: Provider, metadata: Metadata, token: str) -> tuple[str, dict[str, Any]]:
    """Return algorithm and claims of a logout token. The caller has to check that its ``jti`` was not used before.

    ``typ`` may be anything but that of another kind of token: providers differ (§2.4 only recommends ``logout+jwt``).

    Raises:
        Refused: named by the claim that is wrong.
        UpstreamError: the provider's keys could not be fetched.
    """
    header, claims = verify(provider, metadata, token, required=("iss", "aud", "iat", "jti"), reason="logout_token")
    if str(header.get("typ", "JWT")).lower().removeprefix("application/") not in {"jwt", "logout+jwt"}:
        raise Refused("typ", "a token of another kind.")
    if usable_until(claims) <= time.time():
        raise Refused("exp", "past.")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise Refused("events", "does not name the log-out event.")
    if "nonce" in claims:
        raise Refused("nonce", "an ID token, not a logout token.")
    if not isinstance(claims["jti"], str) or not 0 < len(claims["jti"]) <= 1024:
        raise Refused("jti", "empty, too long or not a string.")
    if "sid" in claims and not (isinstance(claims["sid"], str) and claims["sid"]):
        raise Refused("sid", "empty or not a string.")
    if "sub" not in claims and "sid" not in claims:
        raise Refused("sid", "neither sid nor sub.")
    return header["alg"], claims


def usable_until(claims: Mapping[str, Any]) -> float:
    """Return until when (seconds since the epoch) a verified logout token could be sent again, but for its ``jti``."""
    expires: float = claims["exp"] if "exp" in claims else claims["iat"] + LIFETIME_SECONDS
    return min(expires + LEEWAY_SECONDS, _LATEST)
