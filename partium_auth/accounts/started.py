"""Logins that were started and have not come back yet. Each lives in a signed cookie of its own, and is used once.

So tabs do not overwrite each other's, and an answer to an unknown ``state`` leaves the session alone. The cookie holds
neither nonce nor code verifier: both are derived from the state with the site's ``SECRET_KEY``.
"""

from __future__ import annotations

import datetime as dt
import time
from base64 import urlsafe_b64encode
from dataclasses import astuple, dataclass, field
from hashlib import sha256

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from partium_auth.accounts.redirects import response_of
from partium_auth.accounts.used_once import use_once
from partium_auth.oidc.errors import Refused

LASTS_SECONDS = 600
MOST_CHARACTERS = 4000
"""Of all these cookies together: servers refuse a request with more than 8000 characters of cookies."""
ANSWERED_WITHIN_SECONDS = 10
"""A provider that has not answered ``prompt=none`` by then has shown the person something else."""
_COOKIE = "partium_login_"


@dataclass(frozen=True)
class StartedLogin:
    """One login that was started.

    Args:
        state: sent with it; random, and known to this browser only.
        provider: slug of the provider it was started at; it may come back from no other.
        redirect_uri: as it was sent.
        next: where to go afterwards, already found to be on this site; empty: the site's default.
        organization: Partium's id of the organization whose login link was used; not checked.
        silent: it was sent with ``prompt=none``.
        created_at: seconds since the epoch.
        is_retry: the provider has asked to be sent the login once more.
        max_age_seconds: how long ago the person may have proved who they are (Core §3.1.2.1); None: any time.
    """

    state: str = field(repr=False)
    provider: str
    redirect_uri: str
    next: str
    organization: str
    silent: bool
    created_at: float
    is_retry: bool = False
    max_age_seconds: int | None = None

    @property
    def nonce(self) -> str:
        """What has to be in the ID token: 43 characters, more than which a provider need not take."""
        digest = salted_hmac("partium_auth.login.nonce", self.state, algorithm="sha256").digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def code_verifier(self) -> str:
        """The verifier whose challenge is sent (RFC 7636)."""
        return salted_hmac("partium_auth.login.code_verifier", self.state, algorithm="sha256").hexdigest()


def save(request: HttpRequest, response: HttpResponse, login: StartedLogin) -> None:
    """Give the browser a started login to keep; the oldest ones go when there are too many."""
    name = _name(login.state)
    value = signing.dumps(astuple(login)[1:], salt=name)  # without the state
    left = MOST_CHARACTERS - len(name + value)
    for kept, _login in sorted(_pending(request).items(), key=lambda item: item[1].created_at, reverse=True):
        left -= len(kept + request.COOKIES[kept])
        if left < 0:
            _delete(response, kept)
    response.set_cookie(
        name,
        value,
        max_age=LASTS_SECONDS,
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite=settings.SESSION_COOKIE_SAMESITE,
        httponly=True,
    )


def find(request: HttpRequest) -> StartedLogin:
    """Return the started login that the request's ``state`` names; it is not used up yet.

    Raises:
        Refused: unknown (never started, or in another browser), or too old.
    """
    state = response_of(request).get("state", "")
    name = _name(state)
    if not state or name not in request.COOKIES:
        raise Refused(
            "state",
            "the browser sent no cookie for it: it is made up, was used before, or was started longer ago, in another "
            "browser or under another host name (localhost is not 127.0.0.1); or cookies are blocked, or "
            "SESSION_COOKIE_SECURE is on without https.",
        )
    login = _opened(request, name, state)
    if login is None:
        raise Refused("state", "the login was started too long ago, or the cookie was altered.")
    return login


def use_up(login: StartedLogin, provider: str) -> None:
    """Use a started login up, before anything is sent for it.

    Raises:
        Refused: used before, or started at another provider than ``provider``, which it came back from.
    """
    if not use_once(f"login-state\0{login.state}", timezone.now() + dt.timedelta(seconds=LASTS_SECONDS)):
        raise Refused("state", "used before.")
    if login.provider != provider:
        raise Refused("state", "the login was started at another provider.")


def forget(request: HttpRequest, response: HttpResponse) -> None:
    """Delete the cookie of the started login that the request's ``state`` names."""
    name = _name(response_of(request).get("state", ""))
    if name in request.COOKIES:
        _delete(response, name)


def is_left_unanswered(request: HttpRequest, provider: str) -> bool:
    """Tell whether this browser was sent to a provider with ``prompt=none`` and did not come back."""
    until = time.time() - ANSWERED_WITHIN_SECONDS
    return any(
        login.silent and login.provider == provider and login.created_at < until for login in _pending(request).values()
    )


def _pending(request: HttpRequest) -> dict[str, StartedLogin]:
    opened = {name: _opened(request, name) for name in request.COOKIES if name.startswith(_COOKIE)}
    return {name: login for name, login in opened.items() if login is not None}


def _opened(request: HttpRequest, name: str, state: str = "") -> StartedLogin | None:
    try:
        # The name is the salt, so that a cookie counts for its own state only.
        values = signing.loads(request.COOKIES[name], salt=name, max_age=LASTS_SECONDS)
        return StartedLogin(state, *values)
    except (signing.BadSignature, TypeError, ValueError):
        return None


def _name(state: str) -> str:
    return _COOKIE + sha256(state.encode(errors="replace")).hexdigest()[:22]


def _delete(response: HttpResponse, name: str) -> None:
    response.delete_cookie(
        name,
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )
