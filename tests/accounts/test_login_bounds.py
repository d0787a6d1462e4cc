"""Logins at an upstream that hangs or fails: how many wait for it, and what the others are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from partium_auth.models import Outage, UsedOnce
from partium_auth.testing.sandbox import PartiumSandbox
from tests.oidc.conftest import Browser, add_provider
from tests.oidc.provider import Answer, BendableProvider
from tests.tokens.conftest import ago, eventually

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "correct horse: battery"


@pytest.fixture(autouse=True)
def _two_at_once(settings: Any) -> None:
    settings.PARTIUM_REFRESH_THREADS = 1


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def quick_time_outs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partium_auth.oidc.token_endpoint.EXCHANGE_SECONDS", 0.3)


def come_back(browser: Browser, answer: dict[str, str]) -> Any:
    """The callback, in a thread of a pool."""
    try:
        return browser.come_back(answer)
    finally:
        connections.close_all()


def logs_in(browser: Browser, answer: dict[str, str]) -> bool:
    return bool(come_back(browser, answer).status_code == 302)


def post(client: Client, password: str = PASSWORD) -> Any:
    try:
        return client.post("/partium/login/", {"username": "Ann", "password": password})
    finally:
        connections.close_all()


def started(op: BendableProvider, number: int) -> list[tuple[Browser, dict[str, str]]]:
    """So many visitors who are logged in at the provider and have not come back yet."""
    visitors = [Browser(op) for _ in range(number)]
    return [(visitor, op.authorize(visitor.start())) for visitor in visitors]


def assert_later(response: Any) -> None:
    assert response.status_code == 503
    assert 1 <= int(response.headers["Retry-After"]) <= 300
    assert "no-store" in response.headers["Cache-Control"]
    page = response.content.decode()
    assert 'role="alert"' in page
    assert "Reference" in page


def end_the_outage() -> None:
    """Let the next probe be due; a process looks once a second."""
    Outage.objects.update(next_probe_at=ago(1))


def test_only_so_many_codes_are_redeemed_at_once_and_the_others_can_reload_the_page(
    op: BendableProvider, pool: ThreadPoolExecutor
) -> None:
    (first, second, *others) = started(op, 5)
    op.answers["/token"] = Answer(hangs=True)
    waiting = [pool.submit(come_back, *visitor) for visitor in (first, second)]
    eventually(lambda: op.calls.count("/token") == 2)
    for visitor, answer in others:
        response = come_back(visitor, answer)
        assert_later(response)
        assert f'http-equiv="refresh" content="{response.headers["Retry-After"]}"' in response.content.decode()
    assert op.calls.count("/token") == 2
    assert UsedOnce.objects.count() == 2
    del op.answers["/token"]
    op.released.set()
    assert [call.result(30).status_code for call in waiting] == [503, 503]
    Outage.objects.all().delete()
    for visitor, answer in others:
        eventually(partial(logs_in, visitor, answer))
        assert visitor.user is not None


def test_logins_leave_a_thread_for_other_pages_whichever_upstream_they_ask(
    op: BendableProvider, other_op: BendableProvider, pool: ThreadPoolExecutor, settings: Any
) -> None:
    settings.PARTIUM_MAX_WAITING = 1  # threads, less one: a server of two
    add_provider(other_op)
    visitors = started(op, 2)
    other = Browser(other_op)
    answer = other_op.authorize(other.start("other"))
    op.answers["/token"] = Answer(hangs=True)
    waiting = pool.submit(come_back, *visitors[0])
    eventually(lambda: op.calls.count("/token") == 1)
    assert_later(come_back(*visitors[1]))
    assert_later(other.come_back(answer, "other"))
    op.released.set()
    assert waiting.result(30).status_code == 503
    assert other.come_back(answer, "other").status_code == 302


def test_logins_at_another_provider_go_on(
    op: BendableProvider, other_op: BendableProvider, pool: ThreadPoolExecutor
) -> None:
    add_provider(other_op)
    visitors = started(op, 3)
    op.answers["/token"] = Answer(hangs=True)
    waiting = [pool.submit(come_back, *visitor) for visitor in visitors[:2]]
    eventually(lambda: op.calls.count("/token") == 2)
    assert_later(come_back(*visitors[2]))
    assert Browser(other_op).log_in("other").status_code == 302
    op.released.set()
    assert [call.result(30).status_code for call in waiting] == [503, 503]


def test_userinfo_counts_too(op: BendableProvider, pool: ThreadPoolExecutor, settings: Any) -> None:
    op.claims = {"sub": "ann-1"}  # without an address the ID token is not enough
    settings.OIDC_RP_SCOPES = "openid email"
    visitors = started(op, 3)
    op.answers["/userinfo"] = Answer(hangs=True)
    waiting = [pool.submit(come_back, *visitor) for visitor in visitors[:2]]
    eventually(lambda: op.calls.count("/userinfo") == 2)
    assert_later(come_back(*visitors[2]))
    op.released.set()
    assert [call.result(30).status_code for call in waiting] == [302, 302]  # the login goes on with the ID token


def test_a_time_out_is_remembered_and_the_next_callback_sends_nothing(
    op: BendableProvider,
    quick_time_outs: None,
    caplog: pytest.LogCaptureFixture,
    django_assert_num_queries: Any,
) -> None:
    (first, second, third) = started(op, 3)
    op.answers["/token"] = Answer(hangs=True)
    assert come_back(*first).status_code == 503
    assert Outage.objects.get().upstream == "oidc:default"
    caplog.clear()
    caplog.set_level(logging.INFO, "partium_auth.login")
    with django_assert_num_queries(0):
        assert_later(second[0].come_back(second[1]))
    assert op.calls.count("/token") == 1
    lines = [record for record in caplog.records if record.name == "partium_auth.login"]
    assert [record.levelno for record in lines] == [logging.INFO]

    del op.answers["/token"]
    op.released.set()
    end_the_outage()
    eventually(partial(logs_in, *second))
    assert not Outage.objects.exists()
    assert come_back(*third).status_code == 302


def test_a_made_up_state_or_a_cancelled_login_is_told_so_during_an_outage(
    op: BendableProvider, quick_time_outs: None
) -> None:
    (first, second) = started(op, 2)
    op.answers["/token"] = Answer(hangs=True)
    assert come_back(*first).status_code == 503
    assert come_back(second[0], {"code": "x", "state": "made up"}).status_code == 400
    cancelled = {"error": "access_denied", "state": second[1]["state"]}
    assert come_back(second[0], cancelled).status_code == 403


def test_a_callback_that_is_replayed_does_not_use_up_the_probe(op: BendableProvider, quick_time_outs: None) -> None:
    (first, second) = started(op, 2)
    op.answers["/token"] = Answer(hangs=True)
    cookies = SimpleCookie(first[0].client.cookies.output(header="", sep=";"))
    assert come_back(*first).status_code == 503
    del op.answers["/token"]
    op.released.set()
    end_the_outage()
    first[0].client.cookies = cookies
    eventually(lambda: come_back(*first).status_code == 400)
    assert logs_in(*second)


@pytest.mark.parametrize("answer", [Answer(400, {"error": "invalid_request"}), Answer(500), Answer(429)])
def test_what_a_visitor_may_have_caused_is_no_outage(op: BendableProvider, answer: Answer) -> None:
    visitors = started(op, 4)
    op.answers["/token"] = answer
    for visitor in visitors:
        come_back(*visitor)
    assert op.calls.count("/token") == 4
    assert not Outage.objects.exists()


def test_only_so_many_passwords_are_verified_at_once(partium_sandbox: PartiumSandbox, pool: ThreadPoolExecutor) -> None:
    partium_sandbox.add_user("Ann", PASSWORD, "acme")
    with partium_sandbox.hang("auth", times=2) as hang:
        waiting = [pool.submit(post, Client()) for _ in range(2)]
        hang.wait_until_met(2)
        response = post(Client())
        assert_later(response)
        page = response.content.decode()
        assert 'name="password"' in page
        assert PASSWORD not in page
        assert partium_sandbox.count(endpoint="auth") == 2
        hang.release()
    assert [call.result(30).status_code for call in waiting] == [302, 302]
    assert post(Client()).status_code == 302


def test_the_password_form_answers_at_once_while_partium_fails(
    partium_sandbox: PartiumSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    partium_sandbox.add_user("Ann", PASSWORD, "acme")
    with partium_sandbox.fail("auth", status=503, retry_after=40):
        assert_later(post(Client()))
        assert Outage.objects.get().upstream == "partium"
        response = post(Client())
    assert_later(response)
    assert 38 <= int(response.headers["Retry-After"]) <= 40
    assert partium_sandbox.count(endpoint="auth") == 1
    assert not [record for record in caplog.records if record.name == "django.request"]
    end_the_outage()
    eventually(lambda: "wrong" in post(Client(), "another").content.decode())
    assert not Outage.objects.exists()  # a wrong password is an answer that only a working upstream gives
    assert post(Client()).status_code == 302
