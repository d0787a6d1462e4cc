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
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection, connections, models, transaction
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

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
    "upsert by position": lambda event: AuditEvent.objects.bulk_create([event], None, False, True, ["address"], ["id"]),
    "delete of all": lambda _: AuditEvent.objects.all().delete(),
    "through the organization": lambda event: Organization.objects.get().events.all().delete(),
    "move to another organization": lambda event: Organization.objects.get().events.add(event, bulk=True),
    "take from the organization": lambda event: Organization.objects.get().events.clear(),
    "asave": lambda event: async_to_sync(event.asave)(),
    "adelete": lambda event: async_to_sync(event.adelete)(),
    "aupdate": lambda _: async_to_sync(AuditEvent.objects.all().aupdate)(address=None),
    "abulk_update": lambda event: async_to_sync(AuditEvent.objects.all().abulk_update)([event], ["address"]),
    "adelete of all": lambda _: async_to_sync(AuditEvent.objects.all().adelete)(),
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
    found = AuditEvent.objects.get(action=CHANGED)
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
    of_organization = AuditEvent.objects.create(action="organization_changed", organization=acme)
    assert set(policy.visible_events(developer)) == {of_key, of_organization}
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    assert set(policy.visible_events(developer)) == {of_key, of_organization, of_people}
    assert not policy.visible_events(member).exists()
    assert set(policy.visible_events(root)) == {of_key, of_organization, of_people, of_others, of_site}
    Membership.objects.filter(user=developer).delete()
    assert not policy.visible_events(developer).exists()


def test_a_role_and_its_origin_are_shown_in_words(acme: Organization) -> None:
    event = audit.record(
        AuditEvent.Action.ROLE_CHANGED,
        actor=None,
        address=None,
        organization=acme,
        detail=EventDetail.ROLE_CHANGED,
        parameters={"role": "developer", "role_before": "member", "origin": "claims"},
    )
    assert event.detail == "Role: developer, before: member, given by login."
    with translation.override("de"):
        assert "Entwickler" in event.get_detail_display()


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


def test_many_old_events_are_deleted_in_short_transactions_each_of_which_records_it(
    acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "EVENTS_AT_ONCE", 2)
    invitation(acme, "bob@example.com", ends_in_days=-31)
    for _ in range(5):
        aged(audit.record(CHANGED, actor=None, address=None, organization=acme), 31)
    with CaptureQueriesContext(connection) as captured:
        assert clear_events("--older-than", "30").startswith("Deleted 5 events, erased the addresses of 1 ended")
    statements = [query["sql"].split()[0] for query in captured.captured_queries]
    assert (statements.count("DELETE"), statements.count("UPDATE")) == (3, 1)
    assert [event.detail_parameters["events"] for event in AuditEvent.objects.order_by("pk")] == [2, 2, 1]


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


def erase_person(name: str) -> str:
    output = io.StringIO()
    call_command("partium_erase_person", name, stdout=output)
    return output.getvalue()


def names(event: AuditEvent) -> tuple[str, str | None, str]:
    event.refresh_from_db()
    return event.actor_name, event.address, event.person_name


WAYS_TO_ERASE: dict[str, Callable[[Any], Any]] = {
    "service": lambda person: erasure.erase_person(person, actor=None),
    "command": lambda person: erase_person(person.username),
    "delete": lambda person: person.delete(),
    "delete of a query set": lambda person: get_user_model().objects.filter(pk=person.pk).delete(),
}


@pytest.mark.parametrize("way", WAYS_TO_ERASE)
def test_events_and_ended_invitations_forget_a_person(way: str, acme: Organization, person: Callable[..., Any]) -> None:
    ann, bob = person("ann"), person("bob")
    ann_id, bob_id = str(ann.pk), str(bob.pk)
    by_ann = audit.record(CHANGED, actor=ann, address="192.0.2.7", organization=acme, person=bob)
    about_ann = audit.record(CHANGED, actor=bob, address="192.0.2.8", organization=acme, person=ann)
    about_address = audit.record(
        CHANGED, actor=bob, address="192.0.2.8", organization=acme, person_name="ann@example.com"
    )
    ended = (
        invitation(acme, "ann@example.com", ends_in_days=-1),
        invitation(acme, "a.other@example.com", ends_in_days=1, accepted_at=timezone.now(), accepted_by=ann),
    )
    of_bob = invitation(acme, "bob@example.com", ends_in_days=-1)
    WAYS_TO_ERASE[way](ann)
    assert names(by_ann) == ("", None, "bob")
    assert (by_ann.actor_id, by_ann.person_id) == (ann_id, bob_id)
    assert names(about_ann) == ("bob", "192.0.2.8", "")
    assert about_ann.person_id == ann_id
    assert names(about_address) == ("bob", "192.0.2.8", "")
    for row in ended:
        row.refresh_from_db()
        assert (row.email, row.name) == ("", "")
    of_bob.refresh_from_db()
    assert (of_bob.email, of_bob.name) == ("bob@example.com", "bob@example.com")
    erased = AuditEvent.objects.get(action="person_erased")
    assert (erased.person_id, names(erased)) == (ann_id, ("", None, ""))


def test_an_account_of_a_proxy_model_is_forgotten_when_it_is_deleted(
    acme: Organization, person: Callable[..., Any]
) -> None:
    class Colleague(get_user_model()):  # type: ignore[misc]
        class Meta:
            proxy = True
            app_label = "auth"

    try:
        erasure.connect_signals()  # as ready() does once all models are there
        by_ann = audit.record(CHANGED, actor=person("ann"), address="192.0.2.7", organization=acme)
        Colleague.objects.get(username="ann").delete()
    finally:
        del apps.all_models["auth"]["colleague"]
        apps.clear_cache()
    assert names(by_ann) == ("", None, "")


def test_an_open_invitation_outlives_an_account_with_its_address(
    acme: Organization, person: Callable[..., Any]
) -> None:
    is_open = invitation(acme, "ann@example.com", ends_in_days=1)
    person("ann").delete()
    is_open.refresh_from_db()
    assert is_open.email == "ann@example.com"


def test_an_erasure_that_finds_nothing_records_nothing(event: AuditEvent, person: Callable[..., Any]) -> None:
    ann = person("ann")
    assert erasure.erase_person(ann, actor=None) == 0
    ann.delete()
    assert AuditEvent.objects.get() == event


def test_a_person_is_erased_once_and_not_named_by_the_event_that_says_so(
    acme: Organization, person: Callable[..., Any]
) -> None:
    root, ann = person("root", is_superuser=True), person("ann")
    audit.record(CHANGED, actor=ann, address="192.0.2.7", organization=acme)
    audit.record(CHANGED, actor=root, address="192.0.2.7", organization=acme)
    for somebody in (ann, ann, root, root):
        erasure.erase_person(somebody, actor=root)
    of_root, of_ann = AuditEvent.objects.filter(action="person_erased")
    assert (of_ann.actor_id, of_ann.person_id, of_ann.person_name) == (str(root.pk), str(ann.pk), "")
    assert (of_root.person_id, names(of_root)) == (str(root.pk), ("", None, ""))
    assert not AuditEvent.objects.exclude(actor_name="", person_name="", address=None).exists()


def test_people_are_erased_by_operators_only(acme: Organization, person: Callable[..., Any]) -> None:
    developer = person("dev", acme)
    with pytest.raises(PermissionDenied):
        erasure.erase_person(person("ann"), actor=developer)


def test_the_command_says_what_it_erased(acme: Organization, person: Callable[..., Any]) -> None:
    audit.record(CHANGED, actor=person("ann"), address="192.0.2.7", organization=acme)
    assert erase_person("ann") == "Erased the names and addresses of this person in 1 event or invitation.\n"
    assert erase_person("ann") == "Erased the names and addresses of this person in 0 events or invitations.\n"
    with pytest.raises(CommandError, match="no such person"):
        erase_person("nobody")
