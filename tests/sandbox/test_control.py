"""The control API over HTTP: the same methods from another process, closed to everybody else."""

import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from partium_auth.testing.sandbox import (
    ACME_KEY,
    ACME_PASSWORD,
    PartiumSandbox,
    SandboxControl,
    fingerprint,
)
from partium_auth.testing.sandbox import control as control_module
from partium_auth.testing.sandbox.control import SandboxControls
from partium_auth.testing.sandbox.core import SandboxCore
from partium_auth.testing.sandbox.server import HttpServer

from .conftest import Caller


@pytest.fixture
def control(sandbox: PartiumSandbox) -> SandboxControl:
    return SandboxControl(sandbox.url + "/")


def test_it_has_every_method_of_the_sandbox_itself() -> None:
    public = {name for name, _ in inspect.getmembers(SandboxControls) if not name.startswith("_")}
    assert public <= {name for name, _ in inspect.getmembers(SandboxControl)}
    source = inspect.getsource(control_module)
    assert all(f'"{name}"' in source for name in SandboxCore().operations), "no operation without a method"


def test_organizations_users_and_keys_are_made_and_ended(control: SandboxControl, caller: Caller) -> None:
    assert control.add_organization("initech", "Initech") == "initech"
    key = control.add_key("initech", "for a test")
    control.add_user("peter", "pässword", "initech")
    assert caller.search(key, "initech").status_code == 200
    tokens = caller.log_in("peter", "pässword").json()
    control.revoke_token(tokens["access_token"])
    assert caller.search(tokens["access_token"], "initech").status_code == 401
    control.revoke_family(tokens["refresh_token"])
    assert caller.refresh(tokens["refresh_token"]).status_code == 401
    control.revoke_key(key)
    assert caller.search(key, "initech").status_code == 401
    control.remove_user("peter")
    assert caller.log_in("peter", "pässword").status_code == 401
    control.add_issuer("https://idp.example", ["initech"])


def test_settings_and_clock_are_set(control: SandboxControl, caller: Caller) -> None:
    assert control.settings()["lifetime_seconds"] == 600
    assert control.settings(lifetime_seconds=20, clock_frozen=True)["lifetime_seconds"] == 20
    token = caller.exchange().json()["access_token"]
    before = control.describe()["now"]
    assert control.advance_clock(20) == pytest.approx(before + 20)
    assert caller.search(token).status_code == 401


def test_faults_are_set_met_and_cleared(
    control: SandboxControl, caller: Caller, background: ThreadPoolExecutor
) -> None:
    fault = control.fail("auth", status=502, times=1, credential=ACME_KEY, body=b"\xff")
    assert caller.exchange().content == b"\xff"
    assert fault.hits == 1
    with control.hang("auth") as hang:
        waiting = background.submit(caller.exchange)
        hang.wait_until_met()
        assert control.wait_for(1, finished=False)
    assert waiting.result(60).status_code == 200
    control.drop("auth", after_processing=True)
    control.clear_faults()
    assert caller.exchange().status_code == 200


def test_calls_are_read_counted_and_waited_for(control: SandboxControl, caller: Caller) -> None:
    caller.exchange()
    assert control.wait_for(1, endpoint="auth")[0] == control.calls()[0]
    assert control.count(credential=ACME_KEY) == 1
    with pytest.raises(TimeoutError):
        control.wait_for(2, timeout_seconds=0.01)
    control.reset()
    assert control.calls() == []


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda control: control.settings(lifetime=5), ValueError),
        (lambda control: control.add_key("nowhere"), ValueError),
        (lambda control: control.revoke_key("unknown"), LookupError),
        (lambda control: control.operate("explode"), LookupError),
        (lambda control: control.operate("__init__"), LookupError),
        (lambda control: control.operate("add_key"), ValueError),
        (lambda control: control.operate("add_key", organization="acme", more=1), ValueError),
    ],
)
def test_what_is_wrong_is_raised_alike_here_and_there(
    sandbox: PartiumSandbox, control: SandboxControl, ask: Any, error: type[Exception]
) -> None:
    for controls in (sandbox, control):
        with pytest.raises(error):
            ask(controls)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"lifetime": 5}, "lifetime_seconds"),
        ({"lifetime_seconds": "5"}, "lifetime_seconds"),
        ({"lifetime_seconds": -1}, "lifetime_seconds"),
        ({"rotate": 1}, "rotate"),
        ({"naming": "kebab"}, "naming"),
        ({"auth_paths": "/auth"}, "auth_paths"),
        ({"something": 1}, "something"),
    ],
)
def test_an_impossible_setting_changes_nothing(sandbox: PartiumSandbox, changes: dict[str, Any], hint: str) -> None:
    before = sandbox.settings()
    with pytest.raises(ValueError, match=hint):
        sandbox.settings(grace_seconds=9, **changes)
    assert sandbox.settings() == before


def test_a_person_with_curl_can_look_and_revoke(sandbox: PartiumSandbox, caller: Caller) -> None:
    caller.exchange()
    caller.exchange("unknown")
    assert caller.get("/_sandbox/count?endpoint=auth&status=401").json() == {"result": 1}
    assert caller.get("/_sandbox/count?status=x").json() == {"result": 0}
    (call, _) = caller.get("/_sandbox/calls").json()["result"]
    assert call["credential"] == fingerprint(ACME_KEY)
    assert caller.get("/_sandbox/describe").json()["result"]["organizations"][0]["org_id"] == "acme"
    assert caller.post("/_sandbox/revoke_key", json={"value": ACME_KEY}).json() == {"result": None}
    assert caller.exchange().status_code == 401


@pytest.mark.parametrize(
    ("method", "operation", "body", "content_type", "status"),
    [
        ("GET", "reset", b"", "application/json", 405),
        ("PUT", "reset", b"{}", "application/json", 405),
        ("OPTIONS", "reset", b"", "application/json", 405),
        ("POST", "reset", b"{}", "text/plain", 422),
        ("POST", "reset", b"{}", "application/x-www-form-urlencoded", 422),
        ("POST", "reset", b"{", "application/json", 422),
        ("POST", "reset", b"[]", "application/json", 422),
        ("POST", "explode", b"{}", "application/json", 404),
        ("POST", "reset", b"", "application/json", 200),
    ],
)
def test_a_page_in_a_browser_cannot_control_it(
    caller: Caller, method: str, operation: str, body: bytes, content_type: str, status: int
) -> None:
    response = caller.session.request(
        method, f"{caller.url}/_sandbox/{operation}", data=body, headers={"Content-Type": content_type}, timeout=10
    )
    assert response.status_code == status
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("host", ["attacker.example", "10.0.0.1:8900", "[", "localhost.attacker.example"])
def test_another_host_name_is_refused(caller: Caller, host: str) -> None:
    response = caller.get("/_sandbox/describe")
    assert response.status_code == 200
    response = caller.session.get(caller.url + "/_sandbox/describe", headers={"Host": host}, timeout=10)
    assert response.status_code == 403


@pytest.mark.parametrize(
    ("peer", "status"),
    [("192.0.2.7", 403), ("127.0.0.2", 200)],
)
def test_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch, peer: str, status: int) -> None:
    accept = HttpServer.get_request
    # The connection is real; only where it comes from is made up, so that no traffic leaves loopback.
    monkeypatch.setattr(HttpServer, "get_request", lambda server: (accept(server)[0], (peer, 50_000)))
    with PartiumSandbox.start() as own:
        caller = Caller(own.url)
        with caller.session:
            assert caller.get("/_sandbox/describe").status_code == status
            assert caller.get("/media/parts/160/AF1001.png").status_code == 200


def test_no_answer_of_the_control_api_holds_a_credential(
    sandbox: PartiumSandbox, control: SandboxControl, caller: Caller
) -> None:
    token = caller.exchange().json()["access_token"]
    told = json.dumps([control.describe(), control.operate("calls"), control.settings()])
    for secret in (token, ACME_KEY, ACME_PASSWORD):
        assert (secret in told) is False


def test_a_reset_brings_back_the_seed() -> None:
    seed = {
        "settings": {"lifetime_seconds": 7},
        "organizations": [{"org_id": "one"}, {"org_id": "two", "default_language": "fr"}],
        "keys": [{"organization": "two", "value": "a-key-of-two"}],
    }
    with PartiumSandbox.start(seed=seed) as own:
        before = own.describe() | {"now": 0}
        own.add_organization("three")
        own.revoke_key("a-key-of-two")
        own.settings(lifetime_seconds=9)
        own.fail()
        own.reset()
        assert own.describe() | {"now": 0} == before
        caller = Caller(own.url)
        with caller.session:
            assert caller.exchange("a-key-of-two").json()["expires_in"] == 7
            language = {"language": None, "projection": ["results.nameLanguage"]}
            answer = caller.search("a-key-of-two", "two", "ventilateur", **language)
        assert answer.json()["results"][0] == {"nameLanguage": "fr"}


@pytest.mark.parametrize(
    "seed",
    [
        {"organisations": []},
        {"organizations": [{"id": "x"}]},
        {"organizations": [{"org_id": ""}]},
        {"users": [{"username": "x", "password": "y"}]},
        {"users": [{"username": "x", "password": "y", "organizations": ["nowhere"]}]},
        {"keys": [{"organization": "nowhere", "value": "x"}]},
        {"organizations": [{"org_id": "x"}], "keys": [{"organization": "x", "value": ""}]},
        {"issuers": [{"address": "https://x"}]},
        {"issuers": ["https://x"]},
        {"settings": {"lifetime_seconds": 0, "lifetimes": 1}},
    ],
)
def test_a_seed_that_is_not_usable_is_refused(seed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="seed"):
        PartiumSandbox.start(seed=seed)
