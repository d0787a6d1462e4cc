"""Grants of real exchanges with the sandbox, and a clock that can be moved."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError
from django.http import HttpRequest
from django.utils import timezone
from pytest_django import Settings

from partium_auth.accounts import sessions
from partium_auth.fields import seal
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Grant, Membership, Organization, Outage
from partium_auth.models.fingerprints import fingerprint
from partium_auth.oidc import providers
from partium_auth.oidc.provider import Provider
from partium_auth.partium.token_response import TokenResponse
from partium_auth.session import AccessToken, PartiumSession
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants, state
from partium_auth.tokens.manager import TokenManager
from partium_auth.tokens.state import GrantState
from partium_auth.tokens.verified_login import VerifiedLogin
from tests.oidc.conftest import op, provider_server  # noqa: F401  # fixtures
from tests.oidc.provider import BendableProvider


class MovableClock:
    """Seconds since the epoch, plus what a test has added."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_seconds

    def advance(self, seconds: float) -> None:
        self.offset_seconds += seconds


@pytest.fixture(autouse=True)
def _outages_are_looked_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partium_auth.tokens.outages.LOOK_SECONDS", 0.0)


def let_time_pass() -> None:
    """Let the pauses end that a failure has caused, of grants and of upstreams."""
    Grant.objects.update(next_attempt_at=ago(1))
    Outage.objects.update(next_probe_at=ago(1))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """The threads of a server."""
    with ThreadPoolExecutor(20) as executor:
        yield executor


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def token_manager(clock: MovableClock) -> TokenManager:
    return TokenManager(clock=clock)


@pytest.fixture
def acme(partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="acme", display_name="Acme")


PASSWORD = "correct horse"


@pytest.fixture
def password_grant(partium_sandbox: PartiumSandbox) -> Callable[[], Grant]:
    """Make a grant of a user:password exchange, as a login does."""
    partium_sandbox.add_user("ann", PASSWORD, "acme")

    def make() -> Grant:
        user, _ = get_user_model().objects.get_or_create(username="ann")
        issued_at = timezone.now()
        tokens = upstream.authentication_api().exchange_password("ann", PASSWORD)
        return grants.open_grant(VerifiedLogin(Grant.Kind.PASSWORD, {}, tokens, issued_at, user=user), "session-key")

    return make


@pytest.fixture
def key_grant(partium_sandbox: PartiumSandbox, acme: Organization) -> Callable[[], Grant]:
    """Make the grant of a new API key of acme; nothing has been exchanged yet."""

    def make() -> Grant:
        value = partium_sandbox.add_key("acme")
        key = ApiKey(organization=acme, label="test", hint=value[-4:], fingerprint=fingerprint("api-key", value))
        key.secret = seal(key, "secret", value)
        key.verification = ApiKey.Verification.ACCEPTED
        key.save()
        return grants.for_key(key.pk)

    return make


@pytest.fixture
def oidc_grant(op: BendableProvider, settings: Settings) -> Callable[..., Grant]:  # noqa: F811
    """Make the grant of a login at a provider, by default that of the settings."""
    settings.PARTIUM_EXECUTOR = "thread"

    def make(slug: str = "default") -> Grant:
        user, _ = get_user_model().objects.get_or_create(username="olga")
        answer = op.tokens()
        tokens = TokenResponse(answer["access_token"], answer["refresh_token"], answer["expires_in"])
        provider = providers.get(slug)
        login = VerifiedLogin(Grant.Kind.OIDC, {}, tokens, timezone.now(), provider, user)
        return grants.open_grant(login, "session-key")

    return make


@dataclass
class Person:
    """Somebody who is logged in; every request is a new one, as the middlewares make it."""

    user: Any
    organization: Organization
    session_key: str
    grant: Grant | None

    def request(self) -> HttpRequest:
        request = HttpRequest()
        request.session = SessionStore(self.session_key)
        request.user = get_user_model().objects.get(pk=self.user.pk)
        request.session.get("")  # reads it, as the authentication middleware does
        return request

    @property
    def partium(self) -> PartiumSession:
        return PartiumSession(self.request())

    def token(self) -> AccessToken:
        return self.partium.token()


@pytest.fixture
def log_in(partium_sandbox: PartiumSandbox) -> Callable[..., Person]:
    """Log somebody in, with a token of the sandbox; without ``kind`` through another backend, with no grant."""

    def make(
        organization: Organization, name: str = "ann", kind: Grant.Kind | None = Grant.Kind.PASSWORD, provider: str = ""
    ) -> Person:
        partium_sandbox.add_user(name, PASSWORD, organization.org_id)
        user, _ = get_user_model().objects.get_or_create(username=name)
        Membership.objects.get_or_create(user=user, organization=organization)
        request = HttpRequest()
        request.session = SessionStore()
        request.session.create()
        request.user = user
        grant = None
        if kind is None:
            sessions.begin_without_grant(request, user)
        else:
            issued_at = timezone.now()
            tokens = upstream.authentication_api().exchange_password(name, PASSWORD)
            at = Provider(provider, provider, issuer="", client_id="") if provider else None
            grant = sessions.begin(request, VerifiedLogin(kind, {}, tokens, issued_at, at, user))
        request.session.save()
        assert request.session.session_key
        return Person(user, organization, request.session.session_key, grant)

    return make


def read(grant: Grant | None) -> GrantState:
    assert grant is not None
    seen = state.read(grant.pk)
    assert seen is not None
    return seen


def age(grant: Grant, seconds_left: float) -> GrantState:
    """Make a grant's token as old as if that many seconds were left of it."""
    seen = read(grant)
    Grant.objects.filter(pk=grant.pk).update(issued_at=time.time() + seconds_left - seen.lifetime_seconds)
    return read(grant)


def ago(seconds: float) -> dt.datetime:
    return timezone.now() - dt.timedelta(seconds=seconds)


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.01)


def out_of_database(*args: object, **kwargs: object) -> NoReturn:
    """Stand in for what needs the database, which cannot be had."""
    raise OperationalError("too many connections")
