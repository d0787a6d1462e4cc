"""ID tokens (OpenID Connect Core §3.1.3.7): the checks beyond those of every signed token (``oidc.signed_tokens``)."""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import Metadata
from partium_auth.oidc.provider import Provider
from partium_auth.oidc.signed_tokens import LEEWAY_SECONDS, is_date, verify


def verify_id_token(
    provider: Provider,
    metadata: Metadata,
    token: str,
    *,
    nonce: str,
    access_token: str,
    max_age_seconds: float | None = None,
) -> dict[str, Any]:
    """Return the claims of an ID token that was issued for this login.

    Args:
        nonce: the one that was sent with the authorization request.
        access_token: the one that came with it, for ``at_hash``.
        max_age_seconds: how old the login may be, beside what the provider's own parameters say.

    Raises:
        Refused: named by the claim that is wrong.
        UpstreamError: the provider's keys could not be fetched.
    """
    header, claims = verify(provider, metadata, token, required=("iss", "sub", "aud", "exp", "iat", "nonce"))
    if not _is_same(claims["nonce"], nonce):
        raise Refused("nonce", "not the one of this login.")
    _check_access_token(header["alg"], claims, access_token)
    for sent in (provider.extra_parameters.get("max_age"), max_age_seconds):
        _check_age_of_authentication(sent, claims)
    return claims


def verify_refreshed_id_token(
    provider: Provider, metadata: Metadata, token: str, *, who: tuple[str, str], access_token: str
) -> dict[str, Any]:
    """Return the claims of an ID token that came with a refresh (Core §12.2).

    Args:
        token: the ID token; it has no nonce, or that of the login.
        who: issuer and subject of the login.
        access_token: the one that came with it, for ``at_hash``.

    Raises:
        Refused: named by the claim that is wrong.
        UpstreamError: the provider's keys could not be fetched.
    """
    header, claims = verify(provider, metadata, token, required=("iss", "sub", "aud", "exp", "iat"))
    if (claims["iss"], claims["sub"]) != who:
        raise Refused("sub", "about somebody else than the login was.")
    _check_access_token(header["alg"], claims, access_token)
    return claims


def is_about_somebody_else(token: str, issuer: str, subject: str) -> bool:
    """Tell whether an ID token that came with a refresh is about another person than the login was (Core §12.2).

    Its signature is not verified: it came straight from the token endpoint (Core §3.1.3.7, 6), and it logs nobody in. A token
    that cannot be read, because it is encrypted for example, says nothing.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (PyJWTError, ValueError, RecursionError):
        return False
    return (claims.get("iss"), claims.get("sub")) != (issuer, subject)


def _check_access_token(algorithm: str, claims: Mapping[str, Any], access_token: str) -> None:
    """Core §3.1.3.8: ``at_hash``, where it is there, is that of the access token that came with the ID token."""
    if "at_hash" in claims and not _is_same(claims["at_hash"], _half_hash(algorithm, access_token)):
        raise Refused("at_hash", "not of the access token that came with it.")


def _check_age_of_authentication(sent: Any, claims: Mapping[str, Any]) -> None:
    """Core §3.1.2.1: a client that sends ``max_age`` has to check ``auth_time``."""
    try:
        max_age = float(sent)
    except (TypeError, ValueError):
        return
    authenticated_at = claims.get("auth_time")
    if not is_date(authenticated_at) or authenticated_at + max_age + LEEWAY_SECONDS < time.time():
        raise Refused("auth_time", "missing, or longer ago than max_age.")


def _half_hash(algorithm: str, value: str) -> str:
    """Return the left half of a token's hash, with the signature's hash function (Core §3.1.3.6)."""
    name = {"Ed448": "shake_256", "ES256K": "sha256"}.get(
        algorithm, "sha512" if algorithm[:2] == "Ed" else f"sha{algorithm[2:]}"
    )
    hashed = hashlib.new(name, value.encode())
    digest = hashed.digest(114) if name == "shake_256" else hashed.digest()  # type: ignore[call-arg]  # SHAKE: any length
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _is_same(claim: object, expected: str) -> bool:
    return isinstance(claim, str) and hmac.compare_digest(claim.encode(), expected.encode())
