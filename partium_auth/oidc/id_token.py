"""Signed tokens of a provider: ID tokens (OpenID Connect Core §3.1.3.7) and logout tokens (Back-Channel Logout §2.6).

PyJWT checks the signature (``oidc.signatures``); each claim is checked here, under its own name, so that the log says which
one it was. The time is passed in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import Metadata
from partium_auth.oidc.provider import Provider
from partium_auth.oidc.signatures import verify_signature

LEEWAY_SECONDS = 60
"""How far the provider's clock may be from ours."""

LOGOUT_TOKEN_LASTS_SECONDS = 120
"""How old a logout token without ``exp`` may be, besides the leeway."""

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

_LATEST = 250_000_000_000.0  # in the year 9892: Python and every database can tell what day that is

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def verify_id_token(
    provider: Provider, metadata: Metadata, token: str, *, nonce: str, access_token: str, now: float
) -> dict[str, Any]:
    """Return the claims of an ID token that was issued for this login.

    Args:
        provider: who must have issued it.
        metadata: the provider's.
        token: the ID token.
        nonce: the one that was sent with the authorization request.
        access_token: the one that came with it, for ``at_hash``.
        now: seconds since the epoch.

    Raises:
        Refused: named by the claim that is wrong.
        UpstreamError: the provider's keys could not be fetched.
    """
    header, claims = verify_signature(provider, metadata.jwks_uri, token)
    _check_issuer(claims, metadata.issuer)
    _check_audience(claims, provider.client_id)
    expires = _number(claims, "exp")
    if expires is None or expires + LEEWAY_SECONDS <= now:
        raise Refused("exp", "missing or past.")
    _check_issued_at(claims, now)
    not_before = _number(claims, "nbf") if "nbf" in claims else 0
    if not_before is None or not_before > now + LEEWAY_SECONDS:
        raise Refused("nbf", "in the future.")
    _check_subject(claims)
    if not isinstance(claims.get("nonce"), str) or not _same(claims["nonce"], nonce):
        raise Refused("nonce", "missing, or not the one of this login.")
    if "at_hash" in claims and not (
        isinstance(claims["at_hash"], str) and _same(claims["at_hash"], _half_hash(header["alg"], access_token))
    ):
        raise Refused("at_hash", "not of the access token that came with it.")
    _check_age_of_authentication(provider, claims, now)
    return claims


def is_about_somebody_else(token: str, issuer: str, subject: str) -> bool:
    """Tell whether an ID token that came with renewed tokens is about another person than the login was (Core §12.2).

    Its signature is not looked at: it came straight from the token endpoint (Core §3.1.3.7, 6), and nobody is logged in by it.
    One that cannot be read, because it is encrypted say, tells nothing.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (PyJWTError, ValueError, RecursionError):
        return False
    return (claims.get("iss"), claims.get("sub")) != (issuer, subject)


def verify_userinfo_token(provider: Provider, metadata: Metadata, token: str) -> dict[str, Any]:
    """Return the claims of a signed userinfo answer (Core §5.3.2). Raises Refused and UpstreamError."""
    _, claims = verify_signature(provider, metadata.jwks_uri, token)
    # Both SHOULD be there; one that is there has to be right.
    if "iss" in claims:
        _check_issuer(claims, metadata.issuer)
    if "aud" in claims:
        _check_audience(claims, provider.client_id)
    return claims


def verify_logout_token(provider: Provider, metadata: Metadata, token: str, *, now: float) -> dict[str, Any]:
    """Return the claims of a logout token; whether its ``jti`` was used before is for the caller to say.

    ``typ`` may be anything but that of another kind of token: providers differ (§2.4 only recommends ``logout+jwt``).

    Raises:
        Refused: named by the claim that is wrong.
        UpstreamError: the provider's keys could not be fetched.
    """
    header, claims = verify_signature(provider, metadata.jwks_uri, token)
    refuse_what_cannot_be_stored(claims)
    if str(header.get("typ", "JWT")).lower().removeprefix("application/") not in {"jwt", "logout+jwt"}:
        raise Refused("typ", "a token of another kind.")
    _check_issuer(claims, metadata.issuer)
    _check_audience(claims, provider.client_id)
    issued_at = _check_issued_at(claims, now)
    expires = _number(claims, "exp") if "exp" in claims else issued_at + LOGOUT_TOKEN_LASTS_SECONDS
    if expires is None or expires + LEEWAY_SECONDS <= now:
        raise Refused("exp", "past.")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise Refused("events", "does not say that this is about a log-out.")
    if "nonce" in claims:
        raise Refused("nonce", "an ID token, not a logout token.")
    if not isinstance(claims.get("jti"), str) or not 0 < len(claims["jti"]) <= 1024:
        raise Refused("jti", "missing.")
    if "sub" in claims:
        _check_subject(claims)
    if "sid" in claims and not (isinstance(claims["sid"], str) and claims["sid"]):
        raise Refused("sid", "not a string.")
    if "sub" not in claims and "sid" not in claims:
        raise Refused("sid", "neither sid nor sub.")
    return claims


def logout_token_usable_until(claims: Mapping[str, Any]) -> float:
    """Until when (seconds since the epoch) a verified logout token would be taken, were it not for its ``jti``."""
    expires = _number(claims, "exp") if "exp" in claims else None
    until = (claims["iat"] + LOGOUT_TOKEN_LASTS_SECONDS if expires is None else expires) + LEEWAY_SECONDS
    return min(until, _LATEST)


def refuse_what_cannot_be_stored(claims: Mapping[str, Any]) -> None:
    """Refuse half a surrogate pair, or a NUL, which PostgreSQL does not take: JSON's strings may hold what is no text.

    Raises:
        Refused: check ``claims``.
    """
    left: list[Any] = [claims]
    while left:  # no recursion: claims may be nested as deeply as somebody likes
        value = left.pop()
        if isinstance(value, Mapping):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and _NO_TEXT.search(value):
            raise Refused("claims", "a claim is not a text.")


def _check_issuer(claims: Mapping[str, Any], issuer: str) -> None:
    if not isinstance(claims.get("iss"), str) or claims["iss"] != issuer:
        raise Refused("iss", "missing, or not exactly the provider's issuer.")


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or client_id not in audiences:
        raise Refused("aud", "missing, or not for this client.")
    authorized = claims.get("azp")
    if (len(audiences) > 1 or authorized is not None) and authorized != client_id:
        raise Refused("azp", "issued to another client.")


def _check_issued_at(claims: Mapping[str, Any], now: float) -> float:
    issued_at = _number(claims, "iat")
    if issued_at is None or issued_at > now + LEEWAY_SECONDS:
        raise Refused("iat", "missing, or in the future; do the clocks agree?")
    return issued_at


def _check_subject(claims: Mapping[str, Any]) -> None:
    subject = claims.get("sub")
    # 255 ASCII characters at most (Core §2).
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise Refused("sub", "missing, empty or too long.")


def _check_age_of_authentication(provider: Provider, claims: Mapping[str, Any], now: float) -> None:
    # Core §3.1.2.1: whoever asks for max_age has to look at auth_time.
    try:
        max_age = float(provider.extra_parameters["max_age"])
    except (KeyError, TypeError, ValueError):
        return
    authenticated_at = _number(claims, "auth_time")
    if authenticated_at is None or authenticated_at + max_age + LEEWAY_SECONDS < now:
        raise Refused("auth_time", "missing, or longer ago than max_age.")


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        return None
    return float(value)


def _half_hash(algorithm: str, value: str) -> str:
    """The left half of a token's hash, with the hash of the signature (Core §3.1.3.6); Ed25519 has SHA-512."""
    digest = hashlib.new(f"sha{algorithm[2:]}" if algorithm != "EdDSA" else "sha512", value.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(errors="replace"), b.encode(errors="replace"))
