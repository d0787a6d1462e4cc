"""Access tokens of identity providers that are connected to Partium: is it valid, and which organizations does it open?

A JWT is verified with the keys of the issuer it names (OpenID Connect Discovery 1.0 section 4, RFC 7517); any other
token is sent to the userinfo endpoint of the connected issuers (OpenID Connect Core section 5.3).
"""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from .state import Rejected

if TYPE_CHECKING:
    from jwt import PyJWK, PyJWKSet

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_TIMEOUT_SECONDS = 5


class IssuerUnavailable(Exception):
    """An issuer could not be asked, so nobody knows whether its token is valid."""


@dataclass(frozen=True)
class Issuer:
    """An identity provider that is connected to Partium.

    Attributes:
        url: its issuer identifier, exactly as in its tokens and its discovery document.
        organizations: what its tokens open where they have no such claim.
        organizations_claim: the claim that lists a user's organizations: a list, or words separated by spaces.
        audience: required in ``aud`` of its JWTs; None accepts any.
    """

    url: str
    organizations: tuple[str, ...] = ()
    organizations_claim: str = "organizations"
    audience: str | None = None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get_json(url: str, bearer: str | None = None) -> dict[str, Any] | None:
    """A JSON object, or None where a bearer was sent and rejected. Anything else raises IssuerUnavailable."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - whoever writes the test names the issuer
        with _opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403) and bearer:
            return None
        raise IssuerUnavailable(f"An issuer answered {error.code}.") from None
    except (OSError, HTTPException, ValueError) as error:
        raise IssuerUnavailable(f"An issuer could not be asked: {type(error).__name__}.") from None
    if not isinstance(document, dict):
        raise IssuerUnavailable("An issuer answered with something that is not a JSON object.")
    return document


class Issuers:
    """The connected issuers, with the documents and keys that were fetched from them.

    Args:
        now: seconds since the epoch by the sandbox's clock; decides about ``exp`` and ``nbf``.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.restore({})

    def saved(self) -> dict[str, Issuer]:
        """Return the connected issuers, for :meth:`restore`."""
        return dict(self._issuers)

    def restore(self, saved: dict[str, Issuer]) -> None:
        """Connect these issuers and no others, and forget everything that was fetched."""
        self._issuers = dict(saved)
        self._metadata: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, PyJWKSet] = {}

    def add(self, url: str, organizations: Iterable[str] = (), **claims: Any) -> None:
        """Connect an issuer, or replace the one with the same URL."""
        if not url.startswith(("http://", "https://")):
            raise ValueError("An issuer's URL begins with https:// or http://.")
        self._issuers[url] = Issuer(url, tuple(organizations), **claims)

    def organizations_of(self, token: str) -> tuple[str, ...] | None:
        """The organizations that a provider's access token opens, or None where no issuer knows the token.

        Raises:
            Rejected: it names a connected issuer and is not valid.
            IssuerUnavailable: an issuer could not be asked.
        """
        unverified = _unverified_claims(token)
        for issuer in list(self._issuers.values()):
            if unverified is not None:
                claims = self._verified_claims(token, issuer) if unverified.get("iss") == issuer.url else None
            else:
                endpoint = self._metadata_of(issuer).get("userinfo_endpoint")
                claims = _get_json(endpoint, token) if endpoint else None
            if claims is not None and claims.get("sub"):
                return _listed(claims.get(issuer.organizations_claim), issuer.organizations)
        return None

    def _verified_claims(self, token: str, issuer: Issuer) -> dict[str, Any]:
        import jwt  # here, so that a sandbox without issuers starts without loading the cryptography

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key_of(issuer, jwt.get_unverified_header(token).get("kid", "")).key,
                algorithms=_ALGORITHMS,
                audience=issuer.audience,
                issuer=issuer.url,
                # PyJWT would compare with this machine's clock; the sandbox's own is compared below.
                options={
                    "require": ["exp"],
                    "verify_aud": issuer.audience is not None,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            expires_at, valid_from = float(claims["exp"]), float(claims.get("nbf", 0))
        except (jwt.PyJWTError, TypeError, ValueError) as error:  # TypeError: the key is of another algorithm
            raise Rejected(f"The provider's access token is not valid: {type(error).__name__}.") from None
        if not valid_from <= self._now() < expires_at:
            raise Rejected("The provider's access token has expired, or is not valid yet.")
        return claims

    def _key_of(self, issuer: Issuer, kid: str) -> PyJWK:
        """The issuer's key of that id. Keys are fetched again once for an id that they do not have."""
        import jwt

        for is_second_try in (False, True):
            if is_second_try or issuer.url not in self._keys:
                document = _get_json(str(self._metadata_of(issuer)["jwks_uri"])) or {}
                self._keys[issuer.url] = jwt.PyJWKSet.from_dict(document)
            with contextlib.suppress(KeyError):
                return self._keys[issuer.url][kid]
        raise Rejected("No key of the issuer fits the token.")

    def _metadata_of(self, issuer: Issuer) -> dict[str, Any]:
        if issuer.url not in self._metadata:
            found = _get_json(f"{issuer.url.rstrip('/')}/.well-known/openid-configuration") or {}
            if found.get("issuer") != issuer.url or "jwks_uri" not in found:
                raise IssuerUnavailable("The discovery document is another issuer's, or names no keys.")
            self._metadata[issuer.url] = found
        return self._metadata[issuer.url]


def _unverified_claims(token: str) -> dict[str, Any] | None:
    """What a JWT says of itself, or None where the token is no JWT."""
    try:
        _, claims, _ = token.split(".")
        document = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _listed(claim: Any, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The organizations that a claim lists; ``otherwise`` where there is no such claim."""
    if claim is None:
        return otherwise
    words: Iterable[Any] = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else ()
    return tuple(word for word in words if isinstance(word, str))
