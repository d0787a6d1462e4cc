"""What can be asked to go wrong, as a client sees it."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from partium_auth.testing.sandbox import ACME_KEY, GLOBEX_KEY, PartiumSandbox
from partium_auth.testing.sandbox.faults import GARBAGE

from .conftest import Caller


def _refresh_token(caller: Caller) -> str:
    return str(caller.exchange().json()["refresh_token"])


def test_a_fault_happens_as_often_as_asked(sandbox: PartiumSandbox, caller: Caller) -> None:
    fault = sandbox.fail("auth", status=500, times=2)
    assert [caller.exchange().status_code for _ in range(3)] == [500, 500, 200]
    assert fault.hits == 2


def test_a_fault_lasts_until_it_is_cleared(sandbox: PartiumSandbox, caller: Caller) -> None:
    with sandbox.fail("auth", status=500):
        assert [caller.exchange().status_code for _ in range(3)] == [500] * 3
    assert caller.exchange().status_code == 200


def test_faults_happen_one_per_call_in_the_order_they_were_set(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.fail("auth", status=500, times=1)
    sandbox.fail("*", status=502, times=2)
    sandbox.fail("auth", status=504, times=1)
    assert [caller.exchange().status_code for _ in range(5)] == [500, 502, 502, 504, 200]


def test_a_fault_is_for_its_endpoint_only(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.fail("search", status=500)
    assert caller.exchange().status_code == 200
    assert caller.search().status_code == 500
    sandbox.clear_faults()
    session_id = caller.search().json()["sessionId"]
    sandbox.fail("state", status=500)
    assert caller.search().status_code == 200
    assert caller.get(f"/1/find/search/{session_id}", ACME_KEY).status_code == 500


def test_a_fault_may_be_for_one_credential(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.add_user("one", "pass", "acme")
    sandbox.fail("*", status=500, credential=GLOBEX_KEY)
    sandbox.fail("auth", status=502, credential="one:pass")
    assert caller.exchange(ACME_KEY).status_code == 200
    assert caller.exchange(GLOBEX_KEY).status_code == 500
    assert caller.log_in("one", "pass").status_code == 502
    assert caller.log_in("one", "other").status_code == 401


def test_all_covers_the_four_endpoints_and_neither_pictures_nor_unknown_paths(
    sandbox: PartiumSandbox, caller: Caller
) -> None:
    session_id = caller.search().json()["sessionId"]
    sandbox.fail(status=500)
    statuses = [
        caller.exchange().status_code,
        caller.refresh("x").status_code,
        caller.search().status_code,
        caller.get(f"/1/find/search/{session_id}").status_code,
        caller.get("/nowhere").status_code,
        caller.get("/media/parts/160/AF1001.png").status_code,
    ]
    assert statuses == [500, 500, 500, 500, 404, 200]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"status": 503}, "1"),
        ({"status": 503, "retry_after": 30}, "30"),
        ({"status": 503, "retry_after": "soon"}, "soon"),
        ({"status": 503, "retry_after": ""}, None),
        ({"status": 500}, None),
        ({"status": 500, "retry_after": 2.5}, "2.5"),
    ],
)
def test_retry_after_is_what_was_asked(
    sandbox: PartiumSandbox, caller: Caller, arguments: dict[str, Any], expected: str | None
) -> None:
    sandbox.fail("auth", **arguments)
    response = caller.exchange()
    assert response.status_code == arguments["status"]
    assert response.headers.get("Retry-After") == expected


def test_retry_after_is_a_date_with_429_by_the_clock_of_the_answer(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(clock_frozen=True)
    sandbox.fail("search", status=429, retry_after=20)
    sandbox.advance_clock(500)
    headers = caller.search().headers
    ahead = parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])
    assert ahead.total_seconds() in (20, 21)


def test_a_status_comes_with_the_body_and_headers_asked(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.fail("auth", status=418, body="short and stout", headers={"Content-Type": "text/plain", "X-Pot": "tea"})
    response = caller.exchange()
    assert (response.text, response.headers["Content-Type"], response.headers["X-Pot"]) == (
        "short and stout",
        "text/plain",
        "tea",
    )
    sandbox.clear_faults()
    sandbox.fail("auth", status=200, body={"access_token": "mine"}, times=1)
    sandbox.fail("auth", status=200, body=b"\x00\xff", times=1)
    sandbox.fail("auth", status=200, body=b"", times=1)
    assert caller.exchange().json() == {"access_token": "mine"}
    assert caller.exchange().content == b"\x00\xff"
    assert caller.exchange().content == b""


def test_a_401_has_its_challenge_and_an_unknown_status_is_sent_all_the_same(
    sandbox: PartiumSandbox, caller: Caller
) -> None:
    sandbox.fail("search", status=401, times=1)
    sandbox.fail("search", status=599, times=1)
    assert "invalid_token" in caller.search().headers["WWW-Authenticate"]
    assert caller.search().status_code == 599


@pytest.mark.parametrize("what", sorted(GARBAGE))
def test_garbage_comes_with_200_and_leaves_the_connection_usable(
    sandbox: PartiumSandbox, caller: Caller, what: Any
) -> None:
    sandbox.garbage("auth", what, times=1)
    response = caller.exchange()
    assert response.status_code == 200
    assert response.content == GARBAGE[what]
    assert caller.exchange().json()["expires_in"] == 600


def test_an_answer_can_be_lost_after_the_token_was_rotated(sandbox: PartiumSandbox, caller: Caller) -> None:
    refresh_token = _refresh_token(caller)
    sandbox.drop("refresh", after_processing=True, times=1)
    with pytest.raises(requests.ConnectionError):
        caller.refresh(refresh_token)
    (call,) = sandbox.calls(endpoint="refresh")
    assert (call.status, call.processed, call.finished) == (None, True, True)
    assert caller.refresh(refresh_token).status_code == 401, "it was rotated: this is reuse"


def test_a_connection_can_be_dropped_before_anything_happened(sandbox: PartiumSandbox, caller: Caller) -> None:
    refresh_token = _refresh_token(caller)
    sandbox.drop("refresh", times=1)
    with pytest.raises(requests.ConnectionError):
        caller.refresh(refresh_token)
    (call,) = sandbox.calls(endpoint="refresh")
    assert (call.status, call.processed, call.finished) == (None, False, True)
    assert caller.refresh(refresh_token).status_code == 200


def test_a_status_can_be_told_although_the_request_took_effect(sandbox: PartiumSandbox, caller: Caller) -> None:
    refresh_token = _refresh_token(caller)
    sandbox.fail("refresh", status=502, after_processing=True, times=1)
    assert caller.refresh(refresh_token).status_code == 502
    assert caller.refresh(refresh_token).status_code == 401


def test_a_hang_holds_calls_until_it_is_released(
    sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor
) -> None:
    refresh_token = _refresh_token(caller)
    with sandbox.hang("refresh") as hang:
        waiting = background.submit(caller.refresh, refresh_token)
        hang.wait_until_met()
        (call,) = sandbox.wait_for(1, endpoint="refresh", finished=False)
        assert (call.status, call.processed) == (None, False)
        assert not waiting.done()
        hang.release()
        assert waiting.result(60).status_code == 200
    sandbox.wait_for(1, endpoint="refresh", status=200, processed=True)


def test_a_hang_may_come_after_the_request_took_effect(
    sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor
) -> None:
    refresh_token = _refresh_token(caller)
    with sandbox.hang("refresh", after_processing=True) as hang:
        waiting = background.submit(caller.refresh, refresh_token)
        hang.wait_until_met()
        sandbox.wait_for(1, endpoint="refresh", processed=True, finished=False)
    refreshed = waiting.result(60).json()
    assert caller.refresh(refreshed["refresh_token"]).status_code == 200


def test_a_client_that_gives_up_leaves_a_request_that_takes_effect(sandbox: PartiumSandbox, caller: Caller) -> None:
    refresh_token = _refresh_token(caller)
    with sandbox.hang("refresh"), pytest.raises(requests.ReadTimeout):
        caller.session.post(caller.url + "/auth/refresh", json={"refresh_token": refresh_token}, timeout=(10, 0.05))
    sandbox.wait_for(1, endpoint="refresh", processed=True)
    assert caller.refresh(refresh_token).status_code == 401


def test_a_reset_lets_go_of_what_hangs_without_letting_it_act(
    sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor
) -> None:
    hang = sandbox.hang("auth")
    waiting = background.submit(caller.exchange)
    hang.wait_until_met()
    sandbox.reset()
    with pytest.raises(requests.ConnectionError):
        waiting.result(60)
    assert sandbox.calls() == []
    with pytest.raises(LookupError):
        _ = hang.hits


def test_a_delay_is_waited_out_and_ends_early_when_cleared(
    sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor
) -> None:
    before = time.monotonic()
    with sandbox.delay("auth", 0.2, times=1):
        assert caller.exchange().status_code == 200
    assert time.monotonic() - before >= 0.2
    (call,) = sandbox.calls()
    assert call.ended is not None
    assert call.ended - call.started >= 0.2
    with sandbox.delay("auth", 600) as delay:
        waiting = background.submit(caller.exchange)
        delay.wait_until_met()
    assert waiting.result(60).status_code == 200


def test_a_failure_may_take_its_time(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.fail("auth", status=504, latency_seconds=0.1, times=1)
    assert caller.exchange().status_code == 504
    (call,) = sandbox.calls()
    assert call.ended is not None
    assert call.ended - call.started >= 0.1


@pytest.mark.parametrize(
    "ask",
    [
        lambda sandbox: sandbox.fail("nowhere"),
        lambda sandbox: sandbox.fail("auth", times=0),
        lambda sandbox: sandbox.garbage("auth", "rubbish"),
        lambda sandbox: sandbox.operate("add_fault", kind="explode"),
    ],
)
def test_impossible_faults_are_refused(
    sandbox: PartiumSandbox, caller: Caller, ask: Callable[[PartiumSandbox], object]
) -> None:
    with pytest.raises(ValueError):
        ask(sandbox)
    assert caller.exchange().status_code == 200


def test_a_fault_that_nobody_meets_says_so(sandbox: PartiumSandbox) -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        sandbox.hang("auth").wait_until_met(timeout_seconds=0.01)


def test_a_fault_replaces_the_answer_to_wrong_credentials_too(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.fail("auth", status=503, times=1)
    assert json.loads(caller.exchange("unknown").content)["error"] == "sandbox_fault"


def test_a_stop_lets_go_of_everything_and_frees_the_port(background: ThreadPoolExecutor) -> None:
    own = PartiumSandbox.start()
    caller = Caller(own.url)
    with caller.session:
        hang = own.hang("auth")
        waiting = background.submit(caller.exchange)
        hang.wait_until_met()
        own.stop()
        own.stop()
        with pytest.raises(requests.ConnectionError):
            waiting.result(60)
        with PartiumSandbox.start(int(own.url.rpartition(":")[2])) as successor:
            assert successor.url == own.url
            assert caller.exchange().status_code == 200
