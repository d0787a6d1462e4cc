"""The call log: what it tells, how it is filtered and waited for."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from partium_auth.testing.sandbox import (
    ACME_KEY,
    ACME_PASSWORD,
    ACME_USERNAME,
    GLOBEX_KEY,
    PartiumSandbox,
    fingerprint,
)

from .conftest import Caller


def test_every_kind_of_credential_is_told_apart(sandbox: PartiumSandbox, caller: Caller) -> None:
    caller.log_in(ACME_USERNAME, ACME_PASSWORD)
    tokens = caller.exchange().json()
    caller.refresh(tokens["refresh_token"])
    caller.search(tokens["access_token"])
    caller.search(ACME_KEY)
    caller.search("unknown")
    caller.search(None)
    caller.exchange("unknown")
    caller.post("/auth/refresh", json={})
    caller.refresh("")
    told = [(call.endpoint, call.credential_kind, call.credential, call.status) for call in sandbox.calls()]
    assert told == [
        ("auth", "password", fingerprint(f"{ACME_USERNAME}:{ACME_PASSWORD}"), 200),
        ("auth", "api_key", fingerprint(ACME_KEY), 200),
        ("refresh", "refresh", fingerprint(tokens["refresh_token"]), 200),
        ("search", "access_token", fingerprint(tokens["access_token"]), 200),
        ("search", "api_key", fingerprint(ACME_KEY), 200),
        ("search", "unknown", fingerprint("unknown"), 401),
        ("search", "none", None, 401),
        ("auth", "api_key", fingerprint("unknown"), 401),
        ("refresh", "none", None, 422),
        ("refresh", "none", None, 422),
    ]


def test_a_call_tells_path_organization_and_times(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(clock_offset_seconds=1_000, clock_frozen=True)
    before = time.monotonic()
    session_id = caller.search().json()["sessionId"]
    caller.get(f"/1/find/search/{session_id}?skip=1", ACME_KEY)
    caller.search(ACME_KEY, "globex")
    after = time.monotonic()
    search, state, refused = sandbox.calls()
    assert (search.method, search.path, search.organization) == ("POST", "/1/find/search", "acme")
    assert (state.method, state.path, state.organization) == ("GET", f"/1/find/search/{session_id}", "acme")
    assert (refused.organization, refused.status, refused.processed) == ("globex", 403, False)
    assert search.at == pytest.approx(sandbox.describe()["now"])
    assert search.ended is not None
    assert before <= search.started <= search.ended <= state.started <= after


def test_the_external_user_id_is_recorded_for_searches_only(sandbox: PartiumSandbox, caller: Caller) -> None:
    headers = {"X-Partium-ExternalUserId": "user-42"}
    session_id = caller.search(headers=headers).json()["sessionId"]
    caller.session.get(
        f"{caller.url}/1/find/search/{session_id}",
        headers=headers | {"Authorization": f"Bearer {ACME_KEY}"},
        timeout=10,
    )
    assert [call.external_user_id for call in sandbox.calls()] == ["user-42", None]
    assert sandbox.count(external_user_id="user-42") == 1


def test_calls_are_filtered_by_any_attribute(sandbox: PartiumSandbox, caller: Caller) -> None:
    caller.exchange(ACME_KEY)
    caller.exchange(GLOBEX_KEY)
    caller.exchange("unknown")
    caller.search(GLOBEX_KEY, "globex")
    assert sandbox.count() == 4
    assert sandbox.count(endpoint="auth") == 3
    assert sandbox.count(endpoint="auth", status=200) == 2
    assert sandbox.count(organization="globex") == 2
    assert sandbox.count(credential=GLOBEX_KEY) == 2
    assert sandbox.count(credential_kind="api_key", endpoint="search") == 1
    assert sandbox.count(finished=False) == 0
    assert [call.status for call in sandbox.calls(credential="unknown")] == [401]
    with pytest.raises(ValueError, match="endpoints"):
        sandbox.count(endpoints="auth")


def test_an_unknown_path_is_logged_and_pictures_are_not(sandbox: PartiumSandbox, caller: Caller) -> None:
    caller.get("/2/auth")
    caller.get("/media/parts/160/AF1001.png")
    (call,) = sandbox.calls()
    assert (call.endpoint, call.path, call.status) == ("other", "/2/auth", 404)


def test_calls_can_be_waited_for(sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor) -> None:
    waiting = background.submit(sandbox.wait_for, 3, endpoint="auth", status=200)
    for _ in range(3):
        caller.exchange()
    assert len(waiting.result(60)) == 3


def test_waiting_in_vain_says_what_there_was(
    sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor
) -> None:
    caller.exchange()
    hang = sandbox.hang("auth")
    background.submit(caller.exchange)
    hang.wait_until_met()
    with pytest.raises(TimeoutError, match=r"1 of 2 calls .* 1 more are not finished"):
        sandbox.wait_for(2, endpoint="auth", timeout_seconds=0.01)
    assert len(sandbox.wait_for(2, endpoint="auth", finished=None)) == 2


def test_the_log_is_never_behind_the_caller(sandbox: PartiumSandbox, caller: Caller) -> None:
    for number in range(1, 30):
        caller.exchange()
        assert sandbox.count(status=200, finished=True) == number


def test_an_organization_is_told_where_the_credential_opens_just_one(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.add_user("both", "x", ["acme", "globex"])
    caller.log_in("both", "x")
    caller.log_in(ACME_USERNAME, ACME_PASSWORD)
    assert [call.organization for call in sandbox.calls()] == [None, "acme"]
