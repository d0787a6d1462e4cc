"""What ID tokens, logout tokens and signed userinfo answers have in common: signature, issuer, audience, dates.

PyJWT does the checks of RFC 7519 §4.1. A failed check has the name of its claim, so that the log says which one it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, cast

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    MissingRequiredClaimError,
)

from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import Metadata
from partium_auth.oidc.provider import Provider
from partium_auth.oidc.signatures import verify_signature

LEEWAY_SECONDS = 60
"""How far the provider's clock may be from ours."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def verify(
    provider: Provider, metadata: Metadata, token: str, *, required: Iterable[str], reason: str = "id_token"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token that the provider signed, and that is for us and not expired.

    Args:
        required: the claims that must be there. Others are checked where they are there.
        reason: what keys are fetched anew for; see ``documents.get_newer``.

    Raises:
        Refused: named by the claim that is wrong; see also ``signatures.verify_signature``.
        UpstreamError: the provider's keys could not be fetched.
    """
    header, claims = verify_signature(provider, metadata, token, reason=reason)
    refuse_unstorable_text(claims)
    for name in ("exp", "nbf", "iat"):
        if name in claims and not is_date(claims[name]):
            raise Refused(name, "not a number of seconds.")
    # PyJWT checks claims only while it decodes. The signature has been verified above.
    options = {f"verify_{name}": name != "signature" for name in ("signature", "exp", "nbf", "iat", "iss", "aud")}
    try:
        jwt.decode(
            token,
            options=cast("Any", {**options, "require": list(required)}),
            audience=provider.client_id if "aud" in claims else None,
            issuer=metadata.issuer if "iss" in claims else None,
            leeway=LEEWAY_SECONDS,
        )
    except MissingRequiredClaimError as e:
        raise Refused(e.claim, "missing.") from None
    except InvalidIssuerError:
        raise Refused("iss", "not exactly the provider's issuer.") from None
    except InvalidAudienceError:
        raise Refused("aud", "not for this client.") from None
    except ExpiredSignatureError:
        raise Refused("exp", "past; do the clocks agree?") from None
    except ImmatureSignatureError:
        later = max(("iat", "nbf"), key=lambda name: float(claims.get(name, 0)))
        raise Refused(later, "in the future; do the clocks agree?") from None
    _check_authorized_party(claims, provider.client_id)
    # At most 255 ASCII characters (Core §2).
    if "sub" in claims and not (isinstance(claims["sub"], str) and 0 < len(claims["sub"]) <= 255):
        raise Refused("sub", "empty, too long or not a string.")
    return header, claims


def refuse_unstorable_text(claims: Mapping[str, Any]) -> None:
    """Refuse text that JSON allows and databases do not store: half a surrogate pair, or (PostgreSQL) a NUL.

    Raises:
        Refused: check ``claims``.
    """
    left: list[Any] = [claims]
    while left:  # no recursion: claims may be nested more deeply than Python's limit
        value = left.pop()
        if isinstance(value, Mapping):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and _UNSTORABLE.search(value):
            raise Refused("claims", "a claim has characters that cannot be stored.")


def is_date(value: object) -> TypeGuard[float]:
    """Tell whether a claim's value is a NumericDate (RFC 7519 §2) of a sensible size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e12 < value < 1e12


def _check_authorized_party(claims: Mapping[str, Any], client_id: str) -> None:
    """Core §3.1.3.7, 4 and 5: ``azp`` has to be there if there are several audiences, and to name us if it is there."""
    has_several = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
    authorized = claims.get("azp")
    if (has_several or authorized is not None) and authorized != client_id:
        raise Refused("azp", "issued to another client.")
