"""Logins, and refused logins of known people, are events; strangers cannot fill the table."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from partium_auth.models import AuditEvent, Organization
from partium_auth.services import audit, erase_person
from partium_auth.testing.sandbox import PartiumSandbox
from tests.oidc.conftest import Browser, add_provider
from tests.oidc.provider import BendableProvider

PASSWORD = "correct horse"
HERE = "192.0.2.1"


def post(password: str, username: str = "ann", address: str = HERE) -> Any:
    return Client(REMOTE_ADDR=address).post("/partium/login/", {"username": username, "password": password})


def events() -> list[tuple[str, str, str, str | None, str]]:
    """Return what, who, detail, from where and in which organization, of logins; the oldest first."""
    rows = AuditEvent.objects.filter(action__in=("login", "login_refused")).order_by("pk")
    return [
        (row.action, row.actor_name, row.detail, row.address, row.organization.org_id if row.organization else "")
        for row in rows
    ]


@pytest.fixture
def ann(partium_sandbox: PartiumSandbox, db: None, settings: Settings) -> Any:
    """A person who has logged in once with a Partium password."""
    partium_sandbox.add_user("ann", PASSWORD, "acme")
    settings.PARTIUM_PASSWORD_ATTEMPTS = 0
    post(PASSWORD)
    return get_user_model().objects.get()


def test_a_login_at_a_provider_is_an_event_in_the_organization_that_it_opens(
    browser: Browser, acme: Organization, globex: Organization
) -> None:
    browser.log_in(claims={"organizations": ["globex"]})
    user = browser.user
    assert user is not None
    assert events() == [("login", user.username, "Identity provider default.", "127.0.0.1", "globex")]


def test_a_login_with_a_password_is_an_event(ann: Any) -> None:
    assert events() == [("login", "ann", "Partium user name and password.", HERE, "")]


def test_a_login_costs_one_insert(browser: Browser, acme: Organization) -> None:
    browser.log_in(claims={"organizations": ["acme"]})
    answer = browser.op.authorize(browser.start(), organizations=["acme"])
    with CaptureQueriesContext(connection) as captured:
        browser.come_back(answer)
    table = AuditEvent._meta.db_table
    assert [query["sql"].split()[0] for query in captured.captured_queries if table in query["sql"]] == ["INSERT"]


def test_refused_logins_of_a_known_person_are_events_with_the_reason(ann: Any, settings: Settings) -> None:
    post("wrong", address="192.0.2.2")
    get_user_model().objects.update(is_active=False)
    post(PASSWORD)
    settings.PARTIUM_PASSWORD_ATTEMPTS = 1
    post("wrong")
    post("wrong")
    assert events()[1:] == [
        ("login_refused", "ann", f"Partium user name and password. Check: {check}.", address, "")
        for check, address in (("password", "192.0.2.2"), ("inactive", HERE), ("password", HERE), ("throttled", HERE))
    ]


def test_a_refusal_at_an_organizations_provider_is_seen_by_the_organization(
    op: BendableProvider, acme: Organization, db: None
) -> None:
    add_provider(op, "acme-own", organization=acme)
    browser = Browser(op)
    browser.log_in("acme-own")
    user = browser.user
    assert user is not None
    get_user_model().objects.update(is_active=False)
    Browser(op).log_in("acme-own")
    expected = "Identity provider acme-own. Check: inactive."
    assert events()[1:] == [("login_refused", user.username, expected, "127.0.0.1", "acme")]
    AuditEvent.objects.get(action="login_refused", detail_parameters={"check": "inactive", "provider": "acme-own"})


def test_privileges_that_roles_give_and_take_are_events(browser: Browser, settings: Settings) -> None:
    settings.PARTIUM_SUPERUSER_ROLES = ["admins"]
    for roles in (["admins"], ["admins"], []):
        browser.log_in(claims={"roles": roles})
    changed = AuditEvent.objects.filter(action="privileges_changed").order_by("pk")
    assert [event.detail for event in changed] == [
        "Changed: is_superuser: no → yes.",
        "Changed: is_superuser: yes → no.",
    ]
    user = browser.user
    assert user is not None
    assert {(event.person_id, event.person_name) for event in changed} == {(str(user.pk), user.username)}
    erase_person(user, actor=None)
    assert not AuditEvent.objects.exclude(person_name="").exists()


def test_strangers_add_no_event(browser: Browser, partium_sandbox: PartiumSandbox, settings: Settings) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = 0
    settings.OIDC_CREATE_USER = False
    for n in range(3):
        post("wrong", username=f"stranger-{n}")
        browser.come_back({"state": "made-up", "code": "made-up"})
        browser.log_in(claims={"sub": f"stranger-{n}"})
    assert not AuditEvent.objects.exists()


def test_of_many_refusals_of_one_person_ten_an_hour_are_events(ann: Any) -> None:
    for n in range(13):
        post("wrong", address=f"192.0.2.{n}")
    refused = AuditEvent.objects.filter(action="login_refused")
    assert refused.count() == 10
    audit._changeable().filter(action="login_refused").update(at=timezone.now() - dt.timedelta(hours=1, seconds=1))
    post("wrong")
    assert refused.count() == 11


def test_the_login_events_of_a_person_are_forgotten(ann: Any) -> None:
    post("wrong")
    erase_person(ann, actor=None)
    assert [(name, address) for _action, name, _detail, address, _org in events()] == [("", None)] * 2
