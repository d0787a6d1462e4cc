"""Discovery documents and key sets: cached per process, fetched by one thread at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from partium_auth.exceptions import TimedOut, UpstreamError
from partium_auth.oidc import documents, providers, token_endpoint
from tests.oidc.conftest import Browser
from tests.oidc.provider import Answer, BendableProvider


def test_a_provider_that_is_down_does_not_matter_while_they_are_known(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.log_in()
    monkeypatch.setattr(documents, "FRESH_SECONDS", 0)
    op.answers["/jwks"] = op.answers["/.well-known/openid-configuration"] = Answer(closes=True)
    fresh = Browser(op)
    fresh.log_in()
    assert fresh.user is not None
    calls = len(op.calls)
    documents.get(f"{op.url}/jwks")
    assert len(op.calls) == calls  # it is left alone for half a minute


def test_a_copy_that_is_too_old_is_not_used(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.log_in()
    monkeypatch.setattr(documents, "FRESH_SECONDS", 0)
    monkeypatch.setattr(documents, "STALE_SECONDS", 0)
    op.answers["/jwks"] = Answer(closes=True)
    late = Browser(op)
    assert late.log_in().status_code == 503
    assert late.user is None


def test_they_are_fetched_anew_when_they_are_no_longer_fresh(
    op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{op.url}/jwks"
    assert documents.get(url) == documents.get(url)
    assert op.calls == ["/jwks"]
    monkeypatch.setattr(documents, "FRESH_SECONDS", 0)
    op.jwks = []
    assert documents.get(url) == {"keys": []}


def test_the_start_of_a_login_sees_a_changed_document_and_a_refresh_does_not_fetch_it(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.log_in()
    documents_fetched = op.calls.count("/.well-known/openid-configuration")
    browser.start()
    assert op.calls.count("/.well-known/openid-configuration") == documents_fetched
    monkeypatch.setattr(documents, "LOGIN_FRESH_SECONDS", 0)
    op.metadata = {"issuer": "https://evil.example"}
    (refresh_token,) = op.refresh_tokens
    token_endpoint.refresh(providers.get("default"), refresh_token)
    assert browser.client.get("/partium/login/default/").status_code == 503


def test_a_login_starts_with_the_cached_document_while_the_provider_is_down(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.log_in()
    monkeypatch.setattr(documents, "LOGIN_FRESH_SECONDS", 0)
    op.answers["/.well-known/openid-configuration"] = Answer(closes=True)
    assert browser.start().startswith(f"{op.url}/authorize")
    calls = len(op.calls)
    assert browser.start().startswith(f"{op.url}/authorize")
    assert len(op.calls) == calls  # it is left alone for half a minute


def test_an_unknown_key_id_fetches_once_in_half_a_minute(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    op.header["kid"] = "made up"
    op.calls.clear()
    for _ in range(3):
        Browser(op).log_in()
    assert op.calls.count("/jwks") == 1


def test_not_more_are_cached_than_the_bound(op: BendableProvider) -> None:
    for number in range(documents.MAX_DOCUMENTS + 1):
        op.answers[f"/{number}"] = Answer(body={"number": number})
        assert documents.get(f"{op.url}/{number}") == {"number": number}
    op.calls.clear()
    for number in (documents.MAX_DOCUMENTS, 1, 0):  # the oldest has gone
        documents.get(f"{op.url}/{number}")
    assert op.calls == ["/0"]


def test_a_key_set_that_cannot_be_fetched_again_is_no_error_of_its_own(op: BendableProvider) -> None:
    url = f"{op.url}/jwks"
    first = documents.get(url)
    op.answers["/jwks"] = Answer(closes=True)
    assert documents.get_newer(url, than=first, reason="id_token") is None


def test_a_provider_that_hangs_makes_one_visitor_wait_and_not_everybody(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "FETCH_SECONDS", 0.3)
    op.answers["/.well-known/openid-configuration"] = Answer(hangs=True)
    assert [browser.client.get("/partium/login/default/").status_code for _ in range(3)] == [503, 503, 503]
    assert op.calls == ["/.well-known/openid-configuration"]
    del op.answers["/.well-known/openid-configuration"]
    monkeypatch.setattr(documents, "PAUSE_SECONDS", 0)
    assert browser.start()


def test_visitors_who_come_while_a_provider_hangs_do_not_wait_for_it(
    op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "WAIT_SECONDS", 0.05)
    url = f"{op.url}/.well-known/openid-configuration"
    op.answers["/.well-known/openid-configuration"] = Answer(hangs=True)
    with ThreadPoolExecutor(5) as visitors:
        first = visitors.submit(documents.get, url)
        while not op.calls:
            assert not first.done()
        others = [visitors.submit(documents.get, url) for _ in range(4)]
        for other in others:
            assert isinstance(other.exception(), TimedOut)
        assert not first.done()
        op.released.set()
        assert isinstance(first.exception(), UpstreamError)
    assert op.calls == ["/.well-known/openid-configuration"]


def test_visitors_who_come_together_cause_one_fetch(op: BendableProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "WAIT_SECONDS", 30)
    together = Barrier(5)

    def visit() -> dict[str, Any]:
        together.wait()
        return documents.get(f"{op.url}/jwks")

    with ThreadPoolExecutor(5) as visitors:
        found = [visit.result() for visit in [visitors.submit(visit) for _ in range(5)]]
    assert found == [{"keys": op.jwks}] * 5
    assert op.calls == ["/jwks"]


def test_who_is_told_that_a_provider_hung_is_told_no_query(
    op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "FETCH_SECONDS", 0.3)
    op.answers["/.well-known/openid-configuration"] = Answer(hangs=True)
    for _ in range(2):
        with pytest.raises(TimedOut) as caught:
            documents.get(f"{op.url}/.well-known/openid-configuration?code=canary")
        assert f"{op.url}/.well-known/openid-configuration" in str(caught.value)
        assert "canary" not in str(caught.value)
