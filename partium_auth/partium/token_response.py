"""Tokens from a token endpoint: Partium's, whose response is not documented, or an identity provider's."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from partium_auth.exceptions import CredentialsRejected, UnexpectedResponse
from partium_auth.http.transport import Response, raise_for_status
from partium_auth.partium.errors import require_json_error

DEFAULT_LIFETIME_SECONDS: Final = 600
"""What Partium's access tokens live by default (Partium, general aspects: authentication)."""

MAX_LIFETIME_SECONDS: Final = 366 * 24 * 3600
"""Longer lifetimes are cut to this, so that adding one to a date never overflows."""

CREDENTIAL_STATUSES: Final = frozenset({400, 401, 403, 422})
"""Statuses that say something about the credential only if Partium itself sent them, and not a gateway in front of it."""

_SNAKE_CASE: Final = {
    "accessToken": "access_token",
    "refreshToken": "refresh_token",
    "idToken": "id_token",
    "tokenType": "token_type",
    "expiresIn": "expires_in",
}
_TOKEN = re.compile(r"[\x21-\x7e]+")
_REFRESH_TOKEN = re.compile(r"[\x20-\x7e]+")  # it goes into forms only, so it may have spaces (RFC 6749 A.17)
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """Tokens as an upstream issued them. The ``repr`` shows none of them.

    Attributes:
        access_token: printable ASCII, fit for an ``Authorization`` header.
        refresh_token: printable ASCII, spaces too; None where the upstream sent none: keep the old one, or do without.
        lifetime_seconds: of the access token, at least 1; counts from before the request was sent.
        id_token: of an OpenID provider; not verified here.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime_seconds: int
    id_token: str | None = field(default=None, repr=False)


def parse_token_response(response: Response, *, what: str = "Token request") -> TokenResponse:
    """Return the tokens in a token endpoint's response (RFC 6749 §5.1), with snake_case or camelCase names.

    A missing lifetime is read from the access token where that is a JWT (``exp`` less ``iat``, or less the current time;
    the token is not trusted for anything else), and is 600 s otherwise.

    Args:
        response: with any status.
        what: what was asked for, such as "Partium API key exchange", to begin messages with.

    Raises:
        UnexpectedResponse: HTML, an empty body, wrong types, an empty or malformed token, a lifetime that is not a
            positive number. The message names endpoint and problem, never the body. Also where the status is one of
            :data:`CREDENTIAL_STATUSES` and the body is not a JSON object.
        CredentialsRejected: 401, or any other 4xx whose JSON says ``invalid_grant`` (RFC 6749 §5.2). ``status`` is 401.
        UpstreamError: the status is not 2xx; see :func:`partium_auth.http.raise_for_status`.
    """
    if response.status in CREDENTIAL_STATUSES:
        require_json_error(response, what)
        if response.json().get("error") == "invalid_grant":
            raise CredentialsRejected(f"{what}: {response.url} does not accept this credential any more.", status=401)
    raise_for_status(response, what)
    members = _Members(response, what)
    members.check_token_type()
    access_token = members.token("access_token")
    if access_token is None:
        members.reject("access_token is missing")
    lifetime_seconds = members.lifetime_seconds()
    if lifetime_seconds is None:
        lifetime_seconds = _lifetime_seconds_of_jwt(access_token) or DEFAULT_LIFETIME_SECONDS
    return TokenResponse(
        access_token=access_token,
        refresh_token=members.token("refresh_token"),
        lifetime_seconds=min(lifetime_seconds, MAX_LIFETIME_SECONDS),
        id_token=members.token("id_token"),
    )


class _Members:
    """The members of the JSON object, checked when they are read."""

    def __init__(self, response: Response, what: str) -> None:
        self._response = response
        self._what = what
        body = response.json()
        if not isinstance(body, dict):
            self.reject("a JSON object was expected")
        members: dict[str, Any] = body
        self._values = {_SNAKE_CASE.get(name, name): value for name, value in members.items() if value is not None}

    def reject(self, problem: str) -> NoReturn:
        raise UnexpectedResponse(
            f"{self._what}: {self._response.url} answered {self._response.status}, but {problem}; check the URL.",
            status=self._response.status,
        )

    def check_token_type(self) -> None:
        """Reject all but bearer tokens (RFC 6749 §7.1); some providers write ``BearerToken``."""
        token_type = self._values.get("token_type", "bearer")
        if not isinstance(token_type, str) or not token_type.lower().startswith("bearer"):
            self.reject("token_type is not Bearer")

    def token(self, name: str) -> str | None:
        token = self._values.get(name)
        if token is None:
            return None
        if not isinstance(token, str):
            self.reject(f"{name} is not a string")
        if not token:
            self.reject(f"{name} is empty")
        if not (_REFRESH_TOKEN if name == "refresh_token" else _TOKEN).fullmatch(token):
            self.reject(f"{name} has characters that no token has")
        return token

    def lifetime_seconds(self) -> int | None:
        value = self._values.get("expires_in")
        if value is None:
            return None
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)  # some providers quote the number
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.reject("expires_in is not a number")
        if isinstance(value, float) and not math.isfinite(value):
            self.reject("expires_in is not a finite number")
        if value < 1:
            self.reject("expires_in is not positive")
        return int(value)


def _lifetime_seconds_of_jwt(token: str) -> int | None:
    """Return the lifetime that a JWT claims; None where it is not a JWT, or claims none."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        # Both from the same clock where possible: ours may differ.
        seconds = _number(claims["exp"]) - _number(claims.get("iat", time.time()))
        return int(seconds) if seconds >= 1 else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)
