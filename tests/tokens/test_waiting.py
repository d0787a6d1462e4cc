"""A site goes on while its upstream does not: how many callers wait, for how long, and who asks again."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from pytest_django import DjangoAssertNumQueries, Settings

from partium_auth.accounts import login_calls
from partium_auth.exceptions import TokenUnavailable
from partium_auth.host.waiting import waiting_callers
from partium_auth.middleware import PartiumMiddleware
from partium_auth.models import Grant, Outage
from partium_auth.signals import token_refreshed
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import lease
from partium_auth.tokens.manager import TokenManager
from partium_auth.tokens.refresh import NotSent
from tests.oidc.provider import Answer, BendableProvider
from tests.tokens.conftest import age, eventually, let_time_pass, out_of_database, read

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]


def obtain(manager: TokenManager, grant: Grant) -> int:
    """Obtain a token in a thread of a pool; return its generation."""
    try:
        return manager.obtain(read(grant)).generation
    finally:
        connections.close_all()


def failures_of(calls: list[Future[Any]]) -> list[TokenUnavailable]:
    return [error for call in calls if isinstance(error := call.exception(30), TokenUnavailable)]


def test_only_so_many_callers_wait_and_the_others_are_told_at_once(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    settings: Settings,
    pool: ThreadPoolExecutor,
) -> None:
    settings.PARTIUM_MAX_WAITING = 2
    grant = password_grant()
    age(grant, 0)
    with partium_sandbox.hang("refresh") as hang:
        waiting = [pool.submit(obtain, token_manager, grant) for _ in range(2)]
        hang.wait_until_met()
        eventually(lambda: token_manager.waiting.total == 2)
        others = [pool.submit(obtain, token_manager, grant) for _ in range(10)]
        assert [error.retry_after for error in failures_of(others)] == [1] * 10
        assert not any(call.done() for call in waiting)
        hang.release()
        assert [call.result(30) for call in waiting] == [2, 2]
    assert token_manager.waiting.total == 0


def test_a_token_that_still_serves_is_served_where_there_is_no_place_to_wait(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    settings: Settings,
    pool: ThreadPoolExecutor,
) -> None:
    settings.PARTIUM_MAX_WAITING = 1
    expired, aging = password_grant(), password_grant()
    age(expired, 0)
    age(aging, 30)
    with partium_sandbox.hang("refresh", times=2) as hang:
        waiting = pool.submit(obtain, token_manager, expired)
        hang.wait_until_met()
        eventually(lambda: token_manager.waiting.total == 1)
        assert pool.submit(obtain, token_manager, aging).result(30) == 1
        hang.release()
        assert waiting.result(30) == 2


def test_async_callers_hold_no_thread_and_more_of_them_may_wait(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    settings.PARTIUM_MAX_WAITING = 1
    seen = age(password_grant(), 0)

    async def main() -> list[int]:
        with partium_sandbox.hang("refresh") as hang:
            calls = [asyncio.create_task(token_manager.aobtain(seen)) for _ in range(40)]
            await asyncio.to_thread(hang.wait_until_met)
            hang.release()
            return [(await call).generation for call in calls]

    assert asyncio.run(main()) == [2] * 40


def test_a_stored_token_is_handed_out_whatever_its_refresh_does_next(
    token_manager: TokenManager, password_grant: MakeGrant
) -> None:
    """The site's receivers, and the verification of its ID token, which may ask the provider for its keys."""
    seen, go_on = age(password_grant(), 0), threading.Event()

    def listen(**_: object) -> None:
        go_on.wait(60)

    token_refreshed.connect(listen)
    try:
        assert token_manager.obtain(seen).generation == 2
    finally:
        go_on.set()
        token_refreshed.disconnect(listen)


def test_nobody_waits_for_a_refresh_that_others_have_waited_for_in_vain(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
    pool: ThreadPoolExecutor,
) -> None:
    monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 0.3)
    grant = password_grant()
    age(grant, 0)
    with partium_sandbox.hang("refresh") as hang:
        assert len(failures_of([pool.submit(obtain, token_manager, grant)])) == 1
        monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 60.0)
        (second,) = failures_of([pool.submit(obtain, token_manager, grant)])
        assert "without success" in str(second)
        hang.release()
    eventually(lambda: read(grant).generation == 2)
    assert obtain(token_manager, grant) == 2


def test_one_failure_is_the_upstreams_and_nobody_asks_until_the_pause_is_over(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = password_grant(), password_grant()
    age(first, 0)
    age(second, 0)
    with partium_sandbox.fail("refresh", status=503, retry_after=40):
        with pytest.raises(TokenUnavailable) as caught:
            token_manager.obtain(read(first))
        assert 38 <= caught.value.retry_after <= 40
        for manager in (token_manager, TokenManager()):  # the second is another process, which learns it from the row
            with pytest.raises(TokenUnavailable) as caught:
                manager.obtain(read(second))
            assert 38 <= caught.value.retry_after <= 40
    assert partium_sandbox.count(endpoint="refresh") == 1
    let_time_pass()
    assert obtain(token_manager, second) == obtain(token_manager, first) == 2
    assert not Outage.objects.exists()


def test_while_an_upstream_fails_callers_are_turned_away_without_a_query(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr("partium_auth.tokens.outages.LOOK_SECONDS", 60.0)
    seen = age(password_grant(), 0)
    partium_sandbox.fail("refresh", status=503, retry_after=40)
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(seen)
    eventually(lambda: not token_manager.refreshing)
    with django_assert_num_queries(0):
        for _ in range(5):
            with pytest.raises(TokenUnavailable):
                token_manager.obtain(seen)


def test_one_caller_of_the_fleet_probes(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, pool: ThreadPoolExecutor
) -> None:
    grant, other = password_grant(), password_grant()
    age(grant, 0)
    age(other, 0)
    with partium_sandbox.fail("refresh", status=502), pytest.raises(TokenUnavailable):
        token_manager.obtain(read(grant))
    let_time_pass()
    with partium_sandbox.hang("refresh") as hang:
        probe = pool.submit(obtain, token_manager, grant)
        hang.wait_until_met()
        assert len(failures_of([pool.submit(obtain, TokenManager(), other)])) == 1
        hang.release()
        assert probe.result(30) == 2
    assert partium_sandbox.count(endpoint="refresh") == 2
    assert obtain(token_manager, other) == 2


def test_the_first_success_of_any_process_lets_everybody_go_on(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    first, second = password_grant(), password_grant()
    age(first, 0)
    age(second, 0)
    with partium_sandbox.fail("refresh", status=502), pytest.raises(TokenUnavailable):
        token_manager.obtain(read(first))
    let_time_pass()
    assert obtain(TokenManager(), second) == 2  # another process, which has learned of the outage from the row
    assert not Outage.objects.exists()
    assert obtain(token_manager, first) == 2


def test_a_refreshed_token_is_stored_before_the_end_of_an_outage_is_noted(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The refresh token that came with it is a new one: losing it ends the login.
    grant = password_grant()
    seen = age(grant, 0)
    with partium_sandbox.fail("refresh", status=502), pytest.raises(TokenUnavailable):
        token_manager.obtain(seen)
    let_time_pass()
    with monkeypatch.context() as patch:
        patch.setattr(QuerySet, "delete", out_of_database)
        assert obtain(token_manager, grant) == 2
    assert read(grant).generation == 2
    assert Outage.objects.exists()
    let_time_pass()
    age(grant, 0)
    assert obtain(token_manager, grant) == 3
    assert not Outage.objects.exists()


@pytest.mark.parametrize("why", ["the lease is held", "the grant has gone on", "the send deadline has passed"])
def test_a_probe_that_sends_nothing_lets_somebody_else_probe_at_once(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    grant, other = password_grant(), password_grant()
    seen = age(grant, 0)
    age(other, 0)
    with partium_sandbox.fail("refresh", status=502), pytest.raises(TokenUnavailable):
        token_manager.obtain(seen)
    let_time_pass()
    with monkeypatch.context() as patch:
        if why == "the send deadline has passed":
            patch.setattr("partium_auth.tokens.refresh.SEND_DEADLINE_SECONDS", -1.0)
            with pytest.raises(NotSent):
                token_manager.refresher.refresh(seen)
        else:
            patch.setattr(
                lease, *(("take", lambda *_: False) if why == "the lease is held" else ("load", lambda _: None))
            )
            assert token_manager.refresher.refresh(seen) is None
    assert obtain(TokenManager(), other) == 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refusals_without_a_reason_are_an_outage_when_several_grants_meet_them(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, status: int
) -> None:
    """One odd answer is about one grant; a gateway in the upstream's place answers everybody so."""
    grants = [password_grant() for _ in range(3)]
    with partium_sandbox.fail("refresh", status=status, body={"message": "blocked"}):
        for number, grant in enumerate(grants, start=1):
            with pytest.raises(TokenUnavailable):
                token_manager.obtain(age(grant, 0))
            assert Outage.objects.exists() is (number == 3)
    let_time_pass()
    assert [obtain(token_manager, grant) for grant in grants] == [2, 2, 2]


def test_an_outage_is_logged_when_it_begins_and_when_it_is_over(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = age(password_grant(), 0)
    caplog.set_level(logging.INFO, "partium_auth.tokens")
    with partium_sandbox.fail("refresh", status=503):
        for _ in range(20):
            with pytest.raises(TokenUnavailable):
                token_manager.obtain(seen)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "partium fails" in lines[0]
    assert "status 503" in lines[0]
    let_time_pass()
    token_manager.obtain(seen)
    assert any("partium is back" in record.getMessage() for record in caplog.records)


def test_as_many_refreshes_run_at_once_as_the_setting_says(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    settings.PARTIUM_REFRESH_THREADS = 4
    grants = [age(password_grant(), 120) for _ in range(5)]
    with partium_sandbox.hang("refresh", times=4) as hang:
        for seen in grants:
            token_manager.obtain(seen)
        hang.wait_until_met(4)
        assert sum(thread.name == "partium-partium" for thread in threading.enumerate()) >= 4
        hang.release()
    eventually(lambda: Grant.objects.filter(generation=2).count() == 5)


# --- how many may wait where no setting says it --------------------------------------------------------------------------


def note_threads(manager: TokenManager, pool: ThreadPoolExecutor, number: int) -> None:
    """Let so many threads of a pool serve a request at the same time, as the middleware notes it."""
    together = threading.Barrier(number)

    def serve() -> None:
        manager.waiting.note_thread()
        together.wait(30)

    for call in [pool.submit(serve) for _ in range(number)]:
        call.result(30)


@pytest.mark.parametrize(("threads", "limit"), [(1, 2), (3, 2), (4, 3), (8, 6), (16, 12)])
def test_a_quarter_of_the_servers_threads_is_kept_for_pages_without_a_token(
    token_manager: TokenManager, settings: Settings, pool: ThreadPoolExecutor, threads: int, limit: int
) -> None:
    del settings.PARTIUM_MAX_WAITING
    note_threads(token_manager, pool, threads)
    note_threads(token_manager, pool, threads)  # a thread that serves again is no other thread
    assert token_manager.waiting.limit == limit


def test_the_middleware_notes_the_threads_that_serve(settings: Settings) -> None:
    del settings.PARTIUM_MAX_WAITING
    together = threading.Barrier(40)

    def view(request: HttpRequest) -> HttpResponse:
        together.wait(30)
        return HttpResponse()

    def serve() -> None:
        request = HttpRequest()
        request.session = SessionStore()
        PartiumMiddleware(view)(request)

    with ThreadPoolExecutor(40) as server:
        for call in [server.submit(serve) for _ in range(40)]:
            call.result(30)
        assert waiting_callers().limit >= 30


def test_threads_that_have_ended_do_not_count(token_manager: TokenManager, settings: Settings) -> None:
    del settings.PARTIUM_MAX_WAITING
    with ThreadPoolExecutor(16) as pool:
        note_threads(token_manager, pool, 16)
        assert token_manager.waiting.limit == 12
    eventually(lambda: token_manager.waiting.limit == 2)


def test_with_four_server_threads_the_fourth_caller_is_told_at_once(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    settings: Settings,
    pool: ThreadPoolExecutor,
) -> None:
    del settings.PARTIUM_MAX_WAITING
    note_threads(token_manager, pool, 4)
    grant = password_grant()
    age(grant, 0)
    with partium_sandbox.hang("refresh") as hang:
        waiting = [pool.submit(obtain, token_manager, grant) for _ in range(3)]
        hang.wait_until_met()
        eventually(lambda: token_manager.waiting.total == 3)
        assert len(failures_of([pool.submit(obtain, token_manager, grant)])) == 1
        hang.release()
        assert [call.result(30) for call in waiting] == [2, 2, 2]


def test_a_thread_that_django_made_for_one_request_keeps_nobody_waiting(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    """Sync views under ASGI."""
    settings.PARTIUM_MAX_WAITING = 1
    grant = password_grant()
    age(grant, 0)

    async def request() -> int:
        async with ThreadSensitiveContext():
            return await sync_to_async(obtain)(token_manager, grant)

    async def main() -> list[int]:
        with partium_sandbox.hang("refresh") as hang:
            calls = [asyncio.create_task(request()) for _ in range(10)]
            await asyncio.to_thread(hang.wait_until_met)
            await asyncio.to_thread(eventually, lambda: token_manager.waiting.total == 10)
            hang.release()
            return [await call for call in calls]

    assert asyncio.run(main()) == [2] * 10


# --- Django's connection pool --------------------------------------------------------------------------------------------


@pytest.fixture
def pooled() -> Iterator[Callable[[], BaseDatabaseWrapper]]:
    """Make the calling thread's connection look like one of a pool's, until it is closed."""
    made: list[BaseDatabaseWrapper] = []

    def take() -> BaseDatabaseWrapper:
        wrapper = connections["default"]
        wrapper.ensure_connection()
        wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": {"pool": True}}
        made.append(wrapper)
        return wrapper

    yield take
    for wrapper in made:
        wrapper.settings_dict = connections.settings["default"]


only_one = pytest.mark.skipif(connection.vendor != "sqlite", reason="a real pool: `make chaos`, row pool")


@only_one
def test_a_caller_that_waits_gives_its_pooled_connection_back(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    pool: ThreadPoolExecutor,
    pooled: Callable[[], BaseDatabaseWrapper],
) -> None:
    seen = age(password_grant(), 0)
    used: list[BaseDatabaseWrapper] = []

    def wait() -> int:
        used.append(pooled())
        return token_manager.obtain(seen).generation

    with partium_sandbox.hang("refresh") as hang:
        waiting = pool.submit(wait)
        hang.wait_until_met()
        eventually(lambda: used[0].connection is None)
        hang.release()
        assert waiting.result(30) == 2


@only_one
def test_an_async_caller_that_waits_gives_its_requests_pooled_connection_back(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    pooled: Callable[[], BaseDatabaseWrapper],
) -> None:
    seen = age(password_grant(), 0)

    async def main() -> int:
        async with ThreadSensitiveContext():  # as Django's ASGI handler does for each request
            used = await sync_to_async(pooled)()
            with partium_sandbox.hang("refresh") as hang:
                waiting = asyncio.create_task(token_manager.aobtain(seen))
                await asyncio.to_thread(hang.wait_until_met)
                await asyncio.to_thread(eventually, lambda: used.connection is None)
                hang.release()
                return (await waiting).generation

    assert asyncio.run(main()) == 2


@only_one
def test_in_a_transaction_of_a_pooled_connection_waiting_is_pointless_and_ends_soon(
    token_manager: TokenManager,
    oidc_grant: MakeGrant,
    op: BendableProvider,
    monkeypatch: pytest.MonkeyPatch,
    pool: ThreadPoolExecutor,
    pooled: Callable[[], BaseDatabaseWrapper],
) -> None:
    monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 60.0)
    seen = age(oidc_grant(), 0)
    op.answers["/token"] = Answer(hangs=True)

    def wait() -> None:
        wrapper = pooled()
        wrapper.in_atomic_block = True
        try:
            token_manager.obtain(seen)
        finally:
            wrapper.in_atomic_block = False
            wrapper.close()

    (error,) = failures_of([pool.submit(wait)])
    op.released.set()
    assert "read the token before writing" in str(error)


@only_one
def test_a_login_gives_its_pooled_connection_back_while_it_asks(
    pool: ThreadPoolExecutor, pooled: Callable[[], BaseDatabaseWrapper]
) -> None:
    def log_in() -> bool:
        wrapper = pooled()
        with login_calls.noted_outcome("oidc:some"):
            return wrapper.connection is None

    assert pool.submit(log_in).result(30)
