"""docs/migrating-from-mozilla-django-oidc.md: its blocks run as a site's settings, and its tables name what the code does."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import ERROR, run_checks
from django.urls import include, path
from pytest_django import Settings

from partium_auth.backends import PartiumOIDCBackend
from partium_auth.checks import UNCALLED_METHODS, UNREAD_SETTINGS
from tests.accounts.test_migration import OldBrowser
from tests.demo.processes import ROOT
from tests.oidc.conftest import name_endpoints, op, provider_server  # noqa: F401  # fixtures
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, BendableProvider

pytestmark = pytest.mark.django_db
GUIDE = (ROOT / "docs" / "migrating-from-mozilla-django-oidc.md").read_text()


def block(containing: str, **names: Any) -> ModuleType:
    """Run the guide's block with these words; return it as a module that settings can name."""
    (source,) = (
        text for text in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) if containing in text
    )
    module = ModuleType("block_of_the_guide")
    vars(module).update(names)
    exec(compile(source, "guide", "exec"), vars(module))  # our own page
    return module


def section(title: str) -> str:
    return GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture
def moved(op: BendableProvider, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> BendableProvider:  # noqa: F811
    """A site with the base library's settings, and then with the guide's changes."""
    apps = [app for app in settings.INSTALLED_APPS if app != "partium_auth"]
    middleware = [name for name in settings.MIDDLEWARE if not name.startswith("partium_auth.")]
    names = {"INSTALLED_APPS": apps, "MIDDLEWARE": middleware, "path": path, "include": include}
    guide = block("legacy_urls", **names)
    monkeypatch.setitem(sys.modules, guide.__name__, guide)
    assert guide.INSTALLED_APPS == settings.INSTALLED_APPS
    assert re.fullmatch(r"https://\S+", guide.OIDC_OP_ISSUER)
    settings.MIDDLEWARE = guide.MIDDLEWARE
    settings.AUTHENTICATION_BACKENDS = guide.AUTHENTICATION_BACKENDS
    settings.ROOT_URLCONF = guide.__name__
    settings.LOGIN_URL = "/oidc/login/"
    settings.OIDC_OP_ISSUER = op.url
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    name_endpoints(op, settings)
    settings.OIDC_RP_SIGN_ALGO = "RS256"
    return op


def test_the_settings_of_the_guide_log_people_in_where_they_did_before(moved: BendableProvider) -> None:
    assert [str(message) for message in run_checks() if message.level >= ERROR] == []
    browser = OldBrowser(moved)
    assert browser.log_in().status_code == 302
    assert browser.user is not None


def test_the_backend_of_the_guide_finds_accounts_by_their_address(moved: BendableProvider, settings: Settings) -> None:
    old = User.objects.create_user("old", "ANN@example.com")
    browser = OldBrowser(moved)
    assert browser.log_in().status_code == 403  # as the guide says
    backend: type[PartiumOIDCBackend] = block("class Backend", PartiumOIDCBackend=PartiumOIDCBackend).Backend
    guide = sys.modules["block_of_the_guide"]
    guide.Backend = backend  # type: ignore[attr-defined]
    settings.AUTHENTICATION_BACKENDS = [f"{guide.__name__}.Backend"]
    assert browser.log_in().status_code == 302
    assert browser.user == old


def test_the_tables_of_the_guide_name_every_setting_and_method_that_check_refuses() -> None:
    changes = section("What changes")
    rows = re.findall(r"^\| (`[A-Z].*?) \|", changes, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)} == set(UNREAD_SETTINGS)
    methods = changes.partition("partium_auth.E025")[2].partition("If you overrode")[0]
    assert set(re.findall(r"`(\w+)`", methods)) == set(UNCALLED_METHODS)


def test_every_setting_that_stays_is_read_somewhere() -> None:
    names = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", section("What stays")))
    assert len(names) > 20
    source = "".join(file.read_text() for file in (ROOT / "partium_auth").rglob("*.py"))
    assert {name for name in names if name not in source} == set()


def test_hooks_that_stay_are_those_of_the_backend() -> None:
    (row,) = re.findall(r"^\| hooks \| (.*) \|$", GUIDE, re.MULTILINE)
    hooks = re.findall(r"`(\w+)`", row)
    assert {name for name in hooks if name not in vars(PartiumOIDCBackend)} == set()
