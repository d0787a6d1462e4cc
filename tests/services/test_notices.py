"""Notices for developers: one signal, and e-mail where the site sets it; once per change, never in the way."""

from __future__ import annotations

import datetime as dt
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django import VERSION
from django.core import mail
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from partium_auth import signals
from partium_auth.models import ApiKey, AuditEvent, Identity, Organization, Role
from partium_auth.services import key_usage, keys, members, organizations

Person = Callable[..., Any]
# Django 6 takes plain addresses and deprecates the pairs that Django 5.2 requires.
OPERATORS: list[Any] = ["operators@example.com"] if VERSION >= (6, 0) else [("Operators", "operators@example.com")]
SECRET = "value-000000000000000"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def by_email(settings: Settings) -> None:
    settings.PARTIUM_NOTICES_BY_EMAIL = True
    settings.PARTIUM_EXECUTOR = "inline"
    settings.ADMINS = OPERATORS


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    """The notices: kind and organization."""
    found: list[tuple[str, str]] = []

    def receiver(kind: str, organization: Organization | None, **_kwargs: Any) -> None:
        found.append((kind, organization.org_id if organization else ""))

    signals.notice.connect(receiver)
    yield found
    signals.notice.disconnect(receiver)


@pytest.fixture
def dev(acme: Organization, person: Person) -> Any:
    """A developer who has logged in through this app."""
    user = person("dev", acme)
    Identity.objects.create(issuer="https://login.example.com", subject="dev", digest="dev", user=user)
    return user


def add_key(organization: Organization, value: str = SECRET, **more: Any) -> ApiKey:
    return keys.add_key(organization, value, label="web shop", actor=None, verify=False, **more)


def notices(*arguments: str) -> str:
    output = io.StringIO()
    call_command("partium_notices", *arguments, stdout=output)
    return output.getvalue()


def test_developers_are_told_of_a_new_key_and_nobody_of_its_value(
    acme: Organization, dev: Any, person: Person, heard: list[Any]
) -> None:
    person("not-logged-in-yet", acme)
    person("member", acme, Role.MEMBER)
    gone = person("gone", acme, is_active=False)
    Identity.objects.create(issuer="https://login.example.com", subject="gone", digest="gone", user=gone)
    key = add_key(acme)
    assert heard == [("key_added", "acme")]
    (sent,) = mail.outbox
    assert (sent.to, sent.bcc) == ([], ["dev@example.com"])
    assert sent.subject == "Acme has a new API key"
    assert f"The system added the API key {key}." in sent.body
    assert SECRET not in f"{sent.subject} {sent.body}"


def test_developers_are_told_of_a_new_developer_and_of_no_other_member(
    acme: Organization, dev: Any, person: Person, heard: list[Any]
) -> None:
    ann = person("ann")
    members.add_member(acme, ann, actor=None)
    assert not heard
    for _ in range(2):
        members.add_member(acme, ann, actor=None, role=Role.DEVELOPER)
    members.add_member(acme, ann, actor=None)
    assert heard == [("developer_added", "acme")]
    assert [message.body.startswith("ann can manage the API keys of Acme") for message in mail.outbox] == [True]


def test_a_failing_key_is_told_of_once_until_it_has_worked_again(
    acme: Organization, dev: Any, heard: list[Any]
) -> None:
    key = add_key(acme)
    for _ in range(3):
        key_usage.record_rejection(key_id=key.pk)
        ApiKey.objects.update(rejected_at=timezone.now() - dt.timedelta(hours=1))
    assert AuditEvent.objects.filter(action="key_rejected").count() == 3
    assert heard == [("key_added", "acme"), ("key_failing", "acme")]
    key_usage.record_exchange(key_id=key.pk, ok=True)
    key_usage.record_rejection(key_id=key.pk)
    assert heard[2:] == [("key_failing", "acme")]
    assert f"Partium rejected the API key {key}" in mail.outbox[-1].body


def test_a_key_that_expires_is_told_of_once_for_each_expiry(
    acme: Organization, globex: Organization, dev: Any, heard: list[Any]
) -> None:
    now = timezone.now()
    key = add_key(acme, expires_at=now + dt.timedelta(days=29))
    add_key(acme, f"{SECRET}1", expires_at=now + dt.timedelta(days=31))
    add_key(globex, f"{SECRET}2", expires_at=now + dt.timedelta(days=3))
    organizations.change_organization(globex, actor=None, is_active=False)
    heard.clear()
    mail.outbox.clear()
    assert notices() == "Notified of 1 API key that will expire soon.\n"
    assert notices() == ""
    assert heard == [("key_expires", "acme")]
    assert f"{key} expires on {now + dt.timedelta(days=29):%Y-%m-%d}." in mail.outbox[0].body
    keys.change_key(key, label=key.label, expires_at=now + dt.timedelta(days=28), actor=None)
    notices()
    assert len(heard) == len(mail.outbox) == 2


def test_operators_and_no_developer_are_told_of_a_duplicate_key(
    acme: Organization, globex: Organization, dev: Any, heard: list[Any]
) -> None:
    add_key(globex)
    mail.outbox.clear()
    add_key(acme)
    assert heard[1:] == [("key_added", "acme"), ("key_duplicate", "")]
    to_developers, to_operators = mail.outbox
    assert to_operators.to == ["operators@example.com"]
    assert "acme, globex" in to_operators.body
    assert "globex" not in to_developers.body.lower()


def test_without_the_setting_there_is_the_signal_only(
    acme: Organization, dev: Any, heard: list[Any], settings: Settings
) -> None:
    settings.PARTIUM_NOTICES_BY_EMAIL = False
    add_key(acme)
    assert heard == [("key_added", "acme")]
    assert not mail.outbox


def test_mail_that_fails_is_one_log_line(
    acme: Organization, dev: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(message: mail.EmailMessage) -> None:
        raise ConnectionRefusedError("smtp.example.com has a secret")

    monkeypatch.setattr(mail.EmailMessage, "send", refuse)
    caplog.set_level(logging.INFO, "partium_auth.notices")
    add_key(acme)
    lines = [record.getMessage() for record in caplog.records if record.name == "partium_auth.notices"]
    assert lines == ["The notice key_added (acme) was not sent by e-mail: ConnectionRefusedError"]


def test_mail_is_sent_in_the_background(acme: Organization, dev: Any, settings: Settings, monkeypatch: Any) -> None:
    settings.PARTIUM_EXECUTOR = "thread"
    later: list[Callable[[], None]] = []
    monkeypatch.setattr("partium_auth.services.notices.run_later", later.append)
    add_key(acme)
    assert not mail.outbox
    later[0]()
    assert len(mail.outbox) == 1
