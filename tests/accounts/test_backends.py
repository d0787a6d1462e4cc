"""The backends beside the rest of a site: what they must not do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import aauthenticate, aget_user, authenticate, get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, RequestFactory
from django.utils import timezone
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from pytest_django import Settings

from partium_auth.accounts.passwords import TypedPassword
from partium_auth.backends import PartiumOIDCBackend, PartiumPasswordBackend
from partium_auth.models import Grant
from partium_auth.oidc import providers
from partium_auth.tokens.verified_login import VerifiedLogin
from tests.oidc.conftest import Browser
from tests.oidc.provider import CLIENT_SECRET, BendableProvider


@pytest.fixture
def bob(db: None) -> Any:
    return get_user_model().objects.create_user("bob", "bob@example.com", "a password")


def test_it_passes_for_the_base_librarys_backend() -> None:
    assert issubclass(PartiumOIDCBackend, OIDCAuthenticationBackend)


def test_without_oidc_settings_other_logins_work(bob: Any, client: Client) -> None:
    assert authenticate(RequestFactory().post("/"), username="bob", password="a password") == bob
    assert client.login(username="bob", password="a password")
    assert not providers.is_configured()


@pytest.mark.parametrize("path", ["/admin/login/?code=x&state=y", "/partium/login/?code=x&state=y"])
def test_a_login_form_with_code_and_state_runs_no_code_flow(browser: Browser, op: BendableProvider, path: str) -> None:
    state = op.authorize(browser.start())["state"]
    browser.client.post(path.replace("state=y", f"state={state}"), {"username": "bob", "password": "a password"})
    assert op.forms == []
    assert browser.user is None


@pytest.mark.parametrize("attempt", ["true", True, object()])
def test_nothing_but_our_own_attempt_is_acted_on(db: None, attempt: object) -> None:
    request = RequestFactory().get("/?code=x&state=y")
    for backend in (PartiumOIDCBackend(), PartiumPasswordBackend()):
        given = {"partium_login_token": attempt, "partium_password_login": attempt}
        assert backend.authenticate(request, username="bob", password="x", **given) is None


def test_asynchronous_authentication_does_not_fall_through_to_passwords(bob: Any, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [
        "partium_auth.backends.PartiumOIDCBackend",
        "partium_auth.backends.PartiumPasswordBackend",
    ]
    request = RequestFactory().post("/")
    assert async_to_sync(aauthenticate)(request, username="bob", password="a password") is None


def test_asynchronous_authentication_takes_our_own_attempt(op: BendableProvider, db: None) -> None:
    claims = {"iss": op.url, "sub": "ann", "email": "ann@example.com"}
    login = VerifiedLogin(Grant.Kind.OIDC, claims, None, timezone.now(), providers.get("default"))
    user = async_to_sync(aauthenticate)(RequestFactory().get("/"), partium_login_token=login)
    assert user is not None
    assert login.identity is not None
    assert login.identity.user == user


def test_asynchronous_reading_of_the_user_refuses_the_deactivated(browser: Browser) -> None:
    browser.log_in()
    user = browser.user
    assert user is not None
    request = RequestFactory().get("/")
    request.session = browser.client.session
    assert async_to_sync(aget_user)(request) == user
    user.is_active = False
    user.save()
    assert async_to_sync(aget_user)(request).is_anonymous
    assert PartiumOIDCBackend().get_user(user.pk) is None
    assert async_to_sync(PartiumOIDCBackend().aget_user)(user.pk) is None


def test_hooks_may_be_called_outside_of_a_login(db: None) -> None:
    backend = PartiumOIDCBackend()
    assert backend.filter_users_by_claims({"email": "bob@example.com"}).count() == 0
    assert backend.get_username({"email": "bob@example.com"})


def test_nothing_that_holds_a_secret_shows_it(op: BendableProvider) -> None:
    assert CLIENT_SECRET not in repr(providers.get("default"))
    assert "a password" not in repr(TypedPassword("bob", "a password"))
    assert "a password" not in repr(copy.copy(TypedPassword("bob", "a password")))


def test_a_bearer_from_elsewhere_is_not_taken_for_a_login(db: None) -> None:
    with pytest.raises(ImproperlyConfigured, match="OIDC_DRF_AUTH_BACKEND"):
        PartiumOIDCBackend().get_or_create_user("token", None, None)
