"""Each system check finds its mistake, says what to do, and quotes no secret."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from partium_auth import checks
from partium_auth.conf import SETTINGS
from tests.misconfigured.site import WithLibraryUrls, WithoutUrls

pytestmark = pytest.mark.django_db


def ids(*, deploy: bool = False) -> dict[str, str]:
    found = run_checks(include_deployment_checks=deploy, databases=["default"])
    return {m.id: f"{m.msg} {m.hint}" for m in found if m.id and m.id.startswith("partium_auth.")}


def test_the_suites_own_settings_are_clean() -> None:
    assert ids() == {}


@pytest.mark.parametrize("keys", [[], ["nonsense"], "k:AAAA", ["a:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="] * 2])
def test_an_unusable_encryption_key_is_an_error(settings: Settings, keys: Any) -> None:
    settings.PARTIUM_ENCRYPTION_KEYS = keys
    text = ids()["partium_auth.E001"]
    assert text.count("partium_generate_encryption_key") == 1
    assert "AAAA" not in text
    assert "MDEy" not in text


def test_a_missing_encryption_key_setting_is_an_error(settings: Settings) -> None:
    del settings.PARTIUM_ENCRYPTION_KEYS
    assert "partium_auth.E001" in ids()


def test_a_key_that_is_also_the_secret_key_is_a_warning(settings: Settings) -> None:
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    settings.SECRET_KEY = key
    text = ids()["partium_auth.W002"]
    assert key not in text


def test_an_unknown_setting_is_a_warning_with_a_guess(settings: Settings) -> None:
    settings.PARTIUM_API_ULR = "https://api.partium.io"
    assert "Did you mean PARTIUM_API_URL?" in ids()["partium_auth.W003"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARTIUM_TIMEOUT", "ten"),
        ("PARTIUM_TIMEOUT", True),
        ("PARTIUM_TIMEOUT", 0),
        ("PARTIUM_EXECUTOR", "fork"),
        ("PARTIUM_API_URL", None),
        ("PARTIUM_DEVELOPER_ROLES", "developer"),
        ("PARTIUM_LINK_BY_VERIFIED_EMAIL", "no"),
        ("PARTIUM_REAUTHENTICATE_AFTER", 1),
        ("PARTIUM_FRESH_LOGIN_MINUTES", 1),
        ("PARTIUM_FRESH_LOGIN_MINUTES", 7.5),
        ("PARTIUM_FRESH_LOGIN_MINUTES", True),
        ("PARTIUM_PASSWORD_ORGANIZATION", 1),
        ("PARTIUM_LANGUAGE", 1),
        ("PARTIUM_AUTH_PATH", "1/auth"),
        ("PARTIUM_AUTH_PATH", "https://api.partium.io/1/auth"),
        ("PARTIUM_REFRESH_PATH", "auth/refresh"),
        ("PARTIUM_REFRESH_PATH", "//auth/refresh"),
        ("PARTIUM_FIND_SDK_URL", "cdn.example/sdk.js"),
        ("PARTIUM_CLAIMS", "site.claims.no_such_function"),
        ("PARTIUM_CLAIMS", "partium_auth.conf.PREFIX"),
        ("PARTIUM_ASSUMPTIONS", {"page_path": "pages/{session_id}"}),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_setting(
    settings: Settings, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    assert f"Correct {name} in the settings" in ids()["partium_auth.E004"]


@pytest.mark.parametrize("value", [3.5j, b"secret", {"secret": 1}, ["secret", 7]], ids=str)
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "PARTIUM_ENCRYPTION_KEYS"])
def test_every_setting_names_itself_says_what_to_write_and_quotes_nothing(
    settings: Settings, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    text = ids()["partium_auth.E004"]
    assert text.startswith(f"{name} must be ") or (name, type(value)) == ("PARTIUM_ASSUMPTIONS", dict)
    assert len(text.split(" must be ")[-1]) > 15
    assert f"Correct {name}" in text
    assert "secret" not in text or name == "PARTIUM_ASSUMPTIONS"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OIDC_RP_SIGN_ALGO", "RS999"),
        ("OIDC_AUTH_REQUEST_EXTRA_PARAMS", "prompt=login"),
        ("OIDC_OP_ISSUER", 7),
        ("OIDC_RP_SCOPES", ["openid"]),
    ],
)
def test_settings_of_the_provider_name_themselves(settings: Settings, name: str, value: Any) -> None:
    settings.OIDC_RP_CLIENT_ID = "x"
    setattr(settings, name, value)
    assert name in ids()["partium_auth.E004"]


@pytest.mark.parametrize("name", ["LOGIN_URL", "LOGIN_REDIRECT_URL", "LOGOUT_REDIRECT_URL"])
@pytest.mark.parametrize("value", ["partium_auth:home", "nowhere", "accounts/login/", "login.example.com"])
def test_a_target_that_is_neither_a_page_nor_a_path_is_an_error(settings: Settings, name: str, value: str) -> None:
    setattr(settings, name, value)
    text = ids()["partium_auth.E027"]
    assert text.startswith(f"{name} ({value})")
    assert f"Write {name} = " in text


@pytest.mark.parametrize("value", ["/nowhere/", "partium_auth:login", "https://login.example.com/", None])
def test_paths_names_and_addresses_are_targets(settings: Settings, value: str | None) -> None:
    settings.LOGIN_URL, settings.LOGOUT_REDIRECT_URL = value or "/", value
    assert ids() == {}


@pytest.mark.parametrize(
    "url",
    [
        *("http://api.partium.io", "api.partium.io", "ftp://127.0.0.1", "https://", "http://10.0.0.1"),
        *("https://[::1", "https://ann:secret@api.partium.io"),
    ],
)
def test_an_address_that_may_not_be_used_is_an_error(settings: Settings, url: str) -> None:
    settings.PARTIUM_API_URL = url
    assert "partium_auth.E005" in ids(deploy=True)


@pytest.mark.parametrize(
    "url", ["https://api.partium.io/", "http://127.0.0.1:8900", "http://localhost", "http://[::1]:1"]
)
def test_https_and_this_machine_are_fine(settings: Settings, url: str) -> None:
    settings.PARTIUM_API_URL = url
    assert "partium_auth.E005" not in ids()


def test_missing_middleware_is_a_warning(settings: Settings) -> None:
    settings.MIDDLEWARE = [m for m in settings.MIDDLEWARE if "partium" not in m]
    assert "request.partium" in ids()["partium_auth.W006"]


def test_middleware_in_the_wrong_order_is_an_error(settings: Settings) -> None:
    settings.MIDDLEWARE = settings.MIDDLEWARE[-1:] + settings.MIDDLEWARE[:-1]
    assert "partium_auth.E007" in ids()


def test_cookies_that_do_not_come_back_from_a_provider_are_an_error(settings: Settings) -> None:
    settings.SESSION_COOKIE_SAMESITE = "Strict"
    assert "'Lax'" in ids()["partium_auth.E015"]


def test_missing_urls_are_an_error(settings: Settings) -> None:
    settings.ROOT_URLCONF = WithoutUrls
    assert "include" in ids()["partium_auth.E008"]


def test_views_of_the_base_library_that_are_still_routed_are_a_warning(settings: Settings) -> None:
    settings.ROOT_URLCONF = WithLibraryUrls
    assert "legacy_urls" in ids()["partium_auth.W010"]


def test_parts_of_the_base_library_in_the_settings_are_a_warning(settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["mozilla_django_oidc.auth.OIDCAuthenticationBackend"]
    assert "PartiumOIDCBackend" in ids()["partium_auth.W009"]


def test_sqlite_that_begins_by_reading_is_a_warning(settings: Settings) -> None:
    from django.db import connection

    if connection.vendor != "sqlite":
        pytest.skip("about SQLite")
    options = connection.settings_dict["OPTIONS"]
    mode = options.pop("transaction_mode")
    try:
        assert "IMMEDIATE" in ids()["partium_auth.W013"]
    finally:
        options["transaction_mode"] = mode


@pytest.mark.parametrize(
    ("pool", "found"),
    [
        (None, False),
        (False, False),
        (True, True),
        ({}, False),  # Django takes it for no pool
        ({"timeout": 5}, True),
        ({"min_size": 8}, True),
        ({"min_size": 2, "max_size": 8}, True),
        ({"min_size": 9}, False),
        ({"min_size": 2, "max_size": 9}, False),
    ],
)
def test_a_pool_with_too_few_connections_is_a_warning(
    settings: Any, monkeypatch: pytest.MonkeyPatch, pool: Any, found: bool
) -> None:
    from django.db import connection

    settings.PARTIUM_MAX_WAITING = 3
    settings.PARTIUM_REFRESH_THREADS = 4
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", pool)
    messages = list(checks.check_connection_pool(None))
    assert [message.id for message in messages] == ["partium_auth.W024"] * found
    assert all('"max_size": 9' in str(message.hint) for message in messages)


def test_deployment_checks(settings: Any) -> None:
    settings.PARTIUM_EXECUTOR = "inline"
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    settings.OIDC_VERIFY_SSL = False
    settings.PARTIUM_API_URL = "http://127.0.0.1:8900"
    found = ids(deploy=True)
    assert {f"partium_auth.W02{n}" for n in range(4)} <= set(found)


def test_a_provider_whose_backend_is_missing_is_a_warning(settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    assert ids() == {}
    settings.OIDC_RP_CLIENT_ID = "x"
    assert "PartiumOIDCBackend" in ids()["partium_auth.W017"]


@pytest.mark.parametrize("name", ["OIDC_OP_DISCOVERY_ENDPOINT", "OIDC_OP_ISSUER"])
def test_a_provider_without_a_client_id_is_a_warning(settings: Settings, name: str) -> None:
    setattr(settings, name, "https://login.example.com")
    assert "OIDC_RP_CLIENT_ID" in ids()["partium_auth.W018"]
    settings.OIDC_RP_CLIENT_ID = "x"
    assert ids() == {}


@pytest.mark.parametrize("url", ["https://api.partium.io/1", "https://api.partium.io/1/"])
def test_an_api_url_with_the_version_is_an_error(settings: Settings, url: str) -> None:
    settings.PARTIUM_API_URL = url
    assert "without the version" in ids()["partium_auth.E005"]
