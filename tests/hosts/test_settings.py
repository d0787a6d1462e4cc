"""What the checks and the doctor say of a host that cannot work, or not well."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.urls import set_script_prefix
from pytest_django import Settings

from partium_auth.management import doctor

pytestmark = pytest.mark.django_db  # a check may open the connection, if nothing has before


def found(**options: Any) -> set[str | None]:
    return {message.id for message in run_checks(**options)}


class PartiumElsewhere:
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "people" if model._meta.app_label == "partium_auth" else None

    db_for_write = db_for_read


def test_users_in_another_database_are_found(settings: Settings) -> None:
    assert "partium_auth.E016" not in found()
    settings.DATABASE_ROUTERS = ["tests.hosts.test_settings.PartiumElsewhere"]
    assert "partium_auth.E016" in found()


def test_a_database_that_every_request_keeps_to_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "partium_auth.W014" not in found(databases=["default"])
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert ("partium_auth.W014" in found(databases=["default"])) is (connection.vendor == "sqlite")


@pytest.mark.urls("tests.hosts.base_library_urls")
@pytest.mark.parametrize("prefix", ["/", "/portal/"])
def test_views_of_the_base_library_are_found_below_a_path_too(prefix: str) -> None:
    set_script_prefix(prefix)
    try:
        assert "partium_auth.W010" in found()
    finally:
        set_script_prefix("/")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARTIUM_ENCRYPTION_KEYS", "not a list"),
        ("PARTIUM_ENCRYPTION_KEYS", []),
        ("PARTIUM_API_URL", 7),
        ("PARTIUM_API_URL", "http://elsewhere.example"),
        ("PARTIUM_AUTH_PATH", None),
        ("OIDC_RP_CLIENT_ID", 7),
        ("OIDC_OP_ISSUER", "https://[::1"),
        ("OIDC_RP_SIGN_ALGO", "nonsense"),
        ("OIDC_RP_SIGN_ALGO", 7),
        ("OIDC_RP_SIGN_ALGO", [["RS256"]]),
        ("OIDC_AUTH_REQUEST_EXTRA_PARAMS", "prompt=login"),
        ("OIDC_AUTH_REQUEST_EXTRA_PARAMS", ["prompt"]),
    ],
)
def test_the_doctor_reports_a_wrong_setting_and_goes_on(
    settings: Settings, partium_sandbox: Any, name: str, value: object
) -> None:
    settings.OIDC_RP_CLIENT_ID = "c"
    settings.OIDC_OP_ISSUER = partium_sandbox.url
    setattr(settings, name, value)
    findings = list(doctor.examine())
    assert "error" in {finding.level for finding in findings}
    assert "database" in {finding.subject for finding in findings}


def test_every_check_runs() -> None:
    # What they find of the suite's own settings is not the point: Django 6.1 has an error for mail kept in memory.
    call_command(
        "check", deploy=True, databases=["default"], fail_level="CRITICAL", stdout=StringIO(), stderr=StringIO()
    )
