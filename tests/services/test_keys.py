"""What happens to keys: real HTTP to the sandbox, real rows."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test import RequestFactory
from django.utils import timezone

import partium_auth
from partium_auth import signals
from partium_auth.exceptions import UnprocessableRequest
from partium_auth.models import ApiKey, ApiKeyUsage, AuditEvent, Grant, Organization
from partium_auth.models.audit_events import KEY_ACTIONS
from partium_auth.policy import SessionActor
from partium_auth.services import key_usage, key_verification, keys, members, organizations
from partium_auth.session import PartiumSession
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from tests.tokens.conftest import eventually

Verification = ApiKey.Verification


def code_of(error: ValidationError, field: str = "value") -> str:
    return str(error.error_dict[field][0].code)


def actions(key: ApiKey) -> list[str]:
    return list(AuditEvent.objects.filter(api_key=key).order_by("id").values_list("action", flat=True))


@pytest.fixture
def key(acme: Organization, partium_sandbox: PartiumSandbox) -> ApiKey:
    return keys.add_key(acme, partium_sandbox.add_key("acme"), label="shop", actor=None)


# -- adding


def test_an_accepted_key_is_stored_sealed_with_hint_and_history(
    acme: Organization, partium_sandbox: PartiumSandbox, person: Callable[..., Any]
) -> None:
    dev, value = person("dev", acme), partium_sandbox.add_key("acme")
    added = keys.add_key(acme, f"  {value}\n", label=" shop ", actor=SessionActor(dev, None, address="192.0.2.7"))
    stored = ApiKey.objects.get(pk=added.pk)
    assert stored.secret.reveal() == value
    assert (stored.label, stored.hint, stored.verification) == ("shop", value[-4:], Verification.ACCEPTED)
    assert stored.verified_at is not None
    assert stored.created_by == dev
    event = AuditEvent.objects.get()
    assert (event.action, event.actor_name, event.address) == ("key_added", "dev", "192.0.2.7")
    assert Grant.objects.filter(api_key=stored).count() == 1


@pytest.mark.django_db(transaction=True)
def test_nobody_is_alerted_of_a_key_that_was_not_kept(acme: Organization, globex: Organization) -> None:
    """Nor before the commit: of two who add the same key at once, neither would see the other's."""
    told: list[Any] = []

    def listener(**kwargs: Any) -> None:
        told.append((kwargs["organizations"], transaction.get_connection().in_atomic_block))

    signals.duplicate_key.connect(listener)
    try:
        for roll_back in (True, False):
            with transaction.atomic():
                for organization in (acme, globex):
                    keys.add_key(organization, "value-00000000000000", label="x", actor=None, verify=False)
                transaction.set_rollback(roll_back)
    finally:
        signals.duplicate_key.disconnect(listener)
    assert told == [(["acme", "globex"], False), (["globex", "acme"], False)]


def test_a_user_name_need_not_be_a_string(
    acme: Organization, person: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``USERNAME_FIELD`` may name a number, or a field whose values are objects, as of django-phonenumber-field."""
    dev = person("dev", acme)
    monkeypatch.setattr(dev, "get_username", lambda: 4711)
    keys.add_key(acme, "value-00000000000000", label="x", actor=dev, verify=False)
    assert AuditEvent.objects.get().actor_name == "4711"


def test_a_rejected_key_is_not_stored_and_the_attempt_is(acme: Organization, person: Callable[..., Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, "not-a-key-at-all-0000", label="x", actor=person("dev", acme))
    assert code_of(caught.value) == "rejected"
    assert not ApiKey.objects.exists()
    event = AuditEvent.objects.get()
    assert (event.action, event.api_key, event.organization) == ("key_refused", None, acme)
    assert "not-a-key" not in event.detail


def test_a_key_made_for_the_catalog_api_is_not_stored_and_is_told_from_another_organizations(
    acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    messages = []
    for value in (partium_sandbox.add_key("acme", permission="catalog"), partium_sandbox.add_key("globex")):
        with pytest.raises(ValidationError) as caught:
            keys.add_key(acme, value, label="shop", actor=None)
        messages.append(caught.value.message_dict["value"][0])
    assert "made for the Catalog API" in messages[0]
    assert "belongs to another one, or it was made for another API" in messages[1]
    assert not ApiKey.objects.exists()


def test_another_organizations_key_is_not_stored(
    acme: Organization, globex: Organization, partium_sandbox: PartiumSandbox
) -> None:
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, partium_sandbox.add_key("globex"), label="x", actor=None)
    assert code_of(caught.value) == "wrong_organization"
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("endpoint", ["auth", "search"])
def test_a_firewalls_page_says_nothing_about_a_key(
    endpoint: Any, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    stored = keys.add_key(acme, partium_sandbox.add_key("acme"), label="in use", actor=None)
    partium_sandbox.fail(endpoint, status=403, body="<html>blocked</html>", headers={"Content-Type": "text/html"})
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, partium_sandbox.add_key("acme"), label="x", actor=None)
    assert code_of(caught.value) == "unreachable"
    assert keys.verify_key(stored, actor=None).verification == Verification.UNVERIFIED
    assert ApiKey.objects.usable().get() == stored  # it serves on


@pytest.mark.parametrize("endpoint", ["auth", "search"])
def test_an_unreachable_partium_stores_nothing_unless_it_is_wanted(
    endpoint: Any, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    value = partium_sandbox.add_key("acme")
    partium_sandbox.fail(endpoint, status=503)
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, value, label="x", actor=None)
    assert code_of(caught.value) == "unreachable"
    added = keys.add_key(acme, value, label="x", actor=None, allow_unverified=True)
    assert added.verification == Verification.UNVERIFIED
    assert added.verified_at is None


def test_without_verification_partium_is_not_asked(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    added = keys.add_key(acme, "whatever-it-is-0000", label="x", actor=None, verify=False)
    assert added.verification == Verification.UNVERIFIED
    assert partium_sandbox.calls() == []


def test_a_verification_gives_up_after_five_seconds(
    acme: Organization, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_verification, "VERIFICATION_SECONDS", 0.3)
    value = partium_sandbox.add_key("acme")
    with partium_sandbox.fail("auth", latency_seconds=30):
        outcome = key_verification.verify_at_partium(acme, value)
    assert outcome.verification == Verification.UNVERIFIED


@pytest.mark.parametrize(
    "value", ["", "  ", "two words", "line\nbreak", "tab\tinside", "nul\0", "ümlaut", "\u202eright-to-left", "x" * 4097]
)
def test_what_cannot_be_a_key_is_refused_without_asking(
    value: str, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, value, label="x", actor=None)
    assert "value" in caught.value.error_dict
    assert partium_sandbox.calls() == []


@pytest.mark.parametrize("label", ["", " ", "x" * 101, "two\nlines", "half \ud800", "key {value}"])
def test_labels_that_cannot_be_shown_are_refused(
    label: str, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    value = partium_sandbox.add_key("acme")
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, value, label=label.format(value=value), actor=None)
    assert list(caught.value.error_dict) == ["label"]
    assert value not in str(caught.value)


def test_an_expiry_in_the_past_is_refused(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    with pytest.raises(ValidationError) as caught:
        keys.add_key(acme, partium_sandbox.add_key("acme"), label="x", actor=None, expires_at=timezone.now())
    assert list(caught.value.error_dict) == ["expires_at"]


def test_the_same_key_twice_in_an_organization_is_refused(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    value = partium_sandbox.add_key("acme")
    keys.add_key(acme, value, label="first", actor=None)
    with pytest.raises(ValidationError, match="first") as caught:
        keys.add_key(acme, value, label="second", actor=None)
    assert code_of(caught.value) == "duplicate"


def test_two_who_add_the_same_key_at_once_get_one_key(
    acme: Organization, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = partium_sandbox.add_key("acme")
    ask = key_verification.verify_at_partium

    def ask_slowly(organization: Organization, asked: str) -> Any:
        monkeypatch.setattr(key_verification, "verify_at_partium", ask)
        keys.add_key(acme, value, label="first", actor=None)  # somebody else, while Partium is asked
        return ask(organization, asked)

    monkeypatch.setattr(key_verification, "verify_at_partium", ask_slowly)
    with pytest.raises(ValidationError, match="first") as caught:
        keys.add_key(acme, value, label="second", actor=None)
    assert code_of(caught.value) == "duplicate"
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_key_in_two_organizations_alerts_and_locks_nobody_out(
    acme: Organization, globex: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    heard = []

    def listener(key_id: uuid.UUID, organizations: list[str], **_kwargs: Any) -> None:
        heard.append((ApiKey.objects.get(pk=key_id).organization, organizations))

    signals.duplicate_key.connect(listener)
    try:
        keys.add_key(acme, "the-same-key-0000000", label="a", actor=None, verify=False)
        keys.add_key(globex, "the-same-key-0000000", label="b", actor=None, verify=False)
    finally:
        signals.duplicate_key.disconnect(listener)
    assert heard == [(globex, ["globex", "acme"])]
    assert "acme" in caplog.text
    assert "the-same-key" not in caplog.text
    assert ApiKey.objects.usable().count() == 2
    assert not any("globex" in event.detail for event in AuditEvent.objects.filter(organization=acme))


@pytest.mark.django_db(transaction=True)
def test_a_key_that_another_organization_has_revoked_alerts_nobody(
    acme: Organization, globex: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    old = keys.add_key(acme, "the-same-key-0000000", label="a", actor=None, verify=False)
    keys.revoke_key(old, actor=None)
    keys.add_key(globex, "the-same-key-0000000", label="b", actor=None, verify=False)
    assert "several organizations" not in caplog.text


def test_a_short_keys_hint_shows_nothing(acme: Organization) -> None:
    assert keys.add_key(acme, "short-key", label="a", actor=None, verify=False).hint == ""


def test_only_those_who_may_change_an_organizations_keys(
    acme: Organization, globex: Organization, key: ApiKey, person: Callable[..., Any]
) -> None:
    stranger = person("dev", globex)
    before = list(AuditEvent.objects.values_list("pk"))
    for attempt in (
        lambda: keys.add_key(acme, "a-key-0000000000000", label="x", actor=stranger, verify=False),
        lambda: keys.rotate_key(key, "a-key-0000000000000", actor=stranger, verify=False),
        lambda: keys.revoke_key(key, actor=stranger),
        lambda: keys.verify_key(key, actor=stranger),
        lambda: keys.change_key(key, label="x", expires_at=None, actor=stranger),
    ):
        with pytest.raises(PermissionDenied):
            attempt()
    assert list(AuditEvent.objects.values_list("pk")) == before
    assert ApiKey.objects.usable().get() == key


# -- rotating


def test_rotation_lets_the_old_key_serve_for_the_overlap(
    acme: Organization, key: ApiKey, partium_sandbox: PartiumSandbox
) -> None:
    before = timezone.now()
    new = keys.rotate_key(key, partium_sandbox.add_key("acme"), actor=None, overlap=dt.timedelta(hours=2))
    old = ApiKey.objects.get(pk=key.pk)
    assert (old.status, new.status, new.replaces, new.label) == ("retiring", "active", old, "shop")
    assert old.retires_at is not None
    assert dt.timedelta(hours=2) <= old.retires_at - before < dt.timedelta(hours=2, minutes=1)
    assert list(ApiKey.objects.usable().in_serving_order()) == [new, old]
    assert list(ApiKey.objects.usable(before + dt.timedelta(hours=3))) == [new]
    assert actions(old) == ["key_added", "key_retired"]
    assert actions(new) == ["key_rotated"]


def test_a_refused_new_key_leaves_the_old_one_alone(key: ApiKey) -> None:
    with pytest.raises(ValidationError):
        keys.rotate_key(key, "not-a-key-0000000000", actor=None)
    assert ApiKey.objects.get().status == "active"


def test_an_unverified_new_key_waits_until_the_old_one_is_gone(key: ApiKey) -> None:
    new = keys.rotate_key(key, "cannot-tell-00000000", actor=None, verify=False, overlap=dt.timedelta(hours=1))
    assert ApiKey.objects.usable().in_serving_order().first() == key
    later = timezone.now() + dt.timedelta(hours=2)
    assert ApiKey.objects.usable(later).in_serving_order().first() == new


def test_a_key_is_rotated_once(key: ApiKey, partium_sandbox: PartiumSandbox) -> None:
    stale = ApiKey.objects.select_related("organization").get(pk=key.pk)  # loaded by somebody else before
    keys.rotate_key(key, partium_sandbox.add_key("acme"), actor=None)
    for again in (key, stale):
        with pytest.raises(ValidationError) as caught:
            keys.rotate_key(again, partium_sandbox.add_key("acme"), actor=None)
        assert caught.value.code == "not_active"
    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize("hours", [-1, 24 * 91])
def test_an_impossible_overlap_is_refused(hours: int, key: ApiKey) -> None:
    with pytest.raises(ValidationError, match="0 to 90 days"):
        keys.rotate_key(key, "a-key-00000000000000", actor=None, overlap=dt.timedelta(hours=hours), verify=False)


# -- revoking


def test_revoking_erases_the_value_and_revokes_the_grant(key: ApiKey) -> None:
    keys.revoke_key(key, actor=None)
    stored = ApiKey.objects.get()
    assert (stored.status, stored.secret) == ("revoked", None)
    assert not ApiKey.objects.usable().exists()
    assert Grant.objects.get(api_key=key).revoked_at is not None
    keys.revoke_key(stored, actor=None)
    assert actions(stored) == ["key_added", "key_revoked"]


def test_there_is_no_way_back_from_revoked(key: ApiKey) -> None:
    keys.revoke_key(key, actor=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.filter(pk=key.pk).update(status="active")
    with pytest.raises(ValidationError) as caught:
        keys.verify_key(key, actor=None)
    assert caught.value.code == "revoked"


def test_a_revoked_key_cannot_be_added_again(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    value = partium_sandbox.add_key("acme")
    keys.revoke_key(keys.add_key(acme, value, label="x", actor=None), actor=None)
    with pytest.raises(ValidationError, match="revoked") as caught:
        keys.add_key(acme, value, label="x", actor=None)
    assert code_of(caught.value) == "duplicate"


# -- verifying


def test_verifying_records_what_came_back(key: ApiKey, partium_sandbox: PartiumSandbox) -> None:
    assert keys.verify_key(key, actor=None).verification == Verification.ACCEPTED
    partium_sandbox.revoke_key(key.secret.reveal())
    assert keys.verify_key(key, actor=None).verification == Verification.REJECTED
    assert ApiKey.objects.get().verification == Verification.REJECTED
    assert not ApiKey.objects.usable().exists()
    assert actions(key) == ["key_added", "key_verified", "key_verified"]


def test_no_answer_leaves_what_was_known(key: ApiKey, partium_sandbox: PartiumSandbox) -> None:
    verified_at = ApiKey.objects.get().verified_at
    with partium_sandbox.fail("auth", status=503):
        outcome = keys.verify_key(key, actor=None)
    assert outcome.verification == Verification.UNVERIFIED
    stored = ApiKey.objects.get()
    assert (stored.verification, stored.verified_at) == (Verification.ACCEPTED, verified_at)


def test_an_accepted_verification_ends_a_rejection(key: ApiKey) -> None:
    key_usage.record_rejection(key_id=key.pk)
    assert not ApiKey.objects.usable().exists()
    keys.verify_key(key, actor=None)
    assert ApiKey.objects.usable().exists()


# -- in use


def test_a_rejected_key_is_left_alone_for_a_minute_and_is_one_event(key: ApiKey) -> None:
    for _ in range(3):
        key_usage.record_rejection(key_id=key.pk, status=403)
    now = timezone.now()
    assert not ApiKey.objects.usable(now).exists()
    assert ApiKey.objects.usable(now + dt.timedelta(seconds=61)).exists()
    assert actions(key) == ["key_added", "key_rejected"]
    ApiKey.objects.update(rejected_at=now - dt.timedelta(seconds=90))  # tried again after a minute, in vain
    key_usage.record_rejection(key_id=key.pk)
    assert not ApiKey.objects.usable().exists()
    assert actions(key) == ["key_added", "key_rejected"]


def test_a_later_outage_is_an_event_again(key: ApiKey) -> None:
    key_usage.record_rejection(key_id=key.pk)
    key_usage.record_exchange(key_id=key.pk, ok=True)
    assert ApiKey.objects.get().rejected_at is None
    key_usage.record_rejection(key_id=key.pk)
    assert actions(key) == ["key_added", "key_rejected", "key_rejected"]


def test_searches_are_counted_by_day_and_written_at_most_once_a_minute(
    key: ApiKey, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.PARTIUM_EXECUTOR = "inline"
    key_usage.write_counts()  # the minute begins
    client = partium_auth.for_organization("acme")
    for _ in range(3):
        client.search(text="fan")
    with pytest.raises(UnprocessableRequest):
        client.search(text="fan", limit=1000)
    client.hierarchy()
    with django_assert_num_queries(0):
        key_usage.count_use(key.pk, ok=True)
    assert not ApiKeyUsage.objects.exists()
    key_usage.count_use(uuid.uuid4(), ok=True)  # deleted meanwhile
    key_usage.write_counts()
    usage = ApiKeyUsage.objects.get()
    assert (usage.day, usage.searches, usage.failures) == (timezone.localdate(), 4, 1)
    assert ApiKey.objects.get().last_used_at is not None


def test_searches_with_a_persons_own_token_are_no_use_of_a_key(partium_user: PartiumUser) -> None:
    key_usage.write_counts()
    request = RequestFactory().get("/")
    request.user, request.session = partium_user.user, partium_user.client.session
    PartiumSession(request).client.search(text="fan")
    key_usage.write_counts()
    assert not ApiKeyUsage.objects.exists()


def test_counts_that_no_page_shows_any_more_are_not_kept_for_ever(key: ApiKey) -> None:
    today = timezone.localdate()
    for days in (29, 90, 91, 4000):
        ApiKeyUsage.objects.create(api_key=key, day=today - dt.timedelta(days=days), searches=1)
    key_usage.count_use(key.pk, ok=True)
    key_usage.write_counts()
    kept = ApiKeyUsage.objects.order_by("-day").values_list("day", flat=True)
    assert [(today - day).days for day in kept] == [0, 29, 90]


@pytest.mark.django_db(transaction=True)
def test_no_count_is_lost_between_threads(key: ApiKey) -> None:
    def work() -> None:
        for _ in range(5):
            key_usage.count_use(key.pk, ok=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    key_usage.write_counts()
    assert ApiKeyUsage.objects.get().searches == 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_search_of_an_async_view_leaves_no_connection_behind_in_a_thread(
    key: ApiKey, settings: Any, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    settings.PARTIUM_EXECUTOR = executor
    key_usage.write_counts()
    monkeypatch.setattr(key_usage, "WRITE_SECONDS", 0.01)
    key_usage.write_counts()  # now each search in this process is due to be written
    opened: list[BaseDatabaseWrapper] = []

    def note(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    async_to_sync(partium_auth.for_organization("acme").asearch)(text="fan")
    eventually(ApiKeyUsage.objects.exists)
    eventually(lambda: bool(opened) and all(each.connection is None for each in opened))


@pytest.mark.django_db(transaction=True)
def test_one_outage_seen_by_many_threads_is_one_event(key: ApiKey) -> None:
    def work() -> None:
        try:
            key_usage.record_rejection(key_id=key.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert actions(key) == ["key_added", "key_rejected"]


def test_the_signals_of_the_tokens_room_are_written_down(key: ApiKey) -> None:
    key_usage.connect_signals()
    signals.key_exchanged.send(sender=ApiKey, key_id=key.pk, ok=True)
    signals.key_rejected.send(sender=ApiKey, key_id=key.pk, status=401)
    assert ApiKey.objects.get().last_used_at is not None
    assert ApiKey.objects.get().rejected_at is not None


# -- finding and choosing


def test_a_key_is_found_by_its_value_by_those_who_see_it(
    acme: Organization, globex: Organization, key: ApiKey, person: Callable[..., Any]
) -> None:
    value = key.secret.reveal()
    assert keys.find_by_value(f" {value} ", actor=person("dev", acme)) == [key]
    assert keys.find_by_value(value, actor=person("other", globex)) == []
    assert keys.find_by_value(value[:-1], actor=None) == []


def test_every_key_has_the_state_that_says_the_most(acme: Organization) -> None:
    now = timezone.now()
    past, soon, later = now - dt.timedelta(days=1), now + dt.timedelta(days=10), now + dt.timedelta(days=100)
    wanted: dict[str, dict[str, Any]] = {
        "active": {"verification": "accepted", "expires_at": later},
        "expiring": {"verification": "accepted", "expires_at": soon},
        "retiring": {"verification": "accepted", "status": "retiring", "retires_at": soon},
        "unverified": {},
        "failing": {"verification": "rejected"},
        "expired": {"verification": "accepted", "expires_at": past},
        "retired": {"status": "retiring", "retires_at": past, "verification": "rejected"},
        "revoked": {"status": "revoked", "secret": None, "expires_at": past},
    }
    for state, fields in wanted.items():
        made = keys.add_key(acme, f"value-of-{state}-000000", label=state, actor=None, verify=False)
        ApiKey.objects.filter(pk=made.pk).update(**fields)
    in_use = keys.add_key(acme, "value-of-in-use-000000", label="failing", actor=None, verify=False)
    ApiKey.objects.filter(pk=in_use.pk).update(verification="accepted", rejected_at=past)
    assert all(row.label == row.state for row in ApiKey.objects.with_state(now))
    usable = set(ApiKey.objects.usable(now).values_list("label", flat=True))
    assert usable == {
        "active",
        "expiring",
        "retiring",
        "unverified",
        "failing",
    }  # the one that failed a day ago is tried


def test_the_newest_verified_active_key_serves_first(acme: Organization) -> None:
    now = timezone.now()
    order = [
        ("accepted", "active", 2),
        ("accepted", "active", 3),
        ("accepted", "retiring", 0),
        ("unverified", "active", 1),
        ("unverified", "active", 4),
    ]
    made = []
    for n, (known, status, days) in enumerate(order):
        row = keys.add_key(acme, f"value-{n}-0000000000000", label=str(n), actor=None, verify=False)
        ApiKey.objects.filter(pk=row.pk).update(
            verification=known, status=status, created_at=now - dt.timedelta(days=days)
        )
        made.append(str(n))
    assert list(ApiKey.objects.usable().in_serving_order().values_list("label", flat=True)) == made


def test_changing_a_key_says_what_was_changed(key: ApiKey) -> None:
    later = dt.datetime(2099, 3, 1, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    keys.change_key(key, label="new", expires_at=later, actor=None)
    keys.change_key(key, label="new", expires_at=later, actor=None)
    stored = ApiKey.objects.get()
    assert (stored.label, stored.expires_at) == ("new", later)
    changed = AuditEvent.objects.filter(action="key_changed")
    both = "label changed; expiry changed from – to 2099-03-01 11:30+00:00"
    assert [event.detail for event in changed] == [both]
    keys.change_key(key, label="new", expires_at=None, actor=None)
    assert [event.detail for event in changed.all()] == ["expiry changed from 2099-03-01 11:30+00:00 to –", both]
    keys.change_key(key, label="newer", expires_at=None, actor=None)
    assert changed.all()[0].detail == "label changed", (
        "and not what it was: that may have been a mistake that nobody should see"
    )


def test_events_cannot_be_changed_or_deleted(key: ApiKey) -> None:
    event = AuditEvent.objects.get()
    for change in (event.save, event.delete):
        with pytest.raises(TypeError, match="append-only"):
            change()


@pytest.mark.django_db(transaction=True)
def test_what_happened_is_told_after_the_commit(acme: Organization) -> None:
    heard = []

    def listener(event: AuditEvent, **_kwargs: Any) -> None:
        heard.append((event.action, connection.in_atomic_block))

    signals.key_event.connect(listener)
    try:
        keys.add_key(acme, "some-value-0000000000", label="x", actor=None, verify=False)
    finally:
        signals.key_event.disconnect(listener)
    assert heard == [("key_added", False)]


@pytest.mark.parametrize("label", ["{value}", "the key is {value}."])
def test_a_label_cannot_become_the_key_later_either(
    label: str, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    value = partium_sandbox.add_key("acme")
    key = keys.add_key(acme, value, label="shop", actor=None)
    with pytest.raises(ValidationError) as caught:
        keys.change_key(key, label=label.format(value=value), expires_at=None, actor=None)
    assert value not in str(caught.value)
    assert ApiKey.objects.get(pk=key.pk).label == "shop"


def test_a_revoked_keys_label_can_still_be_changed(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    key = keys.add_key(acme, partium_sandbox.add_key("acme"), label="shop", actor=None)
    keys.revoke_key(key, actor=None)
    keys.change_key(key, label="old shop", expires_at=None, actor=None)
    assert ApiKey.objects.get(pk=key.pk).label == "old shop"


@pytest.mark.parametrize("what", ["add", "rotate", "verify"])
@pytest.mark.parametrize("ended", ["membership", "organization", "account"])
def test_who_loses_the_right_while_partium_is_asked_changes_nothing(
    what: str,
    ended: str,
    acme: Organization,
    key: ApiKey,
    person: Callable[..., Any],
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dev, ask, value = person("dev", acme), key_verification.verify_at_partium, partium_sandbox.add_key("acme")

    def lose_right_meanwhile(organization: Organization, secret: str) -> Any:
        if ended == "membership":
            members.remove_member(acme, dev, actor=None)
        elif ended == "account":
            type(dev).objects.update(is_active=False)
        else:
            organizations.change_organization(acme, actor=None, is_active=False)
        return ask(organization, secret)

    monkeypatch.setattr(key_verification, "verify_at_partium", lose_right_meanwhile)
    before = list(ApiKey.objects.values()), AuditEvent.objects.filter(action__in=KEY_ACTIONS).count()
    acts: dict[str, Callable[[], object]] = {
        "add": lambda: keys.add_key(acme, value, label="new", actor=dev),
        "rotate": lambda: keys.rotate_key(key, value, actor=dev),
        "verify": lambda: keys.verify_key(key, actor=dev),
    }
    with pytest.raises(PermissionDenied):
        acts[what]()
    assert (list(ApiKey.objects.values()), AuditEvent.objects.filter(action__in=KEY_ACTIONS).count()) == before
