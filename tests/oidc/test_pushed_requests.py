"""Pushed authorization requests (RFC 9126): the browser carries a reference, whoever fails is named, and few wait."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pytest_django import Settings

from partium_auth.models import Grant, Outage
from partium_auth.services.providers import save_provider
from tests.oidc.conftest import Browser, Refusals, add_provider
from tests.oidc.provider import CLIENT_ID, Answer, BendableProvider

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_where_the_provider_requires_it_the_browser_carries_a_reference_only(
    browser: Browser, op: BendableProvider, method: str
) -> None:
    op.requires_push = True
    op.client_authentication = method
    url = browser.start(login_hint="ann@example.com")
    assert parse_qs(urlsplit(url).query).keys() == {"client_id", "request_uri"}
    (pushed,) = op.pushed.values()
    assert pushed["login_hint"] == "ann@example.com"
    assert browser.come_back(op.authorize(url)).status_code == 302
    assert browser.user is not None


def test_a_provider_that_only_offers_it_is_not_asked(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    assert "/par" not in op.calls


@pytest.mark.parametrize("slug", ["default", "other"])
def test_an_endpoint_that_is_configured_is_used(
    browser: Browser, op: BendableProvider, settings: Settings, slug: str
) -> None:
    settings.OIDC_OP_PUSHED_AUTHORIZATION_REQUEST_ENDPOINT = f"{op.url}/par"
    add_provider(op, pushed_authorization_request_endpoint=f"{op.url}/par")
    assert browser.log_in(slug).status_code == 302
    assert "/par" in op.calls


def test_a_silent_login_pushes_the_hint(browser: Browser, op: BendableProvider) -> None:
    op.requires_push = True
    browser.log_in()
    id_token = Grant.objects.get().id_token
    browser.start(prompt="none")
    (pushed,) = op.pushed.values()
    assert (pushed["prompt"], pushed["id_token_hint"]) == ("none", id_token.reveal() if id_token else "")


def test_a_silent_login_that_is_refused_asks_the_person(browser: Browser, op: BendableProvider) -> None:
    op.requires_push = True
    browser.log_in()
    push = op.push

    def refuse_hints(http: Any, form: dict[str, str]) -> Answer:
        return Answer(400, {"error": "invalid_request"}) if "id_token_hint" in form else push(http, form)

    op.push = refuse_hints  # type: ignore[method-assign]
    try:
        url = browser.start(prompt="none")
    finally:
        op.push = push  # type: ignore[method-assign]
    (pushed,) = op.pushed.values()
    assert "prompt" not in pushed
    assert browser.come_back(op.authorize(url)).status_code == 302


@pytest.mark.parametrize(
    ("answer", "status", "text", "level"),
    [
        (Answer(400, {"error": "invalid_request"}), 503, "Trying again will not help", logging.ERROR),
        (Answer(401, {"error": "invalid_client"}), 503, "Trying again will not help", logging.ERROR),
        (Answer(413, b""), 503, "Trying again will not help", logging.ERROR),
        (Answer(400, {"error": "temporarily_unavailable"}), 503, "try again in a few minutes", logging.WARNING),
        (Answer(500), 503, "try again in a few minutes", logging.WARNING),
        (Answer(closes=True), 503, "try again in a few minutes", logging.WARNING),
        (Answer(201, {"expires_in": 60}), 503, "try again in a few minutes", logging.WARNING),
        (Answer(201, {"request_uri": "u" * 2000}), 503, "try again in a few minutes", logging.WARNING),
        (Answer(201, b"<html>"), 503, "try again in a few minutes", logging.WARNING),
        (Answer(302, headers={"Location": "https://evil.example/"}), 503, "try again", logging.WARNING),
    ],
    ids=lambda value: str(getattr(value, "body", value))[:30],
)
def test_whose_failure_it_is(
    browser: Browser, op: BendableProvider, refused: Refusals, answer: Answer, status: int, text: str, level: int
) -> None:
    op.requires_push = True
    op.answers["/par"] = answer
    response = browser.client.get("/partium/login/default/")
    refused.check(response, browser, "upstream", status=status)
    assert text in response.content.decode()
    (record,) = [r for r in refused.caplog.records if r.name == "partium_auth.login"]
    assert record.levelno == level


def test_an_outage_of_this_endpoint_stops_no_refreshes(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    op.requires_push = True
    op.answers["/par"] = Answer(503)
    browser.client.get("/partium/login/default/")
    assert [outage.pk for outage in Outage.objects.all()] == ["oidc:default:push"]
    calls = op.calls.count("/par")
    assert browser.client.get("/partium/login/default/").status_code == 503
    assert op.calls.count("/par") == calls  # not asked again at once


def test_a_provider_that_requires_it_and_names_no_endpoint(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    op.requires_push = True
    op.metadata = {"pushed_authorization_request_endpoint": None}
    refused.check(browser.client.get("/partium/login/default/"), browser, "discovery", status=503)


def test_the_endpoint_decides_who_gets_the_secret(op: BendableProvider) -> None:
    row = add_provider(op)
    before = row.bound_to
    row.pushed_authorization_request_endpoint = f"{op.url}/par"
    save_provider(row, actor=None, client_secret="again")
    assert row.bound_to != before
    assert row.client_id == CLIENT_ID
