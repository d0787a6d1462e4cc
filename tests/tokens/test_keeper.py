"""What the keeper does in each window, with one process and real exchanges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections

from partium_auth.exceptions import KeyRejected, LoginRequired, TokenUnavailable
from partium_auth.models import Grant
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants
from partium_auth.tokens.keeper import Keeper
from tests.tokens.conftest import age, eventually, read

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]


def test_a_fresh_token_is_served_a_hundred_times_without_a_renewal(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    values = {keeper.obtain(read(grant)).value for _ in range(100)}
    assert len(values) == 1
    assert partium_sandbox.count(endpoint="refresh") == 0


def test_an_ageing_token_is_served_at_once_and_renewed_in_the_background(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 120)
    with partium_sandbox.hang("refresh") as hang:
        first = keeper.obtain(seen)
        hang.wait_until_met()
        assert keeper.obtain(read(grant)).value == first.value
    eventually(lambda: read(grant).generation == 2)
    assert keeper.obtain(read(grant)).value != first.value
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_mandatory_token_waits_briefly_and_gets_the_new_one(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    assert keeper.obtain(age(grant, 30)).generation == 2


def test_a_mandatory_token_is_served_when_the_renewal_fails(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Fails without the break for MANDATORY in Keeper._course.
    grant = password_grant()
    partium_sandbox.fail("refresh", status=503, retry_after=7)
    assert keeper.obtain(age(grant, 30)).generation == 1
    assert keeper.obtain(read(grant)).generation == 1
    assert partium_sandbox.count(endpoint="refresh") == 1  # the fleet leaves it alone for the 7 s


def test_an_unusable_token_and_503_say_when_to_come_back(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.fail("refresh", status=503, retry_after=42)
    with pytest.raises(TokenUnavailable) as caught:
        keeper.obtain(age(grant, 10))
    assert 40 <= caught.value.retry_after <= 42
    with pytest.raises(TokenUnavailable):
        Keeper().obtain(read(grant))  # another process, the same answer, no call
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_rejected_refresh_token_serves_what_is_left_and_then_asks_to_log_in(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.fail("refresh", status=401)
    assert keeper.obtain(age(grant, 30)).generation == 1
    assert keeper.obtain(age(grant, 20)).generation == 1
    with pytest.raises(LoginRequired):
        keeper.obtain(age(grant, 10))
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_fifty_threads_make_one_call(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 0)

    def obtain(_: int) -> str:
        try:
            return keeper.obtain(seen).value
        finally:
            connections.close_all()

    with ThreadPoolExecutor(50) as pool:
        values = set(pool.map(obtain, range(50)))
    assert len(values) == 1
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_key_is_exchanged_on_first_use_and_again_when_it_ages(
    keeper: Keeper, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = key_grant()
    first = keeper.obtain(read(grant))
    assert keeper.obtain(age(grant, 5)).value != first.value
    assert partium_sandbox.count(endpoint="auth") == 2
    grant.refresh_from_db()
    assert grant.refresh_token is None


def test_a_rejected_key_is_left_alone(keeper: Keeper, key_grant: MakeGrant, partium_sandbox: PartiumSandbox) -> None:
    grant = key_grant()
    partium_sandbox.fail("auth", status=401)
    for _ in range(3):
        with pytest.raises(KeyRejected):
            keeper.obtain(read(grant))
    assert partium_sandbox.count(endpoint="auth") == 1


def test_twenty_rejections_of_one_generation_cause_one_renewal(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()

    def replace(_: int) -> int:
        try:
            return keeper.obtain(read(grant), rejected_generation=1).generation
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(replace, range(20))) == {2}
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_log_out_during_a_renewal_is_not_undone_by_it(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Fails without revoked_at__isnull=True in grants.commit().
    grant = password_grant()
    seen = age(grant, 120)
    with partium_sandbox.hang("refresh") as hang:
        keeper.obtain(seen)
        hang.wait_until_met()
        grants.revoke(Grant.objects.filter(pk=grant.pk))
    eventually(lambda: not keeper._flights().by_grant)
    grant.refresh_from_db()
    assert grant.access_token is None
    assert grant.refresh_token is None
    with pytest.raises(LoginRequired):
        keeper.obtain(read(grant))


def test_one_renewal_takes_six_statements_at_most(
    keeper: Keeper, password_grant: MakeGrant, django_assert_max_num_queries, settings
) -> None:  # type: ignore[no-untyped-def]
    settings.PARTIUM_EXECUTOR = "inline"
    grant = password_grant()
    seen = age(grant, 10)
    with django_assert_max_num_queries(4):
        keeper.obtain(seen)


def test_within_a_transaction_on_sqlite_the_answer_comes_soon_and_says_why(
    keeper: Keeper, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one writer")
    from django.db import transaction

    grant = password_grant()
    seen = age(grant, 5)
    with transaction.atomic():
        Grant.objects.filter(pk=grant.pk).update(failures=0)
        started_at = time.monotonic()
        with pytest.raises(TokenUnavailable, match="before writing"):
            keeper.obtain(seen)
        assert time.monotonic() - started_at < 4  # not the five seconds of the other case
    eventually(lambda: read(grant).generation == 2, seconds=25)
