"""Renewing by refresh token: which failures log people out, and which are somebody else's to mend."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

import pytest

from partium_auth.exceptions import CredentialsRejected, UnexpectedResponse, UpstreamError
from partium_auth.oidc import documents, providers, token_endpoint, userinfo
from partium_auth.oidc.metadata import interpret_metadata
from partium_auth.oidc.provider import ENDPOINTS
from tests.oidc.conftest import add_provider
from tests.oidc.provider import CLIENT_SECRET, Answer, BendableProvider


@pytest.fixture
def refresh_token(op: BendableProvider) -> str:
    token: str = op.tokens()["refresh_token"]
    return token


def refresh(token: str) -> Any:
    return token_endpoint.refresh(providers.get("default"), token)


def test_a_refresh_token_is_exchanged_and_rotates(op: BendableProvider, refresh_token: str) -> None:
    tokens = refresh(refresh_token)
    assert tokens.access_token in op.issued
    assert tokens.refresh_token not in (None, refresh_token)
    assert op.forms == [{"grant_type": "refresh_token", "refresh_token": refresh_token}]


def test_a_dead_refresh_token_is_rejected_for_good(op: BendableProvider, refresh_token: str) -> None:
    refresh(refresh_token)
    with pytest.raises(CredentialsRejected) as caught:
        refresh(refresh_token)
    assert caught.value.status == 401
    assert refresh_token not in str(caught.value)
    assert "private words" not in str(caught.value)


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "invalid_scope"])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_of_our_registration_logs_nobody_out(
    op: BendableProvider, refresh_token: str, caplog: pytest.LogCaptureFixture, error: str, status: int
) -> None:
    op.answers["/token"] = Answer(status, {"error": error, "error_description": "private words"})
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    assert not isinstance(caught.value, CredentialsRejected)
    assert caught.value.status == 400
    (record,) = [r for r in caplog.records if r.name == "partium_auth.oidc"]
    assert record.levelno == logging.ERROR
    assert "Check client id, client secret" in record.getMessage()
    assert "private words" not in record.getMessage()
    assert refresh_token not in record.getMessage()


@pytest.mark.parametrize("body", [b"", b"<html>private words</html>", {"error": "made up"}, {}])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_that_does_not_say_why_is_doubtful(
    op: BendableProvider, refresh_token: str, caplog: pytest.LogCaptureFixture, body: Any, status: int
) -> None:
    op.answers["/token"] = Answer(status, body)
    with pytest.raises(UnexpectedResponse) as caught:
        refresh(refresh_token)
    assert caught.value.status == 400
    (record,) = [r for r in caplog.records if r.name == "partium_auth.oidc"]
    assert record.levelno == logging.WARNING  # it may be about this one token
    assert "private words" not in record.getMessage()
    assert refresh_token not in record.getMessage()


@pytest.mark.parametrize(
    ("secret", "method", "is_told"),
    [("a b", "client_secret_basic", True), ("a b", "client_secret_post", False), ("ab", "client_secret_basic", False)],
)
def test_who_may_have_a_provider_that_does_not_decode_is_told_so(
    op: BendableProvider, settings: Any, secret: str, method: str, is_told: bool
) -> None:
    settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_CLIENT_SECRET = "site", secret
    op.client_authentication = method
    with pytest.raises(UpstreamError) as caught:
        refresh("x")
    assert ("client_secret_post" in str(caught.value)) is is_told


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_provider_in_trouble_says_when_to_come_back(op: BendableProvider, refresh_token: str, status: int) -> None:
    op.answers["/token"] = Answer(status, headers={"Retry-After": "7"})
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    assert (caught.value.status, caught.value.retry_after, caught.value.sent) == (status, 7, True)


def test_nothing_was_sent_while_discovery_is_down(op: BendableProvider, refresh_token: str) -> None:
    op.answers["/.well-known/openid-configuration"] = Answer(closes=True)
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    assert caught.value.sent is False
    assert op.forms == []


def test_nothing_was_sent_where_the_provider_is_not_acceptable(op: BendableProvider, refresh_token: str) -> None:
    op.metadata["issuer"] = "https://evil.example"
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    assert caught.value.sent is False
    assert op.forms == []


def test_a_caller_can_call_it_off_just_before_it_is_sent(op: BendableProvider, refresh_token: str) -> None:
    class CalledOffError(Exception):
        pass

    def call_off() -> None:
        raise CalledOffError

    with pytest.raises(CalledOffError):
        token_endpoint.refresh(providers.get("default"), refresh_token, before_send=call_off)
    assert op.forms == []


@pytest.mark.parametrize("answer", [Answer(500), Answer(closes=True), Answer(400, {"error": "invalid_grant"})])
@pytest.mark.parametrize("authentication", ["client_secret_basic", "client_secret_post"])
def test_no_frame_of_a_failed_call_holds_a_credential(
    op: BendableProvider, refresh_token: str, answer: Answer, authentication: str
) -> None:
    op.client_authentication = authentication
    op.answers["/token"] = answer
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    frames = [
        entry.frame
        for entry in caught.traceback
        if "partium_auth" in str(entry.path) and "tests" not in str(entry.path)
    ]
    assert len(frames) >= 2
    for frame in frames:
        shown = repr(dict(frame.f_locals))
        if refresh_token in shown or CLIENT_SECRET in shown or quote(CLIENT_SECRET, safe="") in shown:
            pytest.fail(f"{frame.code.name} holds a credential")


class TestDocuments:
    def test_not_more_are_cached_than_the_bound(self, op: BendableProvider) -> None:
        for number in range(documents.MAX_DOCUMENTS + 1):
            op.answers[f"/{number}"] = Answer(body={"number": number})
            assert documents.get(f"{op.url}/{number}") == {"number": number}
        op.calls.clear()
        for number in (documents.MAX_DOCUMENTS, 1, 0):  # the oldest has gone
            documents.get(f"{op.url}/{number}")
        assert op.calls == ["/0"]

    def test_a_key_set_that_cannot_be_fetched_again_is_no_error_of_its_own(self, op: BendableProvider) -> None:
        url = f"{op.url}/jwks"
        first = documents.get(url)
        op.answers["/jwks"] = Answer(closes=True)
        assert documents.get_newer(url, than=first) is None


class TestSettings:
    @pytest.mark.parametrize("value", ["HS512 none", "rs256", [], ""])
    def test_an_unknown_algorithm_is_a_mistake(self, op: BendableProvider, settings: Any, value: Any) -> None:
        from django.core.exceptions import ImproperlyConfigured

        settings.OIDC_RP_SIGN_ALGO = value
        with pytest.raises(ImproperlyConfigured, match="OIDC_RP_SIGN_ALGO"):
            providers.get("default")

    @pytest.mark.parametrize(("name", "setting"), ENDPOINTS.items())
    def test_each_url_can_be_set_in_the_settings_and_in_a_row(
        self, op: BendableProvider, settings: Any, db: None, name: str, setting: str
    ) -> None:
        url = "https://elsewhere.example/x"
        setattr(settings, setting, url)
        row = add_provider(op, **{name: url})
        for provider in (providers.get("default"), providers.from_row(row)):
            assert getattr(interpret_metadata(provider, op.discovery()), name) == url

    def test_without_a_client_id_there_is_no_default_provider(self, settings: Any, db: None) -> None:
        settings.OIDC_OP_ISSUER = "https://provider.example"
        with pytest.raises(LookupError):
            providers.get("default")

    @pytest.mark.parametrize(
        ("settings_given", "name"),
        [
            ({"OIDC_OP_NAME": "Contoso"}, "Contoso"),
            ({"OIDC_OP_ISSUER": "https://login.example.com/realms/a"}, "login.example.com"),
            ({"OIDC_OP_AUTHORIZATION_ENDPOINT": "https://a.example.com/x"}, "a.example.com"),
            ({}, "default"),
        ],
    )
    def test_what_the_login_page_calls_it(self, settings: Any, settings_given: dict[str, str], name: str) -> None:
        for setting, value in settings_given.items():
            setattr(settings, setting, value)
        assert providers.settings_name() == name


class TestClaimsOfTwoSources:
    def test_email_verified_counts_only_with_the_address_of_the_same_source(self) -> None:
        id_token = {"sub": "ann", "email": "ann@example.com", "email_verified": True}
        merged = userinfo.merged(id_token, {"sub": "ann", "email": "root@example.com"})
        assert merged == {"sub": "ann", "email": "root@example.com"}

    @pytest.mark.parametrize("said", [{}, {"email_verified": False}])
    def test_userinfo_does_not_verify_the_address_of_the_id_token(self, said: dict[str, Any]) -> None:
        id_token = {"sub": "ann", "email": "root@example.com", **said}
        assert userinfo.merged(id_token, {"sub": "ann", "email_verified": True}) == id_token

    def test_what_is_about_the_login_itself_comes_from_the_id_token_alone(self) -> None:
        id_token = {"iss": "https://p.example", "sub": "ann", "sid": "1", "exp": 1}
        merged = userinfo.merged(id_token, {"iss": "https://evil.example", "sub": "ann", "sid": "2", "name": "Ann"})
        assert merged == {**id_token, "name": "Ann"}
