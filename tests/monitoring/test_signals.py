"""Receivers are told of every call, refresh and refused login; never a secret, and never at the caller's risk."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

import partium_auth
from partium_auth import signals
from partium_auth.exceptions import LoginRequired, PartiumError, ServiceUnavailable, TokenUnavailable
from partium_auth.models import Grant, Organization
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider
from partium_auth.partium.authentication import AuthenticationAPI
from partium_auth.partium.client import FindClient
from partium_auth.services.key_verification import verify_at_partium
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens.manager import TokenManager
from tests.monitoring.conftest import Heard
from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider
from tests.tokens.conftest import age, read

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]


@pytest.fixture
def acme_client(key_grant: MakeGrant, settings: Settings) -> FindClient:
    settings.PARTIUM_EXECUTOR = "inline"
    key_grant()
    return partium_auth.for_organization("acme")


# --- calls --------------------------------------------------------------------------------------------------------------


def test_every_call_to_partium_is_told_with_its_organization(
    heard: Heard, acme_client: FindClient, partium_sandbox: PartiumSandbox
) -> None:
    acme_client.search(text="fan")
    told = [
        (call["sender"], call["endpoint"], call["status"], call["organization"]) for call in heard["upstream_called"]
    ]
    assert told == [(AuthenticationAPI, "exchange", 200, "acme"), (FindClient, "search", 200, "acme")]
    search = heard["upstream_called"][-1]
    assert (search["method"], search["url"]) == ("POST", f"{partium_sandbox.url}/1/find/search")
    assert (search["error"], 0 < search["seconds"] < 60) == ("", True)


def test_an_async_search_is_told_too(heard: Heard, acme_client: FindClient) -> None:
    async_to_sync(acme_client.asearch)(text="fan")
    assert heard["upstream_called"][-1]["endpoint"] == "search"


def test_a_query_is_never_told(heard: Heard, acme_client: FindClient) -> None:
    with pytest.raises(PartiumError):
        acme_client.request("GET", "/1/nowhere?a=QUERY-SECRET", params={"b": "PARAMETER-SECRET"})
    call = heard["upstream_called"][-1]
    assert (call["endpoint"], call["status"]) == ("request", 404)
    assert "SECRET" not in repr(call)


def test_a_call_without_a_response_has_no_status_and_an_error(
    heard: Heard, acme_client: FindClient, partium_sandbox: PartiumSandbox
) -> None:
    with partium_sandbox.drop("auth"), pytest.raises(PartiumError):
        acme_client.search(text="fan")
    (call,) = heard["upstream_called"]
    assert (call["endpoint"], call["status"], call["error"]) == ("exchange", None, "ConnectionFailed")


def test_the_verification_of_a_key_is_told(heard: Heard, acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    verify_at_partium(acme, partium_sandbox.add_key("acme"))
    assert [(call["endpoint"], call["organization"]) for call in heard["upstream_called"]] == [
        ("exchange", "acme"),
        ("search", "acme"),
    ]


def test_a_login_at_a_provider_tells_of_its_token_endpoint(heard: Heard, browser: Browser) -> None:
    browser.log_in()
    told = {call["endpoint"]: call for call in heard["upstream_called"]}
    assert {"provider_metadata", "provider_token"} <= told.keys()
    assert (told["provider_token"]["sender"], told["provider_token"]["status"]) == (Provider, 200)


def test_every_endpoint_that_is_told_is_documented(heard: Heard, acme_client: FindClient, browser: Browser) -> None:
    acme_client.search(text="fan")
    browser.log_in()
    assert {call["endpoint"] for call in heard["upstream_called"]} <= set(signals.ENDPOINTS)


# --- refreshes ------------------------------------------------------------------------------------------------------------


def test_a_refreshed_login_is_told(heard: Heard, token_manager: TokenManager, password_grant: MakeGrant) -> None:
    grant = password_grant()
    token_manager.obtain(age(grant, 5))
    (told,) = heard["token_refreshed"]
    seconds = told.pop("seconds")
    assert told == {
        "sender": Grant,
        "grant_id": grant.pk,
        "kind": "password",
        "upstream": "partium",
        "organization": "",
    }
    assert 0 < seconds < 60
    assert heard["upstream_called"][-1]["endpoint"] == "refresh"


def test_an_exchanged_key_is_told_with_its_organization(heard: Heard, acme_client: FindClient) -> None:
    acme_client.search(text="fan")
    (told,) = heard["token_refreshed"]
    assert (told["kind"], told["organization"]) == ("api_key", "acme")


def test_a_provider_s_refresh_names_the_provider(
    heard: Heard, token_manager: TokenManager, oidc_grant: MakeGrant
) -> None:
    token_manager.obtain(age(oidc_grant(), 5))
    assert heard["token_refreshed"][0]["upstream"] == "oidc:default"


def test_a_failed_refresh_is_told_with_its_reason(
    heard: Heard, token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    with partium_sandbox.fail("refresh", status=503), pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 5))
    (told,) = heard["token_refresh_failed"]
    assert (told["grant_id"], told["reason"], told["status"], told["rejected"]) == (
        grant.pk,
        ServiceUnavailable.__name__,
        503,
        False,
    )
    assert heard["token_refreshed"] == []


def test_a_rejected_refresh_token_is_told_as_rejected(
    heard: Heard, token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    partium_sandbox.remove_user("ann")
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(grant, 5))
    (told,) = heard["token_refresh_failed"]
    assert (told["status"], told["rejected"]) == (401, True)


def test_no_signal_of_a_refresh_has_a_token(
    heard: Heard, token_manager: TokenManager, password_grant: MakeGrant, oidc_grant: MakeGrant
) -> None:
    values = []
    for make in (password_grant, oidc_grant):
        grant = make()
        assert grant.refresh_token is not None
        values += [grant.refresh_token.reveal(), token_manager.obtain(age(grant, 5)).value]
    told = repr(heard.by_name)
    assert [value for value in values if value in told] == []


# --- refused logins ---------------------------------------------------------------------------------------------------------


def test_a_refused_login_is_told_with_the_reference_of_the_page(heard: Heard, browser: Browser) -> None:
    response = browser.log_in(claims={"nonce": "another"})
    (told,) = heard["login_refused"]
    assert told["sender"] is Refused
    assert (told["provider"], told["check"]) == ("default", "nonce")
    assert told["reference"] in response.content.decode()


@pytest.mark.parametrize("address", ["login", "callback"])
def test_a_provider_that_a_visitor_made_up_is_not_told(
    heard: Heard, client: Client, op: BendableProvider, address: str
) -> None:
    client.get(f"/partium/{address}/made-up/")
    (told,) = heard["login_refused"]
    assert (told["provider"], told["check"]) == ("", "provider" if address == "login" else "state")


def test_a_refused_login_asks_the_database_nothing_where_nobody_listens(
    client: Client, op: BendableProvider, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        client.get("/partium/callback/default/")


def test_a_database_that_fails_does_not_make_a_refusal_worse(heard: Heard, client: Client) -> None:
    def refuse(*args: Any) -> None:
        from django.db import OperationalError

        raise OperationalError("no database")

    with connection.execute_wrapper(refuse):
        response = client.get("/partium/callback/other/")
    assert response.status_code == 400
    assert heard["login_refused"][0]["provider"] == ""


def test_partium_that_is_down_is_told_as_upstream(
    heard: Heard, client: Client, partium_sandbox: PartiumSandbox
) -> None:
    with partium_sandbox.fail("auth", status=503):
        client.post("/partium/login/", {"username": "ann", "password": "PASSWORD-SECRET"})
    (told,) = heard["login_refused"]
    assert (told["provider"], told["check"]) == ("", "upstream")
    assert "PASSWORD-SECRET" not in repr(heard.by_name)


# --- receivers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["upstream_called", "token_refreshed"])
def test_a_receiver_that_raises_is_logged_and_stops_nothing(
    acme_client: FindClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def broken(**arguments: Any) -> None:
        raise RuntimeError("a receiver of the site")

    signal = getattr(signals, name)
    signal.connect(broken)
    try:
        with caplog.at_level(logging.ERROR, logger="django.dispatch"):
            assert acme_client.search(text="fan").results
    finally:
        signal.disconnect(broken)
    assert "a receiver of the site" in caplog.text


def test_what_a_receiver_is_told_of_a_refresh_is_in_the_database_already(
    token_manager: TokenManager, password_grant: MakeGrant
) -> None:
    seen: queue.SimpleQueue[int] = queue.SimpleQueue()
    grant = password_grant()

    def look(**arguments: Any) -> None:
        seen.put(read(grant).generation)

    signals.token_refreshed.connect(look)
    try:
        served = token_manager.obtain(age(grant, 5))
        generation = seen.get(timeout=10)  # the token is served before receivers are told
    finally:
        signals.token_refreshed.disconnect(look)
    assert generation == served.generation
