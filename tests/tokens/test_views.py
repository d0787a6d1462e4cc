"""A site's views, sync and async, through Django's own handlers: what a refresh survives, and what a visitor is told."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.db import connection, connections
from django.test import AsyncClient, Client
from pytest_django import Settings

from partium_auth.accounts.sessions import GRANT
from partium_auth.models import Grant, Membership, Organization
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens.manager import PATIENCE_SECONDS, TokenManager, token_manager
from tests.tokens.conftest import PASSWORD, Person, age, eventually, let_time_pass, read

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.tokens.urls")]
LogIn = Callable[..., Person]


@pytest.fixture
def ann(acme: Organization, log_in: LogIn) -> Person:
    return log_in(acme)


def grant_of(person: Person) -> Grant:
    assert person.grant is not None
    return person.grant


def client_of(person: Person, client: Client | AsyncClient | None = None) -> Any:
    """A browser with the person's session; a server error is a response, as it is for a browser."""
    browser = client or Client(raise_request_exception=False)
    browser.force_login(person.user)
    session = browser.session
    session[GRANT] = str(grant_of(person).pk)
    session.save()
    return browser


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


def nothing_is_refreshing() -> bool:
    return not token_manager.refreshing


# --- what a visitor is told ------------------------------------------------------------------------------------------------


def test_a_fault_of_the_upstream_is_503_with_retry_after_and_nobody_is_logged_out(
    ann: Person, partium_sandbox: PartiumSandbox
) -> None:
    browser = client_of(ann)
    age(grant_of(ann), 5)
    session = dict(browser.session.items())
    with partium_sandbox.fail("refresh", status=503, retry_after=40):
        response = browser.get("/token/")
    assert response.status_code == 503
    assert 38 <= int(response["Retry-After"]) <= 40
    assert dict(browser.session.items()) == session
    let_time_pass()
    assert browser.get("/token/").json() == {"generation": 2}


def test_a_fault_of_the_upstream_is_not_seen_while_the_token_is_good(
    ann: Person, partium_sandbox: PartiumSandbox
) -> None:
    browser = client_of(ann)
    with partium_sandbox.fail("refresh", status=503):
        for seconds_left in (200, 120, 50, 20):
            age(grant_of(ann), seconds_left)
            assert browser.get("/token/").json() == {"generation": 1}
        eventually(nothing_is_refreshing)


# --- what a refresh survives --------------------------------------------------------------------------------------------------


def test_a_refresh_survives_the_rollback_of_the_view_that_asked_for_it(
    ann: Person, atomic_requests: None, partium_sandbox: PartiumSandbox
) -> None:
    # The refresh threads have their own connections. Inline, the view's roll-back would lose the rotated refresh token.
    browser = client_of(ann)
    age(grant_of(ann), 30)
    assert browser.get("/token-then-failure/").status_code == 500
    eventually(lambda: read(grant_of(ann)).generation == 2, seconds=25)
    age(grant_of(ann), 0)
    assert browser.get("/token/", follow=True).json() == {"generation": 3}
    assert partium_sandbox.count(endpoint="refresh", status=200) == 2


def test_a_hosts_session_data_survives_a_refresh_and_a_failure_beside_it(
    ann: Person, partium_sandbox: PartiumSandbox
) -> None:
    # Only login, logout and a switch of organization write the session.
    browser, same = client_of(ann), Client(raise_request_exception=False)
    same.cookies = browser.cookies
    age(grant_of(ann), 5)
    statuses: list[int] = []

    def fail() -> None:
        statuses.append(browser.get("/token-then-failure/").status_code)
        connections.close_all()

    with partium_sandbox.hang("refresh") as hang:
        request = threading.Thread(target=fail)
        request.start()
        hang.wait_until_met()
        assert same.get("/cart/").status_code == 200
        hang.release()
        request.join(60)
    assert statuses == [500]
    assert same.session["cart"] == ["fan"]
    assert same.session[GRANT] == str(grant_of(ann).pk)
    assert same.get("/token/").json() == {"generation": 2}


def test_a_page_that_has_written_on_sqlite_is_asked_for_again_with_the_refreshed_token(
    ann: Person, atomic_requests: None, partium_sandbox: PartiumSandbox
) -> None:
    # Otherwise the view waits five seconds for a refresh that waits for the view's transaction.
    browser = client_of(ann)
    age(grant_of(ann), 5)
    started_at = time.monotonic()
    response = browser.get("/write-then-token/?q=fan", follow=True)
    assert time.monotonic() - started_at < PATIENCE_SECONDS / 2
    assert response.json() == {"generation": 2}
    if connection.vendor == "sqlite":
        assert response.redirect_chain == [("/write-then-token/?q=fan", 302)]
    assert User.objects.get().first_name == "written"
    assert partium_sandbox.count(endpoint="refresh") == 1


@pytest.mark.parametrize(
    ("method", "query"), [("post", ""), ("get", "?q=" + 2000 * "a")], ids=["a POST", "what no redirect can hold"]
)
def test_what_cannot_be_repeated_on_sqlite_says_try_again(
    ann: Person, atomic_requests: None, partium_sandbox: PartiumSandbox, method: str, query: str
) -> None:
    browser = client_of(ann)
    ask = functools.partial(getattr(browser, method), f"/write-then-token/{query}")
    age(grant_of(ann), 5)
    response = ask()
    if connection.vendor == "sqlite":
        assert response.status_code == 503
        assert User.objects.get().first_name == ""  # rolled back, like after any error
        eventually(lambda: read(grant_of(ann)).generation == 2)
        response = ask()
    assert response.json() == {"generation": 2}
    assert User.objects.get().first_name == "written"
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_page_is_not_asked_for_again_while_the_upstream_fails(
    ann: Person, atomic_requests: None, partium_sandbox: PartiumSandbox
) -> None:
    browser = client_of(ann)
    age(grant_of(ann), 5)
    partium_sandbox.fail("refresh", status=503, retry_after=40)
    response = browser.get("/write-then-token/")
    assert response.status_code == 503
    assert 38 <= int(response["Retry-After"]) <= 40
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_an_organizations_key_serves_what_is_posted_on_sqlite(
    acme: Organization, log_in: LogIn, key_grant: Callable[[], Grant], atomic_requests: None
) -> None:
    acme.token_source = Organization.TokenSource.API_KEY
    acme.save()
    person = log_in(acme, kind=None)
    key_grant()
    browser = Client()
    browser.force_login(person.user)
    assert browser.post("/write-then-token/").json() == {"generation": 1}


# --- async -----------------------------------------------------------------------------------------------------------------------


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in an event loop of its own."""

    async def and_close() -> None:
        try:
            await main()
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(and_close())


@pytest.mark.parametrize("seconds_left", [5, 30])
def test_the_event_loop_goes_on_while_an_async_view_waits_for_a_refresh(
    ann: Person, partium_sandbox: PartiumSandbox, seconds_left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A blocked event loop runs nothing of this until the wait is over.
    monkeypatch.setattr("partium_auth.tokens.manager.BRIEF_SECONDS", PATIENCE_SECONDS)
    browser = client_of(ann, AsyncClient())
    age(grant_of(ann), seconds_left)

    async def main() -> None:
        with partium_sandbox.hang("refresh") as hang:
            request = asyncio.create_task(browser.get("/atoken/"))
            await asyncio.to_thread(hang.wait_until_met)
            heartbeats = 0
            while heartbeats < 1000:
                await asyncio.sleep(0)
                heartbeats += 1
            assert not request.done()
            hang.release()
            assert (await request).json() == {"generation": 2}

    run(main)
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_an_async_view_waits_for_another_processes_refresh(ann: Person, partium_sandbox: PartiumSandbox) -> None:
    browser = client_of(ann, AsyncClient())
    seen = age(grant_of(ann), 0)

    async def main() -> None:
        with partium_sandbox.hang("refresh") as hang:
            other = asyncio.create_task(TokenManager().aobtain(seen))
            await asyncio.to_thread(hang.wait_until_met)
            request = asyncio.create_task(browser.get("/atoken/"))
            assert not (await asyncio.wait([request], timeout=0.3))[0]  # it polls, and the lease is the other's
            hang.release()
            assert (await request).json() == {"generation": 2}
            assert (await other).generation == 2

    run(main)
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_client_that_disconnects_takes_nothing_with_it(ann: Person, partium_sandbox: PartiumSandbox) -> None:
    # If the disconnect cancelled the refresh, the other waiting callers would get no token.
    cookie = f"{django_settings.SESSION_COOKIE_NAME}={client_of(ann).session.session_key}"
    age(grant_of(ann), 5)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/atoken/",
        "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"cookie", cookie.encode())],
    }

    async def ask() -> Any:  # an ApplicationCommunicator, which has no types
        communicator: Any = ApplicationCommunicator(get_asgi_application(), scope)  # type: ignore[no-untyped-call]  # of asgiref
        await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
        return communicator

    async def main() -> None:
        with partium_sandbox.hang("refresh") as hang:
            leaves = await ask()
            await asyncio.to_thread(hang.wait_until_met)
            stays = await ask()
            await leaves.send_input({"type": "http.disconnect"})
            await leaves.wait(timeout=30)
            assert await leaves.receive_nothing()
            hang.release()
            start = await stays.receive_output(timeout=30)
            assert start["status"] == 200
            assert (await stays.receive_output())["body"] == b'{"generation": 2}'
            await stays.wait(timeout=30)

    run(main)
    assert partium_sandbox.count(endpoint="refresh") == 1
    age(grant_of(ann), 0)
    assert token_manager.obtain(read(grant_of(ann))).generation == 3


def test_an_async_search_replaces_a_refused_token_once(ann: Person, partium_sandbox: PartiumSandbox) -> None:
    browser = client_of(ann, AsyncClient())
    partium_sandbox.revoke_token(ann.token().value)

    async def main() -> None:
        responses = await asyncio.gather(*(browser.get("/asearch/") for _ in range(5)))
        assert all(response.json()["found"] for response in responses)

    run(main)
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_an_async_view_switches_the_organization(ann: Person, partium_sandbox: PartiumSandbox) -> None:
    globex = Organization.objects.create(org_id="globex", display_name="Globex")
    Membership.objects.create(user=ann.user, organization=globex)
    partium_sandbox.add_user("ann", PASSWORD, ["acme", "globex"])
    browser = client_of(ann, AsyncClient())

    async def main() -> None:
        response = await browser.get("/aswitch/")
        assert response.json() == {"before": "acme", "after": "globex", "all": ["acme", "globex"], "window": "fresh"}

    run(main)
    assert browser.session["_partium_organization"] == str(globex.pk)


def test_inline_an_async_view_refreshes_without_a_thread_of_ours(ann: Person, settings: Settings) -> None:
    settings.PARTIUM_EXECUTOR = "inline"
    browser = client_of(ann, AsyncClient())
    age(grant_of(ann), 5)

    async def main() -> None:
        assert (await browser.get("/atoken/")).json() == {"generation": 2}

    run(main)
