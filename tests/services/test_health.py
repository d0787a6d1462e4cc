"""What is stored of an organization's keys as a whole is what its keys say: now and later, whoever changed them and when."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from partium_auth.fields import seal
from partium_auth.models import ApiKey, Health, KeyHealth, Organization
from partium_auth.models.health import health, in_health, moments
from partium_auth.models.keys import ApiKeyState
from partium_auth.services import health as stored
from partium_auth.services import key_use, keys
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)

# What somebody is told of an organization whose best key is in that state.
OF_STATE = dict.fromkeys(ApiKeyState, Health.NONE) | {
    ApiKeyState.ACTIVE: Health.HEALTHY,
    ApiKeyState.EXPIRING: Health.EXPIRING,
    ApiKeyState.RETIRING: Health.EXPIRING,
    ApiKeyState.UNVERIFIED: Health.UNVERIFIED,
    ApiKeyState.FAILING: Health.FAILING,
}
BEST_FIRST = (Health.HEALTHY, Health.EXPIRING, Health.UNVERIFIED, Health.FAILING, Health.NONE)

# Whole half days, so that boundaries are met exactly.
moment = st.integers(-160, 160).map(lambda halves: NOW + halves * DAY / 2)
key_rows = st.fixed_dictionaries(
    {
        "status": st.sampled_from(ApiKey.Status.values),
        "verification": st.sampled_from(ApiKey.Verification.values) | st.just("accepted"),
        "rejected_at": st.none() | st.none() | moment,
        "retires_at": st.none() | moment,
        "expires_at": st.none() | moment,
    }
)


def said(organization: Organization, now: dt.datetime | None = None) -> Health:
    return Health(Organization.objects.annotate(health=health(now)).get(pk=organization.pk).health)


def computed(organization: Organization, now: dt.datetime | None = None) -> Health:
    states = ApiKey.objects.with_state(now).filter(organization=organization).values_list("state", flat=True)
    return min((OF_STATE[ApiKeyState(state)] for state in states), key=BEST_FIRST.index, default=Health.NONE)


def put(organization: Organization, fields: dict[str, Any]) -> ApiKey:
    key = ApiKey(organization=organization, label="k", **{"fingerprint": ApiKey().pk.hex, **fields})
    if key.status != ApiKey.Status.REVOKED:
        key.secret = seal(key, "secret", "x")
    key.save()
    return key


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(key_rows, max_size=4), at=st.lists(moment, min_size=3, max_size=3))
def test_what_is_stored_once_is_right_at_any_moment(rows: list[dict[str, Any]], at: list[dt.datetime]) -> None:
    with transaction.atomic():
        organization = Organization.objects.create(org_id="random")
        for row in rows:
            put(organization, row)
        for now in at:
            assert said(organization, now) == computed(organization, now), now
            meeting = [kind for kind in Health if Organization.objects.filter(in_health(kind, now)).exists()]
            assert meeting == [said(organization, now)]
            for state in ApiKeyState:
                of_state = set(ApiKey.objects.with_state(now).filter(state=state))
                assert set(ApiKey.objects.in_state(state, now)) == of_state, state
        assert stored.stale() == []
        transaction.set_rollback(True)


def test_a_key_that_expired_in_the_year_1_is_no_key() -> None:
    organization = Organization.objects.create(org_id="ancient")
    put(organization, {"verification": "accepted", "expires_at": dt.datetime(1, 1, 5, tzinfo=dt.UTC)})
    assert said(organization) == Health.NONE


def test_without_time_zones_too(settings: Any) -> None:
    settings.USE_TZ = False
    naive = (NOW + 60 * DAY).replace(tzinfo=None)
    found = moments([("active", "accepted", None, None, naive), ("active", "rejected", None, None, None)])
    assert found["healthy_until"] == naive - 30 * DAY
    assert found["failing_until"] > naive  # type: ignore[operator]


def test_every_service_keeps_it(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    soon = timezone.now() + 3 * DAY
    assert said(acme) == Health.NONE
    first = keys.add_key(acme, partium_sandbox.add_key("acme"), label="first", actor=None)
    assert said(acme) == Health.HEALTHY
    keys.change_key(first, label="first", expires_at=soon, actor=None)
    assert said(acme) == Health.EXPIRING
    keys.change_key(first, label="first", expires_at=None, actor=None)
    key_use.record_rejection(first.pk)
    assert said(acme) == Health.FAILING
    key_use.count_exchange(first.pk, ok=True)
    assert said(acme) == Health.HEALTHY
    second = keys.rotate_key(first, "not-verified-000000000", verify=False, actor=None)
    assert said(acme) == Health.EXPIRING  # the old one, as long as it retires
    keys.revoke_key(first, actor=None)
    assert said(acme) == Health.UNVERIFIED
    assert keys.verify_key(second, actor=None).refused
    assert said(acme) == Health.FAILING
    keys.revoke_key(second, actor=None)
    assert said(acme) == Health.NONE
    assert stored.stale() == []


def test_an_exchange_of_a_key_in_order_costs_nothing_more(
    acme: Organization, partium_sandbox: PartiumSandbox, django_assert_num_queries: Callable[..., Any]
) -> None:
    key = keys.add_key(acme, partium_sandbox.add_key("acme"), label="k", actor=None)
    key_use.count_exchange(key.pk, ok=True)
    with django_assert_num_queries(2):  # the day's count, the moment of the last use
        key_use.count_exchange(key.pk, ok=True)


def test_a_sites_own_code_need_not_think_of_it(acme: Organization) -> None:
    key = put(acme, {"verification": "accepted"})
    assert said(acme) == Health.HEALTHY
    key.verification = "rejected"
    key.save()
    assert said(acme) == Health.FAILING
    key.delete()
    assert said(acme) == Health.NONE
    acme.delete()
    assert not KeyHealth.objects.exists()


def test_what_was_written_past_everything_is_found(acme: Organization, globex: Organization) -> None:
    put(acme, {"verification": "accepted"})
    put(globex, {"verification": "accepted"})
    ApiKey.objects.filter(organization=acme).update(verification="rejected")
    KeyHealth.objects.filter(organization=globex).delete()
    assert set(stored.stale()) == {acme.pk, globex.pk}
    for pk in stored.stale():
        stored.remake(pk)
    assert (said(acme), said(globex), stored.stale()) == (Health.FAILING, Health.HEALTHY, [])


def test_what_saving_an_organization_read_earlier_leaves_alone(acme: Organization) -> None:
    earlier = Organization.objects.get(pk=acme.pk)
    put(acme, {"verification": "accepted"})
    earlier.save()
    assert said(acme) == Health.HEALTHY


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time")
def test_two_changes_at_once_do_not_lose_one_another() -> None:
    """The second may only look at the keys when the first has committed, or it would store what was before."""
    organization = Organization.objects.create(org_id="acme")
    one = put(organization, {"verification": "accepted"})
    other = put(organization, {"verification": "accepted"})

    def reject(key: ApiKey) -> None:
        try:
            key_use.record_rejection(key.pk)
        finally:
            connection.close()

    with transaction.atomic():
        key_use.record_rejection(one.pk)
        second = threading.Thread(target=reject, args=[other])
        second.start()
        second.join(0.5)
        assert second.is_alive()  # it waits
    second.join(10)
    assert said(organization) == Health.FAILING
