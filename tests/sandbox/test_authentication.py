"""The Authentication API: exchanging passwords and keys, refreshing, and what ends tokens."""

import base64
import http.client
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest
import requests

from partium_auth.testing.sandbox import (
    ACME_KEY,
    ACME_PASSWORD,
    ACME_USERNAME,
    GLOBEX_KEY,
    PartiumSandbox,
    fingerprint,
)
from partium_auth.testing.sandbox.core import SandboxCore

from .conftest import Caller


def _tokens(response: requests.Response) -> tuple[str, str]:
    assert response.status_code == 200
    return response.json()["access_token"], response.json()["refresh_token"]


def _opens(caller: Caller, token: str, organization: str = "acme") -> bool:
    status = caller.search(token, organization).status_code
    assert status in (200, 401)
    return status == 200


@pytest.mark.parametrize("path", ["/auth", "/auth/", "/1/auth", "/1/auth/"])
def test_a_key_is_exchanged_at_every_documented_path(caller: Caller, path: str) -> None:
    response = caller.exchange(path=path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    answer = response.json()
    assert set(answer) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 600)
    assert _opens(caller, answer["access_token"])


@pytest.mark.parametrize("path", ["/auth/refresh", "/1/auth/refresh"])
def test_a_token_is_refreshed_at_every_documented_path(caller: Caller, path: str) -> None:
    _, refresh_token = _tokens(caller.exchange())
    access_token, _ = _tokens(caller.refresh(refresh_token, path))
    assert _opens(caller, access_token)


def test_paths_can_be_taken_away(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(auth_paths=["/auth/"], refresh_paths=["/1/auth/refresh"])
    assert caller.exchange(path="/auth/").status_code == 200
    assert caller.exchange(path="/1/auth").status_code == 404
    assert caller.refresh("x", "/auth/refresh").status_code == 404


def test_user_and_password_are_exchanged(caller: Caller) -> None:
    access_token, _ = _tokens(caller.log_in(ACME_USERNAME, ACME_PASSWORD))
    assert _opens(caller, access_token)
    assert caller.search(access_token, "globex").status_code == 403


def test_user_and_password_are_read_as_utf8_and_may_hold_colons(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.add_user("jörg", "pä:ß:wörd€", ["acme", "globex"])
    access_token, _ = _tokens(caller.log_in("jörg", "pä:ß:wörd€"))
    assert _opens(caller, access_token, "acme")
    assert _opens(caller, access_token, "globex")
    latin1 = base64.b64encode("jörg:pä:ß:wörd".encode("latin-1")).decode()
    assert caller.post("/auth", headers={"Authorization": f"Basic {latin1}"}).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer unknown",
        "Bearer",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(f"{ACME_USERNAME}:wrong".encode()).decode(),
        "Basic " + base64.b64encode(b"nobody:nothing").decode(),
        "Digest username=anna",
    ],
)
def test_unknown_credentials_are_refused_with_a_challenge(caller: Caller, authorization: str | None) -> None:
    response = caller.post("/1/auth", headers={"Authorization": authorization} if authorization else {})
    assert response.status_code == 401
    assert "Basic" in response.headers["WWW-Authenticate"]
    assert "Bearer" in response.headers["WWW-Authenticate"]
    assert response.json()["error"] == "unauthorized"


def test_wrong_user_and_wrong_password_cannot_be_told_apart(caller: Caller) -> None:
    assert caller.log_in("nobody", "x").json() == caller.log_in(ACME_USERNAME, "x").json()


def test_an_access_token_is_not_exchanged(caller: Caller) -> None:
    access_token, refresh_token = _tokens(caller.exchange())
    assert caller.exchange(access_token).status_code == 401
    assert caller.exchange(refresh_token).status_code == 401


def test_an_exchange_needs_no_body_and_no_length(sandbox: PartiumSandbox) -> None:
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/1/auth")
    connection.putheader("Authorization", f"Bearer {ACME_KEY}")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read()
    connection.close()


def test_other_methods_are_refused(caller: Caller) -> None:
    response = caller.get("/1/auth", ACME_KEY)
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b'{"refresh_token": 7}', "application/json"),
        (b'{"refresh_token": ""}', "application/json"),
        (b'{"refreshToken": "x"}', "application/json"),
        (b"\xff", "application/json"),
        (b"refresh_token=x", "application/x-www-form-urlencoded"),
    ],
)
def test_a_refresh_with_an_unacceptable_body_is_422(caller: Caller, body: bytes, content_type: str) -> None:
    response = caller.post("/auth/refresh", data=body, headers={"Content-Type": content_type})
    assert response.status_code == 422
    assert response.json()["details"][0]["field"] in ("body", "refresh_token")


@pytest.mark.parametrize("token", ["unknown", "\ud800"])
def test_an_unknown_refresh_token_is_401(caller: Caller, token: str) -> None:
    response = caller.post(
        "/auth/refresh", data=json.dumps({"refresh_token": token}), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 401
    assert "invalid_token" in response.headers["WWW-Authenticate"]


def test_a_refresh_token_works_once_and_its_reuse_ends_the_family(caller: Caller) -> None:
    first_access, first = _tokens(caller.exchange())
    second_access, second = _tokens(caller.refresh(first))
    assert first != second
    assert _opens(caller, first_access), "a rotation ends no access token"
    assert caller.refresh(first).status_code == 401
    assert not _opens(caller, first_access)
    assert not _opens(caller, second_access)
    assert caller.refresh(second).status_code == 401


def test_reuse_ends_its_own_family_only(caller: Caller) -> None:
    _, mine = _tokens(caller.exchange())
    other_access, other = _tokens(caller.exchange())
    caller.refresh(mine)
    assert caller.refresh(mine).status_code == 401
    assert _opens(caller, other_access)
    assert caller.refresh(other).status_code == 200


def test_of_many_refreshes_at_once_one_wins(
    sandbox: PartiumSandbox, caller: Caller, background: ThreadPoolExecutor
) -> None:
    _, refresh_token = _tokens(caller.exchange())

    def refresh() -> int:
        own = Caller(sandbox.url)
        with own.session:
            return own.refresh(refresh_token).status_code

    statuses = [one.result(60) for one in [background.submit(refresh) for _ in range(12)]]
    assert sorted(statuses) == [200] + [401] * 11


def test_the_previous_refresh_token_is_accepted_within_the_grace_time(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(grace_seconds=30, clock_frozen=True)
    _, first = _tokens(caller.exchange())
    _, second = _tokens(caller.refresh(first))
    sandbox.advance_clock(30)
    _, again = _tokens(caller.refresh(first))
    assert again not in (first, second)
    assert caller.refresh(second).status_code == 200, "the other successor is as good"
    assert caller.refresh(first).status_code == 401, "it is not the previous one any more"
    assert caller.refresh(again).status_code == 401, "and that was reuse"


def test_after_the_grace_time_it_is_reuse(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(grace_seconds=30, clock_frozen=True)
    _, first = _tokens(caller.exchange())
    _, second = _tokens(caller.refresh(first))
    sandbox.advance_clock(31)
    assert caller.refresh(first).status_code == 401
    assert caller.refresh(second).status_code == 401


def test_without_rotation_the_refresh_token_stays(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(rotate=False)
    access_token, first = _tokens(caller.exchange())
    for _ in range(3):
        refreshed, again = _tokens(caller.refresh(first))
        assert again == first
        assert refreshed != access_token


def test_refresh_answers_may_leave_the_refresh_token_out(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(refresh_token_in="exchange")
    _, refresh_token = _tokens(caller.exchange())
    for _ in range(2):
        answer = caller.refresh(refresh_token).json()
        assert "refresh_token" not in answer
        assert _opens(caller, answer["access_token"])


def test_no_answer_may_have_a_refresh_token_or_a_lifetime(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(refresh_token_in="none", send_expires_in=False)
    assert set(caller.exchange().json()) == {"access_token", "token_type"}


def test_answers_may_be_in_camel_case(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(naming="camel")
    answer = caller.exchange().json()
    assert set(answer) == {"accessToken", "tokenType", "expiresIn", "refreshToken"}
    assert caller.refresh(answer["refreshToken"]).status_code == 200


def test_access_tokens_may_be_jwts_whose_exp_is_true(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(token_format="jwt", lifetime_seconds=90, clock_frozen=True)
    answer = caller.exchange().json()
    payload = answer["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] == int(sandbox.describe()["now"]) + 90
    assert claims["organizations"] == ["acme"]
    assert answer["expires_in"] == 90
    assert _opens(caller, answer["access_token"])


def test_an_access_token_ends_with_its_lifetime(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(lifetime_seconds=5, clock_frozen=True)
    access_token, refresh_token = _tokens(caller.exchange())
    sandbox.advance_clock(4.9)
    assert _opens(caller, access_token)
    sandbox.advance_clock(0.1)
    response = caller.search(access_token)
    assert response.status_code == 401
    assert "expired" in response.json()["message"]
    assert caller.refresh(refresh_token).status_code == 200


def test_a_refresh_token_ends_with_its_lifetime(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(refresh_lifetime_seconds=100, clock_frozen=True)
    _, refresh_token = _tokens(caller.exchange())
    sandbox.advance_clock(100)
    assert caller.refresh(refresh_token).status_code == 401


def test_a_revoked_key_ends_everything_but_access_tokens_already_issued(
    sandbox: PartiumSandbox, caller: Caller
) -> None:
    key = sandbox.add_key("acme")
    access_token, refresh_token = _tokens(caller.exchange(key))
    untouched, _ = _tokens(caller.exchange(ACME_KEY))
    sandbox.revoke_key(key)
    assert caller.exchange(key).status_code == 401
    assert not _opens(caller, key)
    assert caller.refresh(refresh_token).status_code == 401
    assert _opens(caller, access_token)
    assert _opens(caller, untouched)


def test_single_tokens_and_families_can_be_revoked(sandbox: PartiumSandbox, caller: Caller) -> None:
    access_token, refresh_token = _tokens(caller.exchange())
    sandbox.revoke_token(access_token)
    assert not _opens(caller, access_token)
    refreshed, again = _tokens(caller.refresh(refresh_token))
    sandbox.revoke_family(refresh_token)
    assert not _opens(caller, refreshed)
    assert caller.refresh(again).status_code == 401
    with pytest.raises(LookupError):
        sandbox.revoke_token("unknown")
    with pytest.raises(LookupError):
        sandbox.revoke_key(access_token)


def test_a_removed_user_is_out_at_once(sandbox: PartiumSandbox, caller: Caller) -> None:
    access_token, refresh_token = _tokens(caller.log_in(ACME_USERNAME, ACME_PASSWORD))
    sandbox.remove_user(ACME_USERNAME)
    assert not _opens(caller, access_token)
    assert caller.refresh(refresh_token).status_code == 401
    assert caller.log_in(ACME_USERNAME, ACME_PASSWORD).status_code == 401
    with pytest.raises(LookupError):
        sandbox.remove_user(ACME_USERNAME)


def test_a_key_belongs_to_one_organization(caller: Caller) -> None:
    access_token, _ = _tokens(caller.exchange(GLOBEX_KEY))
    assert _opens(caller, access_token, "globex")
    assert caller.search(access_token, "acme").status_code == 403


@pytest.mark.parametrize(
    "add",
    [
        lambda sandbox: sandbox.add_organization(""),
        lambda sandbox: sandbox.add_user("a:b", "x", "acme"),
        lambda sandbox: sandbox.add_user("", "x", "acme"),
        lambda sandbox: sandbox.add_user("a", "x", ["nowhere"]),
        lambda sandbox: sandbox.add_key("nowhere"),
        lambda sandbox: sandbox.add_issuer("ftp://nowhere"),
    ],
)
def test_impossible_additions_are_refused(sandbox: PartiumSandbox, add: Callable[[PartiumSandbox], object]) -> None:
    before = sandbox.describe()
    with pytest.raises(ValueError):
        add(sandbox)
    after = sandbox.describe()
    assert {**before, "now": 0} == {**after, "now": 0}


def test_the_date_header_follows_the_sandboxs_clock(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(clock_frozen=True)
    before = parsedate_to_datetime(caller.exchange().headers["Date"])
    sandbox.advance_clock(3_600)
    after = parsedate_to_datetime(caller.exchange().headers["Date"])
    assert (after - before).total_seconds() == 3_600


def test_nothing_that_the_sandbox_keeps_shows_a_credential(sandbox: PartiumSandbox, caller: Caller) -> None:
    answer = caller.exchange().json()
    state = SandboxCore().state
    issued = state.exchange_key(ACME_KEY)
    told = repr(sandbox.describe()) + repr(sandbox.calls()) + repr(vars(state))
    for secret in (answer["access_token"], answer["refresh_token"], issued.access_token, ACME_PASSWORD, ACME_KEY):
        assert (secret in told) is False
    assert fingerprint(ACME_KEY) in told
