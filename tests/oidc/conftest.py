"""A provider to bend, and a browser that logs in through it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from partium_auth.fields import seal
from partium_auth.models import Grant, Identity, IdentityProvider, Organization
from partium_auth.oidc import documents
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, BendableProvider, bendable_provider, callback_url


@pytest.fixture(scope="session")
def provider_server() -> Iterator[BendableProvider]:
    with bendable_provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def other_provider_server() -> Iterator[BendableProvider]:
    with bendable_provider() as provider:
        yield provider


@pytest.fixture
def op(provider_server: BendableProvider, settings: Settings) -> Iterator[BendableProvider]:
    """The provider of the settings, named ``default``."""
    provider_server.reset()
    documents.forget()
    settings.OIDC_OP_ISSUER = provider_server.url
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    settings.PARTIUM_EXECUTOR = "inline"
    settings.LOGIN_REDIRECT_URL = "/home/"
    yield provider_server
    provider_server.reset()


@pytest.fixture
def other_op(other_provider_server: BendableProvider) -> Iterator[BendableProvider]:
    """A second provider."""
    other_provider_server.reset()
    documents.forget()
    yield other_provider_server
    other_provider_server.reset()


def name_endpoints(op: BendableProvider, settings: Settings) -> None:
    """Name the endpoints of the settings' provider, as the base library needs it, and let it expect that library's default."""
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = f"{op.url}/authorize"
    settings.OIDC_OP_TOKEN_ENDPOINT = f"{op.url}/token"
    settings.OIDC_OP_USER_ENDPOINT = f"{op.url}/userinfo"
    settings.OIDC_OP_JWKS_ENDPOINT = f"{op.url}/jwks"
    op.client_authentication = "client_secret_post"


def add_provider(op: BendableProvider, slug: str = "other", **fields: Any) -> IdentityProvider:
    """Make the row of a provider."""
    row = IdentityProvider(
        **{"slug": slug, "display_name": slug.title(), "issuer": op.issuer, "client_id": CLIENT_ID, **fields}
    )
    row.client_secret = seal(row, "client_secret", CLIENT_SECRET)
    row.save()
    return row


class Browser:
    """A visitor's browser: starts a login, is logged in at the provider, comes back."""

    def __init__(self, op: BendableProvider, client: Client | None = None) -> None:
        self.op = op
        self.client = client or Client()

    def start(self, slug: str = "default", **parameters: str) -> str:
        response = self.client.get(f"/partium/login/{slug}/", parameters)
        assert response.status_code == 302, response.content.decode()
        return response.headers["Location"]

    def come_back(self, parameters: dict[str, str], slug: str = "default") -> Any:
        return self.client.get(callback_url(f"/partium/callback/{slug}/", parameters))

    def log_in(self, slug: str = "default", claims: dict[str, Any] | None = None, **parameters: str) -> Any:
        """The whole way; return the answer to the callback."""
        return self.come_back(self.op.authorize(self.start(slug, **parameters), **(claims or {})), slug)

    @property
    def user(self) -> User | None:
        pk = self.client.session.get(SESSION_KEY)
        return None if pk is None else get_user_model().objects.get(pk=pk)


@pytest.fixture
def browser(op: BendableProvider, db: None) -> Browser:
    return Browser(op)


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(org_id="acme", display_name="Acme")


@pytest.fixture
def globex(db: None) -> Organization:
    return Organization.objects.create(org_id="globex", display_name="Globex")


class Refusals:
    """Asserts that a login was refused: nobody in, nothing stored, a page, one log line, no secret anywhere."""

    def __init__(self, caplog: pytest.LogCaptureFixture, op: BendableProvider) -> None:
        self.caplog = caplog
        self.op = op

    def check(self, response: Any, browser: Browser, check: str, *, status: int = 400, users: int = 0) -> None:
        page = response.content.decode()
        assert response.status_code == status, page
        assert "partium_auth/login_failed.html" in [template.name for template in response.templates]
        assert 'role="alert"' in page
        assert "no-store" in response.headers["Cache-Control"]
        assert SESSION_KEY not in browser.client.session
        assert Grant.objects.count() == 0
        assert Identity.objects.count() == 0
        assert get_user_model().objects.count() == users
        lines = [r.getMessage() for r in self.caplog.records if r.name == "partium_auth.login"]
        assert [line for line in lines if f" check={check} " in line] == lines, lines
        assert len(lines) == 1
        self.no_secrets(page)

    def no_secrets(self, page: str) -> None:
        for secret in [*self.op.issued, "private words"]:
            if secret in self.caplog.text or secret in page:
                pytest.fail("a secret, or a provider's raw text, is in the log or on the page")


@pytest.fixture
def refused(caplog: pytest.LogCaptureFixture, op: BendableProvider) -> Refusals:
    caplog.set_level(logging.INFO, "partium_auth")
    return Refusals(caplog, op)


@contextlib.contextmanager
def moved_clock(seconds: float) -> Iterator[None]:
    """Move this machine's clock, forwards or back, for a moment."""
    now = time.time() + seconds
    with mock.patch("time.time", return_value=now):
        yield
