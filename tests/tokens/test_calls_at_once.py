"""An upstream that is slow does not hold all threads of a process: searches, and all other calls of a request's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from pytest_django import Settings

import partium_auth
from partium_auth.accounts import login_calls
from partium_auth.exceptions import TimedOut, TokenUnavailable
from partium_auth.host import waiting
from partium_auth.host.waiting import TooManyCalls, waiting_callers
from partium_auth.models import ApiKey, Grant, Organization
from partium_auth.partium.client import FindClient
from partium_auth.services import key_verification
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens.manager import token_manager
from tests.tokens.conftest import age, eventually

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]


def serve(do: Callable[[], Any]) -> Any:
    """Do something as a request of the site does, in a thread of its server."""
    waiting_callers().note_thread()
    try:
        return do()
    finally:
        connections.close_all()


@pytest.fixture
def client(acme: Organization, key_grant: MakeGrant, settings: Settings) -> FindClient:
    """A client that has its token already."""
    settings.PARTIUM_MAX_WAITING = 3
    Organization.objects.update(token_source=Organization.TokenSource.API_KEY)
    key_grant()
    made = partium_auth.for_organization("acme")
    assert made.search(text="fan").results
    return made


@pytest.fixture
def hanging(
    client: FindClient, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> Iterator[list[Future[Any]]]:
    """Three searches of four threads that Partium does not answer, for long already."""
    monkeypatch.setattr(waiting, "SLOW_SECONDS", 0.2)
    with partium_sandbox.hang("search") as hang:
        searches = [pool.submit(serve, lambda: client.search(text="fan")) for _ in range(3)]
        hang.wait_until_met(3)
        cut = pool.submit(serve, lambda: client.search(text="fan"))
        assert isinstance(cut.exception(30), TimedOut)  # the fourth: it was given SLOW_SECONDS
        yield searches
        hang.release()


def test_a_quick_upstream_is_asked_by_all_threads(
    client: FindClient, partium_sandbox: PartiumSandbox, pool: ThreadPoolExecutor
) -> None:
    with partium_sandbox.hang("search") as hang:
        searches = [pool.submit(serve, lambda: client.search(text="fan")) for _ in range(20)]
        hang.wait_until_met(20)
        hang.release()
        assert all(search.result(30).results for search in searches)


def test_searches_of_a_slow_upstream_leave_threads_to_other_pages(
    client: FindClient, hanging: list[Future[Any]], partium_sandbox: PartiumSandbox, pool: ThreadPoolExecutor
) -> None:
    asked = partium_sandbox.count(endpoint="search")
    for _ in range(3):
        error = pool.submit(serve, lambda: client.search(text="fan")).exception(30)
        assert isinstance(error, TooManyCalls)
        assert not error.sent
        assert error.retry_after
    assert partium_sandbox.count(endpoint="search") == asked
    assert not any(search.done() for search in hanging)


def test_a_slow_search_takes_the_place_of_a_caller_who_waits_for_a_token(
    hanging: list[Future[Any]], password_grant: MakeGrant, pool: ThreadPoolExecutor
) -> None:
    seen = age(password_grant(), 0)
    error = pool.submit(serve, lambda: token_manager.obtain(seen)).exception(30)
    assert isinstance(error, TokenUnavailable)
    assert "PARTIUM_MAX_WAITING" in str(error)
    eventually(lambda: read_generation(seen.grant_id) == 2)  # its refresh needs no thread of the server


def read_generation(grant_id: Any) -> int:
    return Grant.objects.values_list("generation", flat=True).get(pk=grant_id)


def test_another_upstream_is_asked_all_the_same(hanging: list[Future[Any]], pool: ThreadPoolExecutor) -> None:
    def ask() -> float:
        with waiting_callers().call("idp.example", 8.0) as seconds:
            return seconds

    assert pool.submit(serve, ask).result(30) == waiting.SLOW_SECONDS


def test_once_the_upstream_answers_everybody_searches(
    client: FindClient, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr(waiting, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "SLOW_HOST_SECONDS", 0.0)
    with partium_sandbox.hang("search") as hang:
        slow = [pool.submit(serve, lambda: client.search(text="fan")) for _ in range(3)]
        hang.wait_until_met(3)
        assert pool.submit(serve, lambda: client.search(text="fan")).exception(30)
        hang.release()
        assert all(search.result(30).results for search in slow)
    monkeypatch.setattr(waiting, "SLOW_SECONDS", 5.0)
    searches = [pool.submit(serve, lambda: client.search(text="fan")) for _ in range(8)]
    assert all(search.result(30).results for search in searches)


def test_a_key_is_not_verified_where_partium_is_slow_and_holds_enough_threads(
    hanging: list[Future[Any]], acme: Organization, pool: ThreadPoolExecutor
) -> None:
    verify = pool.submit(serve, lambda: key_verification.verify_at_partium(acme, "some-key"))
    assert verify.result(30).verification == ApiKey.Verification.UNVERIFIED


def test_jobs_and_async_code_hold_no_thread_of_the_server(
    client: FindClient, hanging: list[Future[Any]], partium_sandbox: PartiumSandbox, pool: ThreadPoolExecutor
) -> None:
    async def search() -> Any:
        return await client.asearch(text="fan", total_seconds=0.1)

    for ask in (async_to_sync(search), lambda: client.search(text="fan", total_seconds=0.1)):
        error = pool.submit(in_a_job, ask).exception(30)
        assert isinstance(error, TimedOut)  # it was sent


def test_searches_that_async_code_awaits_leave_its_own_threads_alone(
    client: FindClient, partium_sandbox: PartiumSandbox
) -> None:
    async def main() -> None:
        with partium_sandbox.hang("search") as hang:
            searches = [asyncio.create_task(client.asearch(text="fan")) for _ in range(60)]
            await asyncio.to_thread(hang.wait_until_met, 30, timeout_seconds=30)
            assert not any(search.done() for search in searches)
            hang.release()
            await asyncio.gather(*searches)

    async_to_sync(main)()


def test_a_login_that_has_a_place_needs_no_other(settings: Settings, pool: ThreadPoolExecutor) -> None:
    settings.PARTIUM_MAX_WAITING = 1

    def log_in() -> list[float]:
        with login_calls.turn("oidc:some"), waiting_callers().call("idp.example", 8.0) as inside:
            pass
        with waiting_callers().call("idp.example", 8.0) as after:
            pass
        return [inside, after]

    assert pool.submit(serve, log_in).result(30) == [8.0, 8.0]
    assert waiting_callers().total == 0


def in_a_job(do: Callable[[], Any]) -> Any:
    """Do something in a thread that serves no requests."""

    def closing() -> Any:
        try:
            return do()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as own:
        return own.submit(closing).result(30)
