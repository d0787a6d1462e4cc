"""The example project's pages under Django's test client, with a Partium sandbox behind them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environ
import pytest
from django.test import Client
from pytest_django import Settings

from partium_auth.models import Membership, Organization, Role
from partium_auth.testing.people import PartiumUser, log_in
from partium_auth.testing.sandbox import PartiumSandbox

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"
LoadSettings = Callable[..., dict[str, Any]]


@pytest.fixture
def load_settings(monkeypatch: pytest.MonkeyPatch) -> LoadSettings:
    """``load_settings(DEBUG="1")``: the names of example_project.settings in that environment and no other.

    None takes a variable away that is there otherwise.
    """

    def load(**variables: str | None) -> dict[str, Any]:
        given = {"DJANGO_ENV_FILE": "/nonexistent", "DJANGO_SECRET_KEY": "x" * 50, **variables}
        monkeypatch.setattr(environ.Env, "ENVIRON", {name: value for name, value in given.items() if value is not None})
        return runpy.run_path(str(EXAMPLE / "settings.py"))

    return load


@pytest.fixture
def site(settings: Settings, load_settings: LoadSettings) -> None:
    """The test settings, with the example project's addresses, middleware and templates."""
    example = load_settings()
    for name in ("MIDDLEWARE", "LOGIN_URL", "LOGIN_REDIRECT_URL", "LOGOUT_REDIRECT_URL"):
        setattr(settings, name, example[name])
    settings.ROOT_URLCONF = "example_project.urls"
    # In place of another app in INSTALLED_APPS, which would run every app's ready() once more.
    settings.TEMPLATES = [{**example["TEMPLATES"][0], "DIRS": [EXAMPLE / "templates"]}]
    settings.PARTIUM_EXECUTOR = "inline"


@pytest.fixture
def ada(site: None, db: None, partium_sandbox: PartiumSandbox) -> PartiumUser:
    """A developer of acme, whose people have access tokens of their own."""
    Organization.objects.create(org_id="acme", display_name="Acme Industrial")
    return log_in(partium_sandbox, "ada", "acme", role=Role.DEVELOPER)


@pytest.fixture
def browser(ada: PartiumUser) -> Client:
    """Ada's browser."""
    return ada.client


@pytest.fixture
def hedy(site: None, db: None, partium_sandbox: PartiumSandbox) -> PartiumUser:
    """A member of globex, whose people share an API key; there is none yet."""
    Organization.objects.create(
        org_id="globex", display_name="Globex Machines", token_source=Organization.TokenSource.API_KEY
    )
    return log_in(partium_sandbox, "hedy", "globex")


def make_developer(person: PartiumUser) -> None:
    """Promote somebody in their organization."""
    Membership.objects.filter(user=person.user).update(role=Role.DEVELOPER)
