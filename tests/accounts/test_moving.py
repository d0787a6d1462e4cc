"""What a site that moves from mozilla-django-oidc is told by ``check``, and what its hooks still find."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError, connection
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from pytest_django import Settings

from partium_auth.backends import PartiumOIDCBackend
from partium_auth.checks import UNCALLED_METHODS, UNREAD_SETTINGS
from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider

pytestmark = pytest.mark.django_db  # Django's own checks ask the database since 6.0
CALLED = {
    *(
        "verify_claims",
        "filter_users_by_claims",
        "create_user",
        "update_user",
        "get_username",
        "authenticate",
        "get_user",
    ),
    "get_settings",  # for the site's own use
}


def found(number: str) -> list[CheckMessage]:
    return [message for message in run_checks() if message.id == f"partium_auth.{number}"]


class Mixin:
    def get_userinfo(self, *args: Any) -> Any:
        raise AssertionError("called")


class Overriding(Mixin, PartiumOIDCBackend):
    def verify_token(self, token: str, **kwargs: Any) -> Any:
        raise AssertionError("called")


class Refusing(PartiumOIDCBackend):
    raises: type[Exception] = PermissionDenied

    def create_user(self, claims: Any) -> Any:
        raise self.raises("private words")


class RefusingSuspicious(Refusing):
    raises = SuspiciousOperation


class ReadingAttributes(PartiumOIDCBackend):
    def get_username(self, claims: Any) -> str:
        return f"{self.OIDC_RP_CLIENT_ID}-{self.OIDC_OP_JWKS_ENDPOINT}-{claims['sub']}".replace(" ", "")


def test_every_method_of_the_base_library_is_called_or_refused_at_check() -> None:
    base = {name for name in vars(OIDCAuthenticationBackend) if not name.startswith("__")}
    assert base == CALLED | set(UNCALLED_METHODS)


def test_an_overridden_method_that_nothing_calls_is_an_error(settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Overriding"]
    texts = [message.msg for message in found("E025")]
    assert [text.split(" overrides ")[1] for text in texts] == [
        "get_userinfo(), which is no longer called.",
        "verify_token(), which is no longer called.",
    ]
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Refusing", "django.contrib.auth.backends.ModelBackend"]
    assert found("E025") == []


@pytest.mark.parametrize("name", UNREAD_SETTINGS)
def test_a_setting_that_is_not_read_is_an_error_unless_it_says_what_happens_anyway(
    name: str, settings: Settings
) -> None:
    anyway, _ = UNREAD_SETTINGS[name]
    settings.AUTHENTICATION_BACKENDS = ["partium_auth.backends.PartiumOIDCBackend"]
    setattr(settings, name, anyway)
    assert found("E026") == []
    setattr(settings, name, (not anyway) if isinstance(anyway, bool) else "something else")
    assert [message.msg for message in found("E026")] == [f"{name} is set, and has no effect."]
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    assert found("E026") == []


@pytest.mark.parametrize("backend", [Refusing, RefusingSuspicious])
def test_a_hook_that_raises_a_refusal_refuses_with_its_name(
    browser: Browser, settings: Settings, caplog: pytest.LogCaptureFixture, backend: type[Refusing]
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.{backend.__name__}"]
    response = browser.log_in()
    assert response.status_code == 403
    assert "You may not log in here" in response.content.decode()
    assert "check=claims" in caplog.text
    assert f"create_user() raised {backend.raises.__name__}." in caplog.text
    assert "private words" not in caplog.text


def test_hooks_find_the_attributes_of_the_base_library(browser: Browser, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.ReadingAttributes"]
    browser.log_in()
    assert browser.user is not None
    assert browser.user.username == "theclient-None-ann-1"


def test_two_people_without_an_address_get_in_where_addresses_are_unique(
    op: BendableProvider, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "mysql":
        pytest.skip("CREATE INDEX commits there, and the index would stay")
    monkeypatch.setitem(vars(User._meta.get_field("email")), "unique", True)  # Django caches it
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE UNIQUE INDEX one_address ON {User._meta.db_table} (email)")
    for sub in ("one", "two"):
        browser = Browser(op)
        assert browser.log_in(claims={"sub": sub, "email": None}).status_code == 302
        assert browser.user is not None
        assert browser.user.email.endswith("@users.invalid")


def test_a_value_that_the_database_cannot_store_is_a_refusal(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """MariaDB whose tables are utf8mb3 says 1366 of an emoji."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError(1366, "Incorrect string value: private words")

    monkeypatch.setattr(User, "save", fail)
    assert browser.log_in().status_code == 503
    assert "check=storage" in caplog.text
    assert "private words" not in caplog.text
