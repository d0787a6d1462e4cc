"""Access tokens of identity providers that are connected to Partium: who is it, and which organizations does that open?

A JWT is verified against the keys of the issuer it names (OpenID Connect Discovery 1.0 section 4, RFC 7517); any other
token is shown to the userinfo endpoint of the configured issuers (OpenID Connect Core section 5.3).
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from .state import Rejected, fingerprint

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_TIMEOUT_SECONDS = 5
_MAX_DOCUMENT_BYTES = 1 << 20
_REMEMBERED = 1_000


class IssuerUnavailable(Exception):
    """An issuer could not be asked, so nobody knows whether its token is good."""


@dataclass(frozen=True)
class Issuer:
    """An identity provider that is connected to Partium.

    Attributes:
        url: its issuer identifier, exactly as in its tokens and its discovery document.
        organizations: what its tokens open where they do not say so themselves.
        organizations_claim: the claim that lists a user's organizations: a list, or words separated by spaces.
        audience: required in ``aud`` of its JWTs; None accepts any.
    """

    url: str
    organizations: tuple[str, ...] = ()
    organizations_claim: str = "organizations"
    audience: str | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token must not travel to wherever an answer points."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def _get_json(url: str, bearer: str | None = None) -> dict[str, Any] | None:
    """A JSON object, or None where the answer is 401 or 403.

    Raises:
        IssuerUnavailable: anything else.
    """
    if not url.startswith(("http://", "https://")):
        raise IssuerUnavailable("The issuer's address is neither http nor https.")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked above
        with _opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            document = json.loads(answer.read(_MAX_DOCUMENT_BYTES))
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


def _json_part(part: str) -> dict[str, Any] | None:
    try:
        document = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


class Issuers:
    """The configured issuers and what is remembered about them for a short while.

    Args:
        now: seconds since the epoch by the sandbox's clock; decides about ``exp`` and ``nbf``.
        cache_seconds: how long keys and answers are remembered.
    """

    def __init__(self, now: Callable[[], float], cache_seconds: Callable[[], float]) -> None:
        self._now = now
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all issuers and everything remembered."""
        with self._lock:
            self._issuers: dict[str, Issuer] = {}
            self._documents: dict[str, tuple[float, dict[str, Any]]] = {}
            self._opened: dict[str, tuple[float, tuple[str, ...]]] = {}

    def add(self, issuer: Issuer) -> None:
        """Connect an issuer, or replace the one with the same URL.

        Raises:
            ValueError: its URL is neither http nor https.
        """
        if not issuer.url.startswith(("http://", "https://")):
            raise ValueError("An issuer's URL begins with https:// or http://.")
        with self._lock:
            self._issuers[issuer.url] = issuer
            self._opened.clear()

    def organizations(self, token: str) -> tuple[str, ...] | None:
        """The organizations that a provider's access token opens, or None where no issuer knows the token.

        Raises:
            Rejected: it names a configured issuer and is not valid: signature, time, audience.
            IssuerUnavailable: an issuer could not be asked.
        """
        mark = fingerprint(token)
        with self._lock:
            until, opened = self._opened.get(mark, (0.0, ()))
        if until > self._now():
            return opened
        claims_and_issuer = self._verify(token)
        if claims_and_issuer is None:
            return None
        claims, issuer = claims_and_issuer
        opened = _listed(claims.get(issuer.organizations_claim), issuer.organizations)
        until = self._now() + self._cache_seconds()
        if isinstance(claims.get("exp"), int | float):
            until = min(until, claims["exp"])
        with self._lock:
            if len(self._opened) >= _REMEMBERED:
                self._opened.clear()
            self._opened[mark] = until, opened
        return opened

    def _verify(self, token: str) -> tuple[dict[str, Any], Issuer] | None:
        with self._lock:
            issuers = dict(self._issuers)
        if not issuers:
            return None
        parts = token.split(".")
        header, claims = (_json_part(parts[0]), _json_part(parts[1])) if len(parts) == 3 else (None, None)
        if header is not None and claims is not None:
            issuer = issuers.get(str(claims.get("iss")))
            return (self._verified_claims(token, header, issuer), issuer) if issuer else None
        for issuer in issuers.values():
            address = self._document(f"{issuer.url.rstrip('/')}/.well-known/openid-configuration").get(
                "userinfo_endpoint"
            )
            answer = _get_json(address, token) if isinstance(address, str) else None
            if answer is not None and answer.get("sub"):
                return answer, issuer
        return None

    def _verified_claims(self, token: str, header: dict[str, Any], issuer: Issuer) -> dict[str, Any]:
        import jwt  # here, so that a sandbox without issuers starts without loading the cryptography

        algorithm = header.get("alg")
        if algorithm not in _ALGORITHMS:
            raise Rejected("The token's signature algorithm is not accepted.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(self._key(issuer, header), algorithm=algorithm),
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.url,
                # Time is the sandbox's own clock, below.
                options={
                    "verify_aud": issuer.audience is not None,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise Rejected(f"The provider's access token is not valid: {type(error).__name__}.") from None
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or expires <= self._now():
            raise Rejected("The provider's access token has expired.")
        if not isinstance(begins, int | float) or begins > self._now():
            raise Rejected("The provider's access token is not valid yet.")
        return claims

    def _key(self, issuer: Issuer, header: dict[str, Any]) -> dict[str, Any]:
        """The JWK that the header names; the keys are fetched again once where they are not known to hold it."""
        discovery = self._document(f"{issuer.url.rstrip('/')}/.well-known/openid-configuration")
        if discovery.get("issuer") != issuer.url:
            raise IssuerUnavailable("The discovery document is another issuer's.")
        address = str(discovery.get("jwks_uri", ""))
        for fresh in (False, True):
            listed = self._document(address, fresh=fresh).get("keys")
            keys = [key for key in listed if isinstance(key, dict)] if isinstance(listed, list) else []
            fitting = [
                key
                for key in keys
                if key.get("use", "sig") == "sig"
                and key.get("alg", header["alg"]) == header["alg"]
                and ("kid" not in header or key.get("kid") == header["kid"])
            ]
            if len(fitting) == 1:
                return fitting[0]
        raise Rejected("No key of the issuer, or more than one, fits the token.")

    def _document(self, url: str, *, fresh: bool = False) -> dict[str, Any]:
        with self._lock:
            until, document = self._documents.get(url, (0.0, {}))
        if until > self._now() and not fresh:
            return document
        fetched = _get_json(url) or {}
        with self._lock:
            self._documents[url] = self._now() + self._cache_seconds(), fetched
        return fetched


def _listed(claim: Any, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The organizations that a claim lists; ``otherwise`` where there is no such claim."""
    if claim is None:
        return otherwise
    words: Iterable[Any] = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else ()
    return tuple(word for word in words if isinstance(word, str))
