"""What the doctor says of a provider before anybody logs in there, after logins, and with ``--probe``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path
from pytest_django import Settings

from partium_auth.management import doctor
from partium_auth.models import Grant, IdentityProvider
from partium_auth.services.provider_check import Finding
from tests.oidc.conftest import Browser, add_provider, op, provider_server  # noqa: F401
from tests.oidc.provider import Answer, BendableProvider, jwk

FIXTURES = sorted((Path(__file__).parent / "oidc" / "fixtures" / "discovery").glob("*.json"))
urlpatterns = i18n_patterns(path("partium/", include("partium_auth.urls")))


def examine(slug: str = "default", *, probe: bool = False) -> list[Finding]:
    return [finding for finding in doctor.examine(probe=probe) if finding.subject == f"provider {slug}"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_what_discovery_requires_is_compared_with_what_the_app_does(
    path: Path,
    op: BendableProvider,  # noqa: F811
    settings: Settings,
) -> None:
    fixture: dict[str, Any] = json.loads(path.read_text())
    op.metadata = fixture["metadata"]
    op.jwks = [jwk(name) for name in fixture.get("keys", ["RS256"])]
    for name, value in fixture.get("settings", {}).items():
        setattr(settings, name, value)
    slug = "default"
    if fixture.get("row_without_secret"):
        slug = add_provider(op, "without-secret").slug
        IdentityProvider.objects.update(client_secret=None)
    findings = examine(slug)
    if fixture["level"]:
        assert [f.level for f in findings if fixture["text"] in f.text] == [fixture["level"]]
    else:
        assert [f.text for f in findings if f.level != "ok"] == []


@pytest.mark.django_db
def test_the_urls_to_register_are_named_in_full(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    settings.ALLOWED_HOSTS = ["parts.example.com"]
    text = " ".join(f.text for f in examine())
    assert "https://parts.example.com/partium/callback/default/" in text
    assert "https://parts.example.com/partium/backchannel-logout/default/" in text


@pytest.mark.django_db
@pytest.mark.urls("tests.test_provider_check")
def test_one_redirect_uri_per_language_is_a_warning(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    settings.LANGUAGES = [("en", "English"), ("de", "German")]
    assert [f.level for f in examine() if "/de/partium/callback/default/, " in f.text] == ["warning"]


@pytest.mark.parametrize(
    ("scopes", "metadata", "advice"),
    [
        ("openid", {"scopes_supported": ["openid", "offline_access"]}, "Add offline_access"),
        ("openid offline_access", {"scopes_supported": ["openid", "offline_access"]}, '"prompt": "consent"'),
        ("openid", {}, "grant type refresh_token"),
    ],
)
def test_logins_without_a_refresh_token_are_a_warning_that_says_what_to_do(
    browser: Browser,
    op: BendableProvider,  # noqa: F811
    settings: Settings,
    scopes: str,
    metadata: dict[str, Any],
    advice: str,
) -> None:
    op.metadata = metadata
    settings.OIDC_RP_SCOPES = scopes
    assert not [f for f in examine() if "refresh token:" in f.text]
    browser.log_in()
    assert not [f for f in examine() if "refresh token:" in f.text]
    Grant.objects.update(refresh_token=None)
    (finding,) = [f for f in examine() if "refresh token:" in f.text]
    assert finding.level == "warning"
    assert advice in finding.advice


@pytest.fixture
def browser(op: BendableProvider, db: None) -> Browser:  # noqa: F811
    return Browser(op)


@pytest.mark.django_db
def test_a_probe_tells_a_wrong_secret_client_and_redirect_uri(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    back = "https://testserver/partium/callback/default/"
    settings.ALLOWED_HOSTS = ["testserver"]

    def seen() -> list[str]:
        return [f.level for f in examine(probe=True)[-2:]]

    op.answers["/authorize"] = Answer(302)
    op.response_headers["/authorize"] = {"Location": f"{back}?error=login_required&state=x"}
    assert seen() == ["ok", "ok"]
    op.response_headers["/authorize"] = {"Location": f"{back}?error=invalid_scope&state=x"}
    assert seen() == ["ok", "error"]
    op.answers["/authorize"] = Answer(400, {"error": "invalid_redirect_uri"})
    op.response_headers.clear()
    settings.OIDC_RP_CLIENT_SECRET = "wrong"
    assert seen() == ["error", "error"]
    op.calls.clear()
    examine()
    assert "/token" not in op.calls
