"""Forty and more mistakes that a site can make, each named by a check or a line of the doctor. ``table.py`` has them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks

from partium_auth import services
from partium_auth.management import doctor
from partium_auth.models import Organization
from partium_auth.testing import log_in
from partium_auth.testing.sandbox import PartiumSandbox
from tests.misconfigured.site import Site
from tests.misconfigured.table import CHECKS, DOCTOR, Row
from tests.oidc.conftest import op, provider_server  # noqa: F401  # fixtures
from tests.oidc.provider import Answer, BendableProvider

pytestmark = pytest.mark.django_db


@pytest.fixture
def site(
    partium_sandbox: PartiumSandbox,
    op: BendableProvider,  # noqa: F811
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """A site about which neither checks nor doctor have anything to say."""
    settings.ROOT_URLCONF = "tests.misconfigured.site"
    settings.ALLOWED_HOSTS = ["parts.example.com", "testserver"]
    op.metadata = {"code_challenge_methods_supported": ["S256"]}
    back = "https://parts.example.com/partium/callback/default/?error=login_required&state=x"
    op.answers["/authorize"], op.response_headers["/authorize"] = Answer(302), {"Location": back}
    settings.LOGIN_URL, settings.LOGIN_REDIRECT_URL = "partium_auth:login", "/home/"
    acme = Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
    key = services.add_key(acme, partium_sandbox.add_key("acme"), label="x", actor=None)
    person = log_in(partium_sandbox, "ann", "acme")
    return Site(settings, partium_sandbox, op, acme, key, person, monkeypatch)


def said_by_checks() -> dict[tuple[str, str], str]:
    """The text of each message, by id, and the advice."""
    messages = run_checks(include_deployment_checks=True, databases=["default"])
    return {
        (message.id.removeprefix("partium_auth."), f"{message.msg} {message.hint}"): message.hint or message.msg
        for message in messages
        if message.id and message.id.startswith("partium_auth.")
    }


def said_by_doctor() -> dict[tuple[str, str], str]:
    """The text of each finding that is not ok, by subject, and the advice."""
    found = doctor.examine(probe=True)
    return {(one.subject, f"{one.text} {one.advice}"): one.advice for one in found if one.level != "ok"}


def test_the_site_works(site: Site) -> None:
    assert {check_id for check_id, _ in said_by_checks()} == {"W020", "W023"}  # what only tests have
    assert said_by_doctor() == {}


@pytest.mark.parametrize("row", CHECKS, ids=lambda row: row.what)
def test_a_check_names_it(site: Site, row: Row) -> None:
    for setting in ("PARTIUM_EXECUTOR", "PARTIUM_API_URL"):
        delattr(site.settings, setting)  # what only tests have
    expect(site, row, said_by_checks)


@pytest.mark.parametrize("row", DOCTOR, ids=lambda row: row.what)
def test_the_doctor_names_it(site: Site, row: Row) -> None:
    expect(site, row, said_by_doctor)


def expect(site: Site, row: Row, said: Any) -> None:
    before = said()
    assert not [text for where, text in before if row.text in text], "The site that works has this line, too."
    row.mistake(site)
    named = {text: advice for (where, text), advice in said().items() if where == row.where and row.text in text}
    assert len(named) == 1, said()
    assert all(named.values()), "It does not say what to do."


def test_there_are_forty() -> None:
    assert len({row.what for row in (*CHECKS, *DOCTOR)}) >= 40
