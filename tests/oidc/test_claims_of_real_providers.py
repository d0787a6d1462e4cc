"""Claims as real providers send them (``fixtures/claims``): which memberships they give, keep and withdraw."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from partium_auth.models import Membership, Organization
from tests.oidc.conftest import Browser
from tests.oidc.provider import Answer, BendableProvider

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "claims").glob("*.json"))


def memberships() -> dict[str, str]:
    return dict(Membership.objects.values_list("organization__org_id", "role"))


@pytest.fixture
def organizations(db: None) -> None:
    for org_id in ("acme", "globex"):
        Organization.objects.create(org_id=org_id, display_name=org_id.title())


@pytest.mark.usefixtures("organizations")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_claims_of_a_real_provider(
    path: Path, op: BendableProvider, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    fixture: dict[str, Any] = json.loads(path.read_text())
    if before := fixture.get("before"):
        roles = [f"{org_id}:developer" for org_id, role in before.items() if role == "developer"]
        Browser(op).log_in(claims={"organizations": list(before), "roles": roles})
        assert memberships() == before
    for name, value in fixture["settings"].items():
        setattr(settings, name, f"{op.url}/userinfo" if name == "OIDC_OP_USER_ENDPOINT" else value)
    op.claims = {"sub": "ann-1", **fixture["id_token"]}
    # Where a fixture has no userinfo, nothing asks for it, or it says what the ID token does.
    op.userinfo_claims = fixture.get("userinfo", {})
    if status := fixture.get("userinfo_status"):
        op.answers["/userinfo"] = Answer(status, {"error": "private words"})
    caplog.set_level(logging.INFO, "partium_auth.login")
    response = Browser(op).log_in()
    assert response.status_code == 302, caplog.text
    assert memberships() == fixture["memberships"]
    assert fixture.get("log", "") in caplog.text
    assert "private words" not in caplog.text


@pytest.mark.usefixtures("organizations")
@pytest.mark.parametrize(
    "path", [p for p in FIXTURES if "email_verified" in json.loads(p.read_text())], ids=lambda p: p.stem
)
def test_an_address_is_verified_only_where_the_provider_says_so(
    path: Path, op: BendableProvider, settings: Settings
) -> None:
    fixture: dict[str, Any] = json.loads(path.read_text())
    for name, value in fixture["settings"].items():
        setattr(settings, name, f"{op.url}/userinfo" if name == "OIDC_OP_USER_ENDPOINT" else value)
    op.claims, op.userinfo_claims = {"sub": "ann-1", **fixture["id_token"]}, fixture.get("userinfo", {})
    browser = Browser(op)
    browser.log_in()
    assert browser.user is not None
    is_username = "@" in browser.user.get_username()
    assert is_username is fixture["email_verified"]


def refuse_everybody(claims: Any, provider: Any) -> Any:
    from django.core.exceptions import PermissionDenied

    raise PermissionDenied("private words")


def test_a_function_that_does_not_exist_is_a_page_and_a_log_line(
    browser: Browser, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PARTIUM_CLAIMS = "site.claims.no_such_function"
    assert browser.log_in().status_code == 503
    assert "PARTIUM_CLAIMS must be the path of a function" in caplog.text


def test_a_function_that_refuses_a_person_is_a_refusal_with_its_name(
    browser: Browser, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PARTIUM_CLAIMS = f"{__name__}.refuse_everybody"
    assert browser.log_in().status_code == 403
    assert "check=claims" in caplog.text
    assert "refuse_everybody() raised PermissionDenied" in caplog.text
    assert "private words" not in caplog.text
