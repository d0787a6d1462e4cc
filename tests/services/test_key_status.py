"""The key status of an organization: computed in SQL, compared with a plain function for every state of a key."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from partium_auth.fields import seal
from partium_auth.models import ApiKey, KeyStatus, Organization
from partium_auth.models.key_status import key_status, needs_attention
from partium_auth.models.keys import ApiKeyState
from partium_auth.services import key_usage, keys
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
# At, before and after each boundary: the present, and the 30 days of the warning.
ENDS = (None, NOW - DAY, NOW, NOW + DAY, NOW + 30 * DAY, NOW + 31 * DAY)


def state_of(key: ApiKey) -> ApiKeyState:  # one line for each state
    if key.status == "revoked":
        return ApiKeyState.REVOKED
    if key.retires_at is not None and key.retires_at <= NOW:
        return ApiKeyState.RETIRED
    if key.expires_at is not None and key.expires_at <= NOW:
        return ApiKeyState.EXPIRED
    if key.rejected_at is not None or key.verification in {"rejected", "wrong_organization"}:
        return ApiKeyState.FAILING
    if key.status == "retiring":
        return ApiKeyState.RETIRING
    if key.verification == "unverified":
        return ApiKeyState.UNVERIFIED
    if key.expires_at is not None and key.expires_at <= NOW + 30 * DAY:
        return ApiKeyState.EXPIRING
    return ApiKeyState.ACTIVE


def status_of(states: set[ApiKeyState]) -> KeyStatus:
    if ApiKeyState.ACTIVE in states:
        return KeyStatus.HEALTHY
    if states & {ApiKeyState.EXPIRING, ApiKeyState.RETIRING}:
        return KeyStatus.EXPIRING
    if ApiKeyState.UNVERIFIED in states:
        return KeyStatus.UNVERIFIED
    return KeyStatus.FAILING if ApiKeyState.FAILING in states else KeyStatus.NONE


def every_key() -> list[ApiKey]:
    """Return a key for each combination of what tells its state, not saved and without an organization."""
    made = []
    for status, verification, rejected_at, retires_at, expires_at in itertools.product(
        ApiKey.Status.values, ApiKey.Verification.values, (None, NOW - DAY), ENDS[:4], ENDS
    ):
        key = ApiKey(label="k", status=status, verification=verification, rejected_at=rejected_at)
        key.retires_at, key.expires_at, key.fingerprint = retires_at, expires_at, key.pk.hex
        key.secret = None if status == "revoked" else seal(key, "secret", "x")
        made.append(key)
    return made


def status_now(organization: Organization, now: dt.datetime | None = None) -> KeyStatus:
    row: Any = Organization.objects.annotate(key_status=key_status(now)).get(pk=organization.pk)
    return KeyStatus(row.key_status)


def test_every_state_of_a_key_and_of_an_organization_with_one_key() -> None:
    made = every_key()
    for number, key in enumerate(made):
        key.organization = Organization(org_id=str(number))
    Organization.objects.bulk_create([key.organization for key in made])
    ApiKey.objects.bulk_create(made)
    states = {key.pk: key.state for key in ApiKey.objects.with_state(NOW)}
    statuses = dict(Organization.objects.annotate(s=key_status(NOW)).values_list("pk", "s"))
    for key in made:
        assert states[key.pk] == state_of(key)
        assert statuses[key.organization_id] == status_of({state_of(key)})
    assert set(states.values()) == set(ApiKeyState)
    for state in ApiKeyState:
        assert set(ApiKey.objects.in_state(state, NOW)) == {key for key in made if state_of(key) == state}


def test_an_organization_is_as_good_as_its_best_key() -> None:
    one_of_each = {state_of(key): key for key in every_key()}
    organization = Organization.objects.create(org_id="acme")
    for number in range(len(one_of_each) + 1):
        for states in itertools.combinations(one_of_each, number):
            with transaction.atomic():
                for state in states:
                    one_of_each[state].organization = organization
                    one_of_each[state].save(force_insert=True)
                assert status_now(organization, NOW) == status_of(set(states)), states
                transaction.set_rollback(True)


def test_who_needs_attention() -> None:
    keys_by_status = {status_of({state_of(key)}): key for key in every_key()}
    for source, status in itertools.product(Organization.TokenSource.values, KeyStatus):
        organization = Organization.objects.create(org_id=f"{source} {status.word}", token_source=source)
        if status != KeyStatus.NONE:
            key = keys_by_status[status]
            ApiKey.objects.create(**_values(key), organization=organization)
    found = Organization.objects.annotate(key_status=key_status(NOW)).filter(needs_attention())
    expected = {
        f"{source} {status.word}"
        for source, status in itertools.product(Organization.TokenSource.values, KeyStatus)
        if status != KeyStatus.HEALTHY and (source, status) != ("user", KeyStatus.NONE)
    }
    assert set(found.values_list("org_id", flat=True)) == expected


def _values(key: ApiKey) -> dict[str, Any]:
    names = ("label", "status", "verification", "rejected_at", "retires_at", "expires_at")
    copy = ApiKey()
    secret = None if key.secret is None else seal(copy, "secret", "x")
    return {name: getattr(key, name) for name in names} | {"id": copy.pk, "secret": secret, "fingerprint": copy.pk.hex}


def test_it_follows_every_service(acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    soon = timezone.now() + 3 * DAY
    assert status_now(acme) == KeyStatus.NONE
    first = keys.add_key(acme, partium_sandbox.add_key("acme"), label="first", actor=None)
    assert status_now(acme) == KeyStatus.HEALTHY
    keys.change_key(first, label="first", expires_at=soon, actor=None)
    assert status_now(acme) == KeyStatus.EXPIRING
    keys.change_key(first, label="first", expires_at=None, actor=None)
    key_usage.record_rejection(key_id=first.pk)
    assert status_now(acme) == KeyStatus.FAILING
    key_usage.record_exchange(key_id=first.pk, ok=True)
    assert status_now(acme) == KeyStatus.HEALTHY
    second = keys.rotate_key(first, "not-verified-000000000", verify=False, actor=None)
    assert status_now(acme) == KeyStatus.EXPIRING  # the old one, as long as it retires
    keys.revoke_key(first, actor=None)
    assert status_now(acme) == KeyStatus.UNVERIFIED
    assert keys.verify_key(second, actor=None).refused
    assert status_now(acme) == KeyStatus.FAILING
    keys.revoke_key(second, actor=None)
    assert status_now(acme) == KeyStatus.NONE


def test_a_successful_exchange_takes_one_statement(
    acme: Organization, partium_sandbox: PartiumSandbox, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    key = keys.add_key(acme, partium_sandbox.add_key("acme"), label="k", actor=None)
    key_usage.record_exchange(key_id=key.pk, ok=True)
    with django_assert_num_queries(1):  # the time of the last use
        key_usage.record_exchange(key_id=key.pk, ok=True)
