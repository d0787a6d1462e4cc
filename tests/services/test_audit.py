"""The events: append-only, one insert, told after the commit."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection, connections, models, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from partium_auth import policy, signals
from partium_auth.models import AuditEvent, Invitation, Membership, Organization
from partium_auth.models.audit_events import EventDetail
from partium_auth.services import audit, erasure, keys

CHANGED = AuditEvent.Action.KEY_CHANGED


@pytest.fixture
def event(acme: Organization) -> AuditEvent:
    return audit.record(CHANGED, actor=None, address=None, organization=acme)


WAYS_TO_CHANGE: dict[str, Callable[[AuditEvent], Any]] = {
    "save": lambda event: event.save(),
    "save some fields": lambda event: event.save(update_fields=["address"]),
    "delete": lambda event: event.delete(),
    "update": lambda _: AuditEvent.objects.update(address=None),
    "update of a filter": lambda _: AuditEvent.objects.filter(address=None).update(address=None),
    "update of the base manager": lambda _: AuditEvent._base_manager.update(address=None),
    "bulk_update": lambda event: AuditEvent.objects.bulk_update([event], ["address"]),
    "update_or_create": lambda event: AuditEvent.objects.update_or_create(pk=event.pk, defaults={"address": None}),
    "upsert": lambda event: AuditEvent.objects.bulk_create(
        [event], update_conflicts=True, update_fields=["address"], unique_fields=["id"]
    ),
    "delete of all": lambda _: AuditEvent.objects.all().delete(),
    "through the organization": lambda event: Organization.objects.get().events.all().delete(),
    "move to another organization": lambda event: Organization.objects.get().events.add(event, bulk=True),
    "take from the organization": lambda event: Organization.objects.get().events.clear(),
}


@pytest.mark.parametrize("way", WAYS_TO_CHANGE)
def test_an_event_is_neither_changed_nor_deleted(way: str, event: AuditEvent) -> None:
    before = AuditEvent.objects.values().get()
    with pytest.raises(TypeError, match="append-only"), transaction.atomic():
        WAYS_TO_CHANGE[way](event)
    assert AuditEvent.objects.values().get() == before


def test_an_organization_with_events_is_not_deleted(acme: Organization, event: AuditEvent) -> None:
    with pytest.raises(ProtectedError):
        acme.delete()


def test_the_id_of_a_person_stays_in_events_when_the_account_is_deleted(
    acme: Organization, person: Callable[..., Any]
) -> None:
    ann, bob = person("ann"), person("bob")
    ids = (str(ann.pk), str(bob.pk))
    audit.record(CHANGED, actor=ann, address="192.0.2.7", organization=acme, person=bob)
    ann.delete()
    bob.delete()
    found = AuditEvent.objects.get()
    assert (found.actor_id, found.person_id) == ids


@pytest.mark.django_db(transaction=True)
def test_an_event_is_told_by_signal_and_as_json_after_the_commit(
    acme: Organization, person: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "partium_auth.audit")
    ann, bob = person("ann"), person("bob")
    heard: list[tuple[str, AuditEvent, bool]] = []

    def audit_receiver(event: AuditEvent, **_kwargs: Any) -> None:
        heard.append(("audit", event, connection.in_atomic_block))

    def key_receiver(event: AuditEvent, **_kwargs: Any) -> None:
        heard.append(("key", event, connection.in_atomic_block))

    signals.audit_event.connect(audit_receiver)
    signals.key_event.connect(key_receiver)
    try:
        with transaction.atomic():
            event = audit.record(
                CHANGED,
                actor=ann,
                address="192.0.2.7",
                organization=acme,
                person=bob,
                person_name="bob@example.com",
                detail=EventDetail.EXPIRY_CHANGED,
                parameters={"before": "–", "after": "2027-01-01"},
            )
            assert not heard
    finally:
        signals.audit_event.disconnect(audit_receiver)
        signals.key_event.disconnect(key_receiver)
    assert heard == [("audit", event, False), ("key", event, False)]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "partium_auth.audit"]
    assert json.loads(line) == {
        "id": event.pk,
        "at": event.at.isoformat(),
        "action": "key_changed",
        "organization": "acme",
        "actor": str(ann.pk),
        "address": "192.0.2.7",
        "person": str(bob.pk),
        "key": None,
        "detail": "expiry_changed",
        "parameters": {"before": "–", "after": "2027-01-01"},
    }
    assert "\n" not in line


def test_an_event_is_one_insert(acme: Organization, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        audit.record(CHANGED, actor=None, address=None, organization=acme)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks no rows")
@pytest.mark.django_db(transaction=True)
def test_an_event_does_not_wait_for_a_lock_on_the_rows_that_it_names(
    acme: Organization, person: Callable[..., Any]
) -> None:
    ann = person("ann", acme)
    key = keys.add_key(acme, "value-000000000000000", label="x", actor=ann, verify=False)
    recorded = threading.Event()

    def record() -> None:
        try:
            audit.record(CHANGED, actor=ann, address=None, key=key, person=ann)
            recorded.set()
        finally:
            connections.close_all()

    thread = threading.Thread(target=record)
    with transaction.atomic():
        for rows in (Organization.objects.all(), type(key).objects.all(), type(ann).objects.all()):
            list(rows.select_for_update())
        Organization.objects.update(display_name="locked")
        thread.start()
        thread.join(10)
        waited = not recorded.is_set()
    thread.join()
    assert not waited


def test_events_of_people_are_seen_by_those_who_manage_members(
    acme: Organization, globex: Organization, person: Callable[..., Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    developer, member = person("dev", acme), person("member", acme, "member")
    root = person("root", is_superuser=True)
    of_key = audit.record(CHANGED, actor=None, address=None, organization=acme)
    of_people = AuditEvent.objects.create(action="member_added", organization=acme)
    of_others = AuditEvent.objects.create(action="member_added", organization=globex)
    of_site = AuditEvent.objects.create(action="provider_changed")
    assert set(policy.visible_events(developer)) == {of_key}
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    assert set(policy.visible_events(developer)) == {of_key, of_people}
    assert not policy.visible_events(member).exists()
    assert set(policy.visible_events(root)) == {of_key, of_people, of_others, of_site}
    Membership.objects.filter(user=developer).delete()
    assert not policy.visible_events(developer).exists()


def test_a_query_set_of_events_is_the_refusing_one_everywhere() -> None:
    for manager in (AuditEvent.objects, AuditEvent._base_manager, AuditEvent._default_manager):
        with pytest.raises(TypeError):
            manager.filter(pk=1).update(address=None)
        assert isinstance(manager.all(), models.QuerySet)


def aged(event: AuditEvent, days: float) -> AuditEvent:
    """Make an event so many days old."""
    models.QuerySet(AuditEvent).filter(pk=event.pk).update(at=timezone.now() - dt.timedelta(days=days))
    return event


def invitation(organization: Organization, address: str, *, ends_in_days: float, **fields: Any) -> Invitation:
    expires_at = timezone.now() + dt.timedelta(days=ends_in_days)
    return Invitation.objects.create(
        organization=organization, email=address, name=address, expires_at=expires_at, **fields
    )


def clear_events(*arguments: str) -> str:
    output = io.StringIO()
    call_command("partium_clear_events", *arguments, stdout=output)
    return output.getvalue()


def test_old_events_are_deleted_and_an_event_says_so(acme: Organization) -> None:
    old, young = (
        aged(audit.record(CHANGED, actor=None, address=None, organization=acme), days) for days in (30.1, 29.9)
    )
    assert clear_events("--older-than", "30") == "Deleted 1 event, erased the addresses of 0 ended invitations.\n"
    cleared, left = AuditEvent.objects.all()
    assert left == young
    assert not AuditEvent.objects.filter(pk=old.pk)
    assert (cleared.action, cleared.organization, cleared.actor_id) == ("events_cleared", None, "")
    assert cleared.detail == "Older than 30 days. Events deleted: 1. Addresses of ended invitations erased: 0."


def test_the_addresses_of_invitations_that_ended_long_ago_are_erased(
    acme: Organization, person: Callable[..., Any]
) -> None:
    ann, long_ago = person("ann"), timezone.now() - dt.timedelta(days=31)
    expired = invitation(acme, "bob@example.com", ends_in_days=-31)
    accepted = invitation(acme, "ann@example.com", ends_in_days=1, accepted_at=long_ago, accepted_by=ann)
    lately = invitation(acme, "cy@example.com", ends_in_days=-29)
    is_open = invitation(acme, "dee@example.com", ends_in_days=1)
    assert "2 ended invitations" in clear_events("--older-than", "30")
    for row in (expired, accepted):
        row.refresh_from_db()
        assert (row.email, row.name) == ("", "")
        assert str(row) == "– → Acme"
    assert set(Invitation.objects.exclude(email="")) == {lately, is_open}
    assert AuditEvent.objects.get().detail_parameters == {"days": 30, "events": 0, "invitations": 2}


def test_clearing_that_finds_nothing_records_nothing(acme: Organization, event: AuditEvent) -> None:
    clear_events("--older-than", "1")
    assert AuditEvent.objects.get() == event


@pytest.mark.parametrize("arguments", [[], ["--older-than", "0"], ["--older-than", "-3"], ["--older-than", "x"]])
def test_how_old_events_may_get_has_to_be_said(arguments: list[str], event: AuditEvent) -> None:
    with pytest.raises(CommandError, match="older-than"):
        clear_events(*arguments)
    assert AuditEvent.objects.get() == event


def test_events_are_cleared_by_operators_only(acme: Organization, person: Callable[..., Any]) -> None:
    with pytest.raises(PermissionDenied):
        erasure.clear_events(older_than_days=1, actor=person("dev", acme))
