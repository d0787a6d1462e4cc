"""What the token_manager does in each window, with one process and real exchanges."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from unittest.mock import Mock

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections, transaction
from pytest_django import DjangoAssertNumQueries, Settings

from partium_auth.exceptions import KeyRejected, LoginRequired, NoUsableKey, TimedOut, TokenUnavailable
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Grant, Organization, Outage
from partium_auth.partium.token_response import TokenResponse
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants, lease, send_credential, state
from partium_auth.tokens.manager import PATIENCE_SECONDS, QUEUED_SECONDS, TokenManager
from partium_auth.tokens.state import GrantState
from partium_auth.tokens.workers import Saturated
from tests.tokens.conftest import age, ago, eventually, let_time_pass, out_of_database, read

THREADS_PER_UPSTREAM = 2
pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]


def test_a_fresh_token_is_served_a_hundred_times_without_a_refresh(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    values = {token_manager.obtain(read(grant)).value for _ in range(100)}
    assert len(values) == 1
    assert partium_sandbox.count(endpoint="refresh") == 0


def test_an_ageing_token_is_served_at_once_and_refreshed_in_the_background(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 120)
    with partium_sandbox.hang("refresh") as hang:
        first = token_manager.obtain(seen)
        hang.wait_until_met()
        assert token_manager.obtain(read(grant)).value == first.value
    eventually(lambda: read(grant).generation == 2)
    assert token_manager.obtain(read(grant)).value != first.value
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_mandatory_token_waits_briefly_and_gets_the_new_one(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    assert token_manager.obtain(age(grant, 30)).generation == 2


def test_a_mandatory_token_is_served_when_the_refresh_fails(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.fail("refresh", status=503, retry_after=7)
    assert token_manager.obtain(age(grant, 30)).generation == 1
    assert token_manager.obtain(read(grant)).generation == 1
    assert partium_sandbox.count(endpoint="refresh") == 1  # the fleet leaves it alone for the 7 s


def test_a_mandatory_token_that_nobody_may_refresh_now_is_waited_for_by_nobody(
    token_manager: TokenManager, password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = password_grant()
    Grant.objects.update(next_attempt_at=ago(-60))
    for name in ("PATIENCE_SECONDS", "BRIEF_SECONDS"):
        monkeypatch.setattr(f"partium_auth.tokens.manager.{name}", 20.0)
    seen, began = age(grant, 30), time.monotonic()
    assert token_manager.obtain(seen).generation == 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "state",
    [
        {"refresh_token": None},
        {"rejected_at": ago(1)},
        {"lease_until": ago(-7200)},
        {"next_attempt_at": ago(-7200)},
    ],
    ids=lambda state: next(iter(state)),
)
def test_what_cannot_be_refreshed_now_is_not_tried(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    state: dict[str, Any],
) -> None:
    # lease.take() would refuse as well, but that is one statement per request.
    settings.PARTIUM_EXECUTOR = "inline"
    grant = password_grant()
    tried: list[object] = []
    monkeypatch.setattr(token_manager.refresher, "refresh", lambda *args, **kwargs: tried.append(args))
    token_manager.obtain(age(grant, 30))
    assert len(tried) == 1
    Grant.objects.update(**state)
    token_manager.obtain(read(grant))
    assert len(tried) == 1


@pytest.mark.parametrize("reusable", [False, True])
def test_an_outcome_that_nobody_knows_is_looked_into_at_once_where_nothing_is_at_stake(
    token_manager: TokenManager, password_grant: MakeGrant, settings: Settings, reusable: bool
) -> None:
    # Sending a used refresh token may end the login, although its access token is still good.
    settings.PARTIUM_EXECUTOR = "inline"
    grant = password_grant()
    Grant.objects.update(sent_at=ago(60), reusable=reusable)
    assert token_manager.obtain(age(grant, 30)).generation == (2 if reusable else 1)


def test_an_unusable_token_and_503_say_when_to_come_back(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.fail("refresh", status=503, retry_after=42)
    with pytest.raises(TokenUnavailable) as caught:
        token_manager.obtain(age(grant, 10))
    assert 40 <= caught.value.retry_after <= 42
    with pytest.raises(TokenUnavailable):
        TokenManager().obtain(read(grant))  # another process, the same answer, no call
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_rejected_refresh_token_serves_what_is_left_and_then_asks_to_log_in(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.fail("refresh", status=401)
    assert token_manager.obtain(age(grant, 30)).generation == 1
    assert token_manager.obtain(age(grant, 20)).generation == 1
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(grant, 10))
    assert partium_sandbox.count(endpoint="refresh") == 1


PAGE = "<!doctype html><title>Request blocked</title>"


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_firewalls_page_is_a_fault_that_ends_no_login(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, status: int
) -> None:
    grant = password_grant()
    with partium_sandbox.fail("refresh", status=status, body=PAGE, headers={"Content-Type": "text/html"}):
        assert token_manager.obtain(age(grant, 30)).generation == 1
        assert not read(grant).rejected
        Grant.objects.update(next_attempt_at=ago(1))
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(age(grant, 10))
        assert read(grant).waiting  # the fleet leaves it alone for a while
        assert not read(grant).outcome_unknown  # what was blocked was not used up
    Grant.objects.update(next_attempt_at=ago(1))
    assert token_manager.obtain(read(grant)).generation == 2


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refusal_that_names_the_refresh_token_ends_the_login(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, status: int
) -> None:
    grant = password_grant()
    partium_sandbox.fail("refresh", status=status, body={"error": "invalid_grant"})
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(grant, 10))
    assert read(grant).rejected


@pytest.mark.parametrize("status", [400, 403, 422])
def test_json_that_names_no_reason_ends_no_login(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, status: int
) -> None:
    """A gateway in front of Partium answers with JSON, too."""
    grant = password_grant()
    fault = partium_sandbox.fail("refresh", status=status, body={"message": "blocked by policy"})
    with fault, pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2


def test_no_outage_of_partium_ends_a_login_however_long(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Only what Partium itself says about the refresh token ends a login.
    partium_sandbox.settings(grace_seconds=60)
    grant = password_grant()
    seen = age(grant, 0)

    def attempt() -> None:
        Grant.objects.update(failures=1000)
        let_time_pass()
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(seen)

    for status in (500, 502, 503, 504, 429, 404, 405, 422, 403, 400, 301):
        with partium_sandbox.fail("refresh", status=status, body=PAGE, headers={"Content-Type": "text/html"}):
            attempt()
    with partium_sandbox.garbage("refresh"):
        attempt()
    with partium_sandbox.drop("refresh", after_processing=True):
        attempt()
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2


def test_a_firewalls_page_does_not_make_a_key_a_rejected_one(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = key_grant()
    with partium_sandbox.fail("auth", status=403, body=PAGE, headers={"Content-Type": "text/html"}):
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(read(grant))
        assert not read(grant).rejected
    Grant.objects.update(next_attempt_at=ago(1))
    assert token_manager.obtain(read(grant))


def test_fifty_threads_make_one_call(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 0)

    def obtain(_: int) -> str:
        try:
            return token_manager.obtain(seen).value
        finally:
            connections.close_all()

    with ThreadPoolExecutor(50) as pool:
        values = set(pool.map(obtain, range(50)))
    assert len(values) == 1
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_reader_that_saw_no_lease_takes_none_from_its_holder(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grant = password_grant()
    with partium_sandbox.hang("refresh") as hang:
        token_manager.obtain(age(grant, 120))
        hang.wait_until_met()
        seen = age(grant, 0)._replace(busy=False, sent=False)
        with monkeypatch.context() as patch:
            patch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 0.3)
            with pytest.raises(TokenUnavailable):
                TokenManager().obtain(seen)
        assert partium_sandbox.count(endpoint="refresh") == 1
    eventually(lambda: not token_manager.refreshing)


def test_a_reader_that_saw_an_old_generation_takes_no_lease(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 0)
    assert token_manager.obtain(seen).generation == 2
    assert TokenManager().obtain(seen).generation == 2
    assert not read(grant).busy
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_key_is_exchanged_on_first_use_and_again_when_it_ages(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = key_grant()
    first = token_manager.obtain(read(grant))
    assert token_manager.obtain(age(grant, 5)).value != first.value
    assert partium_sandbox.count(endpoint="auth") == 2
    grant.refresh_from_db()
    assert grant.refresh_token is None


def test_a_rejected_key_is_left_alone(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = key_grant()
    partium_sandbox.fail("auth", status=401)
    for _ in range(3):
        with pytest.raises(KeyRejected):
            token_manager.obtain(read(grant))
    assert partium_sandbox.count(endpoint="auth") == 1


def test_twenty_rejections_of_one_generation_cause_one_refresh(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()

    def replace(_: int) -> int:
        try:
            return token_manager.obtain(read(grant), rejected_generation=1).generation
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(replace, range(20))) == {2}
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_log_out_during_a_refresh_is_not_undone_by_it(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 120)
    with partium_sandbox.hang("refresh") as hang:
        token_manager.obtain(seen)
        hang.wait_until_met()
        grants.revoke(Grant.objects.filter(pk=grant.pk))
    eventually(lambda: not token_manager.refreshing)
    grant.refresh_from_db()
    assert grant.access_token is None
    assert grant.refresh_token is None
    with pytest.raises(LoginRequired):
        token_manager.obtain(read(grant))


def test_one_refresh_takes_five_statements(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    django_assert_num_queries: DjangoAssertNumQueries,
    settings: Settings,
) -> None:
    settings.PARTIUM_EXECUTOR = "inline"
    seen = age(password_grant(), 10)
    with django_assert_num_queries(5):  # no outage, take the lease, read under it, write sent_at, commit
        token_manager.obtain(seen)


def test_within_a_transaction_on_sqlite_the_answer_comes_soon_and_says_why(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # The refresh thread waits until the caller's transaction ends, so the caller must not wait long for it.
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one writer")
    grant = password_grant()
    seen = age(grant, 5)
    with transaction.atomic():
        Grant.objects.filter(pk=grant.pk).update(failures=0)
        started_at = time.monotonic()
        with pytest.raises(TokenUnavailable, match=r"before writing.*inline"):
            token_manager.obtain(seen)
        assert time.monotonic() - started_at < PATIENCE_SECONDS / 2  # it was the short patience, not the long one
    assert partium_sandbox.count(endpoint="refresh") == 0
    eventually(lambda: read(grant).generation == 2)


def test_where_the_database_stays_locked_the_first_answer_stands(
    token_manager: TokenManager, password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = password_grant()
    first = TokenUnavailable("The refresh waits for the database.")
    first.blocked_grant = grant.pk
    monkeypatch.setattr(state, "read", Mock(side_effect=OperationalError("database is locked")))
    with pytest.raises(TokenUnavailable) as caught:
        token_manager.obtain_unblocked(first)
    assert caught.value is first


@pytest.mark.parametrize("kind", ["key", "login"])
def test_what_may_be_sent_twice_is_refreshed_in_the_callers_transaction_on_sqlite(
    token_manager: TokenManager,
    key_grant: MakeGrant,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    kind: str,
) -> None:
    # The roll-back loses the new token, but the same credential gets another one.
    grant = key_grant() if kind == "key" else password_grant()
    partium_sandbox.settings(rotate=False)
    Grant.objects.update(reusable=True)
    seen = age(grant, 0)
    with transaction.atomic():
        Organization.objects.update(display_name="written")
        assert token_manager.obtain(seen).generation == seen.generation + 1
        transaction.set_rollback(True)
    with transaction.atomic():
        Organization.objects.update(display_name="written")
        kept = token_manager.obtain(read(grant))
    assert token_manager.obtain(read(grant)).value == kept.value


def test_while_a_token_is_good_no_transaction_waits_for_a_refresh(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = key_grant()
    token_manager.obtain(read(grant))
    seen = age(grant, 120)
    with transaction.atomic():
        assert token_manager.obtain(seen).generation == 1
        if connection.vendor == "sqlite":  # the others have no need to wait for the transaction's end
            assert partium_sandbox.count(endpoint="auth") == 1
    eventually(lambda: read(grant).generation == 2)


def test_a_failure_in_the_callers_transaction_is_remembered_when_that_is_rolled_back(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Otherwise each request asks an upstream that fails, and blocks the database meanwhile.
    grant = key_grant()
    partium_sandbox.fail("auth", status=503, retry_after=40)
    with transaction.atomic():
        Organization.objects.update(display_name="written")
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(read(grant))
        transaction.set_rollback(True)
    eventually(Outage.objects.exists)
    with pytest.raises(TokenUnavailable), transaction.atomic():
        token_manager.obtain(read(grant))
    assert partium_sandbox.count(endpoint="auth") <= 2


# --- asked to wait, refused, cut off -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry_after", "low", "high"),
    [
        (503, "7", 5, 7),
        (429, 90, 88, 91),
        (503, "99999", 298, 300),
        (503, "0", 1, 1),
        (503, "soon", 1, 2),
        (429, -60, 1, 1),
    ],
    ids=["seconds", "date", "huge", "zero", "garbage", "past date"],
)
def test_the_whole_fleet_waits_as_long_as_the_upstream_asked(
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    status: int,
    retry_after: float | str,
    low: int,
    high: int,
) -> None:
    partium_sandbox.settings(clock_offset_seconds=3600)  # a date means what it says by the upstream's own clock
    grant = password_grant()
    partium_sandbox.fail("refresh", status=status, retry_after=retry_after)
    with pytest.raises(TokenUnavailable) as caught:
        TokenManager().obtain(age(grant, 0))
    assert low <= caught.value.retry_after <= high
    stale = read(grant)._replace(waiting=False)  # read before the failure
    for _ in range(3):
        with pytest.raises(TokenUnavailable):
            TokenManager().obtain(stale)
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_faults_back_off_grows_and_ends_with_the_first_success(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    Grant.objects.filter(pk=grant.pk).update(failures=20)
    with partium_sandbox.fail("refresh", status=404), pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    grant.refresh_from_db()
    assert grant.failures == 21
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2
    grant.refresh_from_db()
    assert (grant.failures, grant.next_attempt_at) == (0, None)


def test_an_answer_that_does_not_come_is_cut_off(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "EXCHANGE_SECONDS", 0.5)
    monkeypatch.setattr("partium_auth.tokens.outages.LOOK_SECONDS", 1.0)
    upstream.transport.cache_clear()
    try:
        grant = password_grant()
        with partium_sandbox.hang("refresh"), pytest.raises(TokenUnavailable) as caught:
            token_manager.obtain(age(grant, 0))
    finally:
        upstream.transport.cache_clear()
    assert isinstance(caught.value.__cause__, TimedOut)
    assert read(grant).outcome_unknown


def test_a_certain_refusal_leaves_nothing_in_doubt_and_a_lost_connection_does(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    for fault, unknown in (
        (partium_sandbox.fail("refresh", status=503), False),
        (partium_sandbox.fail("refresh", status=429), False),
        (partium_sandbox.fail("refresh", status=404), False),
        (partium_sandbox.fail("refresh", status=502), True),
        (partium_sandbox.garbage("refresh"), True),
        (partium_sandbox.drop("refresh"), True),
        (partium_sandbox.drop("refresh", after_processing=True), True),
    ):
        grant = password_grant()
        let_time_pass()
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(age(grant, 0))
        assert read(grant).outcome_unknown is unknown
        fault.clear()


def test_an_upstream_that_cannot_be_reached_leaves_nothing_in_doubt(
    token_manager: TokenManager, password_grant: MakeGrant, settings: Settings
) -> None:
    grant = password_grant()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.PARTIUM_API_URL = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(age(grant, 0))
    assert not read(grant).outcome_unknown


def test_an_upstream_that_refuses_every_token_causes_one_refresh_not_a_storm(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # A token that was refreshed because of a 401 is not refreshed again for the next 401.
    grant = password_grant()
    assert token_manager.obtain(read(grant), rejected_generation=1).generation == 2
    for _ in range(5):
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(read(grant), rejected_generation=2)
    assert partium_sandbox.count(endpoint="refresh") == 1
    assert token_manager.obtain(read(grant)).generation == 2


def test_the_next_key_takes_over_within_one_patience(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without one limit for all keys, ten that hang cost ten times the patience.
    good, hanging = key_grant(), [key_grant() for _ in range(10)]
    ready = token_manager.obtain(read(good))
    monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 1.0)
    candidates = [read(grant) for grant in hanging]
    with partium_sandbox.hang("auth"):
        began = time.monotonic()
        assert token_manager.obtain_first([*candidates, read(good)]).value == ready.value
        assert time.monotonic() - began < 8
        began = time.monotonic()
        with pytest.raises(TokenUnavailable):
            token_manager.obtain_first(candidates)
        assert time.monotonic() - began < 8


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_while_one_of_the_keys_may_serve_again_nobody_is_told_to_replace_them(
    token_manager: TokenManager, key_grant: MakeGrant, asynchronous: bool
) -> None:
    paused, refused = key_grant(), key_grant()
    Grant.objects.update(next_attempt_at=ago(-60))
    Grant.objects.filter(pk=refused.pk).update(rejected_at=ago(1))
    for candidates in ([read(paused), read(refused)], [read(refused), read(paused)]):
        with pytest.raises(TokenUnavailable):
            async_to_sync(token_manager.aobtain_first)(candidates) if asynchronous else token_manager.obtain_first(
                candidates
            )


# --- what must not spin, poison or hang ------------------------------------------------------------------------------------


class WatchedClock:
    """An elapsed clock that does something once, when a caller reads it to know how long to wait."""

    def __init__(self) -> None:
        self.next_action: Callable[[], object] | None = None

    def __call__(self) -> float:
        action, self.next_action = self.next_action, None
        if action is not None:
            action()
        return time.monotonic()


def test_a_refresh_under_way_is_waited_for_whatever_the_row_said_before(
    password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant, elapsed = password_grant(), WatchedClock()
    token_manager = TokenManager(elapsed=elapsed)
    with partium_sandbox.hang("refresh") as hang:
        token_manager.obtain(age(grant, 120))
        hang.wait_until_met()
        elapsed.next_action = hang.release
        assert token_manager.obtain(age(grant, 0)._replace(busy=False, waiting=True)).generation == 2


def test_who_waits_for_another_takes_over_when_that_gives_up(password_grant: MakeGrant) -> None:
    grant, elapsed = password_grant(), WatchedClock()
    age(grant, 0)
    Grant.objects.update(lease_until=ago(-60))
    elapsed.next_action = lambda: Grant.objects.update(lease_until=None)
    assert TokenManager(elapsed=elapsed).obtain(read(grant)).generation == 2


def test_a_grant_that_is_deleted_meanwhile_has_ended(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    key_grant: MakeGrant,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    login, key = password_grant(), key_grant()
    stale_login, stale_key = age(login, 0), read(key)
    Grant.objects.all().delete()
    ApiKey.objects.all().delete()  # while it is there, its grant is made anew
    with django_assert_max_num_queries(4):
        with pytest.raises(LoginRequired):
            token_manager.obtain(stale_login)
        with pytest.raises(NoUsableKey):
            token_manager.obtain(stale_key)


def test_a_key_that_is_revoked_meanwhile_is_not_a_reason_to_log_in(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    first, second = key_grant(), key_grant()
    grants.revoke(Grant.objects.filter(pk=first.pk))
    assert token_manager.obtain_first([read(first), read(second)]).grant_id == second.pk


def test_tokens_that_live_too_short_cost_one_call_not_one_after_another(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.settings(lifetime_seconds=2)
    with pytest.raises(TokenUnavailable, match="too short"):
        token_manager.obtain(age(grant, 0))
    assert partium_sandbox.count(endpoint="refresh") == 1


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_database_that_is_down_is_asked_ten_times_a_second_not_a_thousand_times(
    token_manager: TokenManager, password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 0.5)
    seen = age(password_grant(), 0)
    attempts: list[int] = []

    def down(*args: object, **kwargs: object) -> NoReturn:
        attempts.append(1)
        raise OperationalError("the database is down")

    monkeypatch.setattr(lease, "take", down)
    monkeypatch.setattr(state, "read", down)
    monkeypatch.setattr(lease, "seconds_to_next_attempt", down)
    with pytest.raises(TokenUnavailable) as caught:
        async_to_sync(token_manager.aobtain)(seen) if asynchronous else token_manager.obtain(seen)
    assert len(attempts) < 25
    assert isinstance(caught.value.__cause__, OperationalError)


def test_a_machine_out_of_threads_serves_what_it_has_and_recovers(
    token_manager: TokenManager, password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise the refresh stays registered, and every later caller waits for it.
    grant = password_grant()
    seen = age(grant, 30)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", out_of_threads)
        assert token_manager.obtain(seen).generation == 1
    assert token_manager.obtain(seen).generation == 2


def test_a_wrong_number_of_threads_is_raised_to_every_caller(
    token_manager: TokenManager, password_grant: MakeGrant, settings: Settings
) -> None:
    grant = password_grant()
    seen = age(grant, 0)
    settings.PARTIUM_REFRESH_THREADS = "many"
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="PARTIUM_REFRESH_THREADS"):
            token_manager.obtain(seen)
    assert not token_manager.refreshing
    settings.PARTIUM_REFRESH_THREADS = 4
    assert token_manager.obtain(seen).generation == 2


def test_a_login_without_a_refresh_token_is_not_called_rejected(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    Grant.objects.update(refresh_token=None)
    with pytest.raises(LoginRequired, match="has no refresh token"):
        token_manager.obtain(age(grant, 0))
    assert partium_sandbox.count(endpoint="refresh") == 0


@pytest.mark.parametrize("missing", ["thread", "database"])
def test_a_key_whose_first_refresh_cannot_begin_is_not_called_revoked(
    token_manager: TokenManager, key_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    # The key's grant has no row yet; that does not mean that the key was revoked.
    key_id = key_grant().pk
    Grant.objects.all().delete()
    seen = state.read_keys([key_id])[0]
    with monkeypatch.context() as patch:
        patch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 0.3)
        if missing == "thread":
            patch.setattr(threading.Thread, "start", out_of_threads)
        else:
            patch.setattr(grants, "for_key", out_of_database)
        with pytest.raises(TokenUnavailable) as caught:
            token_manager.obtain(seen)
    assert isinstance(caught.value.__cause__, Saturated if missing == "thread" else OperationalError)
    eventually(lambda: not token_manager.refreshing)
    assert token_manager.obtain(seen).generation == 1


def out_of_threads(thread: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_a_refresh_that_waited_too_long_for_its_turn_is_dropped(
    password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # After an outage, refreshes that nobody waits for any more must not delay new ones.
    now = [0.0]
    token_manager = TokenManager(elapsed=lambda: now[0])
    held = [age(password_grant(), 120) for _ in range(THREADS_PER_UPSTREAM)]
    late = age(password_grant(), 120)
    with partium_sandbox.hang("refresh", times=THREADS_PER_UPSTREAM) as hang:
        for seen in held:
            token_manager.obtain(seen)
        hang.wait_until_met(THREADS_PER_UPSTREAM)
        token_manager.obtain(late)
        now[0] += QUEUED_SECONDS + 1
    eventually(lambda: not token_manager.refreshing)
    assert partium_sandbox.count(endpoint="refresh") == THREADS_PER_UPSTREAM
    assert token_manager.obtain(late).generation == 1
    eventually(lambda: read_id(late).generation == 2)


def read_id(seen: GrantState) -> GrantState:
    found = state.read(seen.grant_id)
    assert found is not None
    return found


# --- a commit that fails ---------------------------------------------------------------------------------------------------


def test_a_commit_that_fails_loses_nothing(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grant = password_grant()
    seen = age(grant, 0)
    up, commit = threading.Event(), lease.commit

    def fragile(*args: Any, **kwargs: Any) -> bool:
        if not up.is_set():
            raise OperationalError("the database has gone away")
        return commit(*args, **kwargs)

    monkeypatch.setattr(lease, "commit", fragile)
    refreshed = token_manager.obtain(seen)
    assert refreshed.generation == 2
    assert token_manager.obtain(read(grant)).value == refreshed.value  # from memory: the row knows nothing of it
    assert read(grant).generation == 1
    up.set()
    eventually(lambda: read(grant).generation == 2)
    eventually(lambda: not token_manager.refresher.pending)
    assert token_manager.obtain(age(grant, 0)).generation == 3  # the refresh token that came with it was kept
    assert partium_sandbox.count(endpoint="refresh", status=200) == 2


def test_what_another_process_has_stored_comes_before_what_this_one_could_not(
    token_manager: TokenManager, password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = password_grant()
    seen = age(grant, 0)
    with monkeypatch.context() as patch:
        patch.setattr(lease, "commit", out_of_database)
        assert token_manager.obtain(seen).generation == 2
        Grant.objects.update(generation=7, issued_at=time.time())
        assert token_manager.obtain(read(grant)).generation == 7
    eventually(lambda: not token_manager.refresher.pending)
    assert read(grant).generation == 7


def test_a_process_that_ends_waits_for_its_answer_and_stores_it(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grant = password_grant()
    drain, commit = threading.Thread(target=token_manager.drain), lease.commit

    def fragile(*args: Any, **kwargs: Any) -> bool:
        if threading.current_thread() is not drain:
            raise OperationalError("the threads in the background may not get round to it")
        return commit(*args, **kwargs)

    monkeypatch.setattr(lease, "commit", fragile)
    hang = partium_sandbox.hang("refresh")
    token_manager.obtain(age(grant, 120))
    hang.wait_until_met()
    drain.start()
    hang.release()
    drain.join(60)
    assert read(grant).generation == 2


def test_a_process_that_ends_waits_for_some_seconds_at_most(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # First with an answer that does not come, then with a database that is down.
    def drain() -> None:
        thread = threading.Thread(target=token_manager.drain, args=(0.2,), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    with monkeypatch.context() as patch:
        patch.setattr(lease, "commit", out_of_database)
        with partium_sandbox.hang("refresh") as hang:
            token_manager.obtain(age(password_grant(), 120))
            hang.wait_until_met()
            drain()
        eventually(lambda: bool(token_manager.refresher.pending))
        drain()
    eventually(lambda: not token_manager.refresher.pending)


def test_who_stops_the_process_is_not_held_up_by_a_refresh_in_the_callers_thread(
    token_manager: TokenManager, password_grant: MakeGrant, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PARTIUM_EXECUTOR = "inline"
    seen = age(password_grant(), 0)

    def interrupted(*args: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(send_credential, "send_credential", interrupted)
    with pytest.raises(KeyboardInterrupt):
        token_manager.obtain(seen)
    assert not token_manager.refreshing


def test_an_event_loop_that_is_gone_is_not_told(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = age(password_grant(), 30)
    with partium_sandbox.hang("refresh"):
        assert async_to_sync(token_manager.aobtain)(seen).generation == 1
    eventually(lambda: read_id(seen).generation == 2)
    eventually(lambda: not token_manager.refreshing)
    assert "exception calling callback" not in caplog.text


# --- one upstream and another ------------------------------------------------------------------------------------------------


def test_one_hanging_upstream_delays_no_other(
    token_manager: TokenManager, password_grant: MakeGrant, oidc_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # With one queue for all, two refreshes that hang occupy every thread.
    partium = [age(password_grant(), 120) for _ in range(THREADS_PER_UPSTREAM + 1)]
    provider = oidc_grant()
    with partium_sandbox.hang("refresh") as hang:
        for seen in partium:
            token_manager.obtain(seen)
        hang.wait_until_met(THREADS_PER_UPSTREAM)
        assert token_manager.obtain(age(provider, 30)).generation == 2
    eventually(lambda: not token_manager.refreshing)


def test_a_grant_that_was_ended_or_is_leased_to_another_sends_nothing(password_grant: MakeGrant) -> None:
    grant, mine = password_grant(), uuid.uuid4()
    assert lease.take(grant.pk, 1, mine)
    assert not lease.mark_sent(grant.pk, 1, uuid.uuid4())
    assert lease.mark_sent(grant.pk, 1, mine)
    assert grants.revoke(Grant.objects.all()) == 1
    assert not lease.mark_sent(grant.pk, 1, mine)
    lease.release(grant.pk, mine, sent_at=None)
    assert not lease.take(grant.pk, 1, mine)
    assert grants.revoke(Grant.objects.all()) == 0  # and revoked_at stays what it was


def test_a_key_that_was_refused_is_tried_again_when_its_minute_is_over(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = key_grant()
    partium_sandbox.fail("auth", status=401, times=1)
    for _ in range(2):
        with pytest.raises(KeyRejected):
            token_manager.obtain(read(grant))
    assert partium_sandbox.count(endpoint="auth") == 1
    Grant.objects.update(next_attempt_at=ago(1))
    assert token_manager.obtain(read(grant)).generation == 1


def test_who_has_lost_a_lease_changes_nothing_of_its_next_holder(password_grant: MakeGrant) -> None:
    made, mine, theirs = password_grant(), uuid.uuid4(), uuid.uuid4()
    tokens = TokenResponse("late", "late", 600)
    assert lease.take(made.pk, 1, mine)
    Grant.objects.update(lease_until=ago(1))
    assert not lease.mark_sent(made.pk, 1, mine)
    assert lease.take(made.pk, 1, theirs)
    before = Grant.objects.values().get()
    lease.record_failure(made.pk, 1, mine, retry_in_seconds=60, sent_at=None)
    lease.record_rejection(made.pk, 1, mine, retry_in_seconds=None)
    lease.release(made.pk, mine, sent_at=None)
    assert not lease.commit(made, tokens, 0.0, generation=0)
    assert Grant.objects.values().get() == before
    lease.record_rejection(made.pk, 1, theirs, retry_in_seconds=None)
    assert Grant.objects.get().rejected_at is not None
    assert not lease.commit(made, tokens, 0.0, generation=1)
    assert Grant.objects.get().refresh_token is None


def test_a_lease_is_given_back_with_the_mark_that_was_there(password_grant: MakeGrant) -> None:
    made, mine, mark = password_grant(), uuid.uuid4(), ago(100)
    assert lease.take(made.pk, 1, mine)
    assert lease.mark_sent(made.pk, 1, mine)
    lease.release(made.pk, mine, sent_at=mark)
    row = Grant.objects.get()
    assert (row.lease_id, row.lease_until, row.sent_at) == (None, None, mark)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_is_unavailable_says_when_the_fleet_asks_again(
    token_manager: TokenManager, key_grant: MakeGrant, asynchronous: bool
) -> None:
    grant = key_grant()
    Grant.objects.update(next_attempt_at=ago(-120))
    with pytest.raises(TokenUnavailable) as caught:
        async_to_sync(token_manager.aobtain)(read(grant)) if asynchronous else token_manager.obtain(read(grant))
    assert 110 <= caught.value.retry_after <= 121


def test_the_next_key_takes_over_in_an_async_view_too(
    token_manager: TokenManager, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    first, second = key_grant(), key_grant()
    partium_sandbox.fail("auth", status=401, times=1)
    assert async_to_sync(token_manager.aobtain_first)([read(first), read(second)]).grant_id == second.pk
    with pytest.raises(KeyRejected):
        async_to_sync(token_manager.aobtain_first)([read(first)])
    with pytest.raises(NoUsableKey):
        async_to_sync(token_manager.aobtain_first)([])


def test_a_session_key_that_does_not_open_stops_no_revocation(
    password_grant: MakeGrant, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    made = [password_grant(), password_grant()]
    settings.PARTIUM_ENCRYPTION_KEYS = ["other:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
    assert grants.revoke(Grant.objects.all(), delete_sessions=True) == len(made)
    assert caplog.text.count("cannot be deleted") == len(made)


def test_in_the_mandatory_window_a_hanging_upstream_costs_half_a_second(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # It waits for one refresh once.
    seen = age(password_grant(), 30)
    with partium_sandbox.hang("refresh"):
        began = time.monotonic()
        assert token_manager.obtain(seen).generation == 1
        assert 0.4 <= time.monotonic() - began < 4
