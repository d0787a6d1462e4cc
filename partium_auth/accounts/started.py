"""Logins that have been started and not yet come back: kept in the session under their ``state``, used once.

The session holds neither nonce nor code verifier, since it may be a cookie or a row that others read: both are made of
the state again, with a key that the session does not have.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.http import HttpRequest

from partium_auth.models.fingerprints import fingerprint
from partium_auth.oidc.errors import Refused

SESSION_KEY = "_partium_logins"
AT_MOST = 20
AT_MOST_CHARACTERS_IN_COOKIE = 2000  # browsers drop a cookie of more than 4096
LASTS_SECONDS = 600
CLOCKS_DIFFER_SECONDS = 60
"""The server that takes a login up may be so far behind the one that started it."""
ANSWERED_WITHIN_SECONDS = 10
"""A provider that has not answered ``prompt=none`` by then has shown the person something else."""


@dataclass(frozen=True)
class StartedLogin:
    """One login that was started.

    Args:
        provider: slug of the provider it was started at; it may come back from no other.
        redirect_uri: as it was sent.
        next: where to go afterwards, already found to be on this site; empty: the site's default.
        organization: Partium's id of the organization whose login link was used; not checked.
        silent: it was sent with ``prompt=none``.
        created_at: seconds since the epoch.
    """

    provider: str
    redirect_uri: str
    next: str
    organization: str
    silent: bool
    created_at: float


def nonce_of(state: str) -> str:
    """Return what has to be in the ID token of the login with this state. Raises EncryptionError: no usable key."""
    return fingerprint("login-nonce", state)


def code_verifier_of(state: str) -> str:
    """Return the verifier whose challenge the login with this state sends (RFC 7636). Raises EncryptionError: no usable key."""
    return fingerprint("login-code-verifier", state)


def remember(request: HttpRequest, state: str, login: StartedLogin) -> None:
    """Keep a started login; the oldest ones go when there are too many, or when they are too old anyway."""
    kept = {key: value for key, value in _all(request).items() if time.time() - value["created_at"] < LASTS_SECONDS}
    kept[state] = asdict(login)
    in_cookie = isinstance(request.session, SignedCookies)
    for key in sorted(kept, key=lambda key: float(kept[key]["created_at"]))[:-1]:
        if len(kept) > AT_MOST or (in_cookie and len(json.dumps(kept)) > AT_MOST_CHARACTERS_IN_COOKIE):
            del kept[key]
    request.session[SESSION_KEY] = kept


def pop(request: HttpRequest, provider: str) -> StartedLogin:
    """Return the started login that the request's ``state`` names, and forget it for good before anything else is done with it.

    ``request.session`` is read anew afterwards, so that what other tabs write meanwhile is not overwritten.

    Raises:
        Refused: unknown (never started, of another session, or used before), too old, or started at another provider.
            An unknown state changes nothing.
    """
    state = request.GET.get("state", "")
    attempts = _all(request)
    if state and settings.SESSION_COOKIE_NAME not in request.COOKIES:
        raise Refused(
            "state",
            "the browser sent no session cookie: it was started under another host name (localhost is not 127.0.0.1), "
            "cookies are blocked, or SESSION_COOKIE_SECURE is on without https.",
        )
    if not state or state not in attempts:
        raise Refused("state", "unknown, of another session, or used before.")
    value = attempts.pop(state)
    request.session[SESSION_KEY] = attempts
    try:
        request.session.save()
    except UpdateError:
        raise Refused("state", "the session was ended meanwhile.") from None
    request.session = type(request.session)(request.session.session_key)
    login = StartedLogin(**value)
    if login.provider != provider:
        raise Refused("state", "the login was started at another provider.")
    if not -CLOCKS_DIFFER_SECONDS <= time.time() - login.created_at < LASTS_SECONDS:
        raise Refused("state", "the login was started too long ago.")
    return login


def is_left_unanswered(request: HttpRequest, provider: str) -> bool:
    """Tell whether this session's browser was sent to a provider with ``prompt=none`` and did not come back."""
    until = time.time() - ANSWERED_WITHIN_SECONDS
    return any(
        value["silent"] and value["provider"] == provider and until - LASTS_SECONDS < value["created_at"] < until
        for value in _all(request).values()
    )


def _all(request: HttpRequest) -> dict[str, Any]:
    value = request.session.get(SESSION_KEY)
    return dict(value) if isinstance(value, dict) else {}
