"""Read what a token endpoint answers: Partium's, whose answer is not documented, or an identity provider's."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from partium_auth.exceptions import UnexpectedResponse
from partium_auth.http.transport import Response, raise_for_status
from partium_auth.partium.errors import require_json_error

DEFAULT_LIFETIME_SECONDS: Final = 600
"""What Partium's access tokens live by default (Partium, general aspects: authentication)."""

MAX_LIFETIME_SECONDS: Final = 366 * 24 * 3600
"""Longer lifetimes are cut to this, so that adding one to a date never overflows."""

REFUSALS: Final = frozenset({400, 403, 422})
"""Statuses that an API refuses a credential with, and that the firewall in front of it refuses anything with."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """Tokens as an upstream issued them. The ``repr`` shows none of them.

    Attributes:
        access_token: printable ASCII, fit for an ``Authorization`` header.
        refresh_token: None where the upstream sent none: keep the old one, or do without.
        lifetime_seconds: of the access token, at least 1; counts from before the request was sent.
        scope: as granted, separated by spaces; None where the upstream did not say.
        id_token: of an OpenID provider; not verified here.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime_seconds: int
    scope: str | None = None
    id_token: str | None = field(default=None, repr=False)


def parse_token_response(response: Response, *, what: str = "Token request") -> TokenResponse:
    """Read a token endpoint's answer (RFC 6749 §5.1), with snake_case or camelCase names.

    A missing lifetime is read from the access token where that is a JWT (``exp`` less ``iat``, or less the current time;
    the token is not trusted for anything else), and is 600 s otherwise.

    Args:
        response: the answer, with any status.
        what: what was asked for, such as "Partium API key exchange", to begin messages with.

    Raises:
        UnexpectedResponse: HTML, an empty body, wrong types, an empty or malformed token, a lifetime that is not a
            positive number. The message names endpoint and problem, never the body. Also where the status is one of
            :data:`REFUSALS` and the body no JSON object: then nothing shows that it is the API that refuses.
        UpstreamError: the status is not 2xx; see :func:`partium_auth.http.raise_for_status`.
    """
    if response.status in REFUSALS:
        require_json_error(response, what)
    raise_for_status(response, what)
    answer = _Answer(response, what)
    answer.check_type()
    access_token = answer.token("access_token", "accessToken")
    if access_token is None:
        answer.refuse("access_token is missing")
    lifetime_seconds = answer.lifetime_seconds()
    if lifetime_seconds is None:
        lifetime_seconds = _lifetime_seconds_of_jwt(access_token) or DEFAULT_LIFETIME_SECONDS
    return TokenResponse(
        access_token=access_token,
        refresh_token=answer.token("refresh_token", "refreshToken"),
        lifetime_seconds=min(lifetime_seconds, MAX_LIFETIME_SECONDS),
        scope=answer.scope(),
        id_token=answer.token("id_token", "idToken"),
    )


class _Answer:
    """The members of one answer, checked when they are read."""

    def __init__(self, response: Response, what: str) -> None:
        self._response = response
        self._what = what
        members = response.json()
        if not isinstance(members, dict):
            self.refuse("a JSON object was expected")
        self._members: dict[str, Any] = members

    def refuse(self, problem: str) -> NoReturn:
        raise UnexpectedResponse(
            f"{self._what}: {self._response.url} answered {self._response.status}, but {problem}; check the URL.",
            status=self._response.status,
        )

    def _member(self, *names: str) -> Any:
        return next((self._members[name] for name in names if self._members.get(name) is not None), None)

    def check_type(self) -> None:
        """Only bearer tokens are understood (RFC 6749 §7.1); some providers write ``BearerToken``."""
        token_type = self._member("token_type", "tokenType")
        if token_type is not None and not (isinstance(token_type, str) and token_type.lower().startswith("bearer")):
            self.refuse("token_type is not Bearer")

    def token(self, *names: str) -> str | None:
        token = self._member(*names)
        if token is None:
            return None
        if not isinstance(token, str):
            self.refuse(f"{names[0]} is not a string")
        if not token:
            self.refuse(f"{names[0]} is empty")
        if not _TOKEN.fullmatch(token):
            self.refuse(f"{names[0]} has characters that no token has")
        return token

    def lifetime_seconds(self) -> int | None:
        value = self._member("expires_in", "expiresIn")
        if value is None:
            return None
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)  # some providers quote the number
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse("expires_in is not a number")
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse("expires_in is not a finite number")
        if value < 1:
            self.refuse("expires_in is not positive")
        return int(value)

    def scope(self) -> str | None:
        scope = self._member("scope")
        if isinstance(scope, list) and all(isinstance(one, str) for one in scope):
            return " ".join(scope)
        if scope is not None and not isinstance(scope, str):
            self.refuse("scope is not a string")
        return scope


def _lifetime_seconds_of_jwt(token: str) -> int | None:
    """How long a JWT says that it lives; None where it is none, or does not say so."""
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
