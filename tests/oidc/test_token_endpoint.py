"""Refreshing at the token endpoint: which errors log people out, and which the operator has to fix."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

import pytest
from pytest_django import Settings

from partium_auth.exceptions import CredentialsRejected, UnexpectedResponse, UpstreamError
from partium_auth.oidc import providers, token_endpoint
from partium_auth.oidc.errors import RegistrationRefused
from tests.oidc.provider import CLIENT_SECRET, Answer, BendableProvider


@pytest.fixture
def refresh_token(op: BendableProvider) -> str:
    token: str = op.tokens()["refresh_token"]
    return token


def refresh(token: str) -> Any:
    return token_endpoint.refresh(providers.get("default"), token)


def test_a_refresh_brings_new_tokens_and_rotates_the_refresh_token(op: BendableProvider, refresh_token: str) -> None:
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


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "invalid_request", "made_up"])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_error_about_our_registration_logs_nobody_out(
    op: BendableProvider, refresh_token: str, caplog: pytest.LogCaptureFixture, error: str, status: int
) -> None:
    op.answers["/token"] = Answer(status, {"error": error, "error_description": "private words"})
    with pytest.raises(RegistrationRefused) as caught:
        refresh(refresh_token)
    assert caught.value.status == 400
    assert error in str(caught.value)
    assert "Check client id, client secret" in str(caught.value)
    assert "private words" not in str(caught.value)
    assert refresh_token not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("error", ["invalid_grant", "access_denied", "invalid_scope", "interaction_required"])
def test_an_error_about_this_login_ends_it(op: BendableProvider, refresh_token: str, error: str, status: int) -> None:
    """Auth0 answers 403 to a dead refresh token; Keycloak ``invalid_scope`` once a consent was added."""
    op.answers["/token"] = Answer(status, {"error": error})
    with pytest.raises(CredentialsRejected) as caught:
        refresh(refresh_token)
    assert caught.value.status == 401


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error", "slow_down"])
def test_an_error_about_everybody_is_an_outage(op: BendableProvider, refresh_token: str, error: str) -> None:
    op.answers["/token"] = Answer(400, {"error": error})
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    assert caught.value.status == 503


@pytest.mark.parametrize("body", [b"", b"<html>private words</html>", {"error": "made up"}, {"error": 1}, {}])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_rejection_without_a_reason_logs_nobody_out(
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
def test_the_error_names_client_secret_post_where_encoding_may_be_the_cause(
    op: BendableProvider, settings: Settings, secret: str, method: str, is_told: bool
) -> None:
    settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_CLIENT_SECRET = "site", secret
    op.client_authentication = method
    with pytest.raises(UpstreamError) as caught:
        refresh("x")
    assert ("client_secret_post" in str(caught.value)) is is_told


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_outage_keeps_the_retry_after_of_the_provider(op: BendableProvider, refresh_token: str, status: int) -> None:
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


def test_nothing_was_sent_where_the_discovery_document_is_refused(op: BendableProvider, refresh_token: str) -> None:
    op.metadata["issuer"] = "https://evil.example"
    with pytest.raises(UpstreamError) as caught:
        refresh(refresh_token)
    assert caught.value.sent is False
    assert op.forms == []


def test_a_caller_can_abort_just_before_the_request_is_sent(op: BendableProvider, refresh_token: str) -> None:
    class AbortedError(Exception):
        pass

    def abort() -> None:
        raise AbortedError

    with pytest.raises(AbortedError):
        token_endpoint.refresh(providers.get("default"), refresh_token, before_send=abort)
    assert op.forms == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, {"error": "invalid_dpop_proof"}),
        Answer(400, {"error": "use_dpop_nonce"}, headers={"DPoP-Nonce": "x"}),
        Answer(200, {"access_token": "x", "token_type": "DPoP"}),
    ],
)
def test_a_provider_that_binds_tokens_to_a_key_is_told_what_to_change(
    op: BendableProvider, refresh_token: str, answer: Answer
) -> None:
    op.answers["/token"] = answer
    with pytest.raises(RegistrationRefused, match="switch DPoP off for this client") as caught:
        refresh(refresh_token)
    assert caught.value.status == 400


@pytest.mark.parametrize("call", ["refresh", "revoke"])
def test_a_provider_that_takes_no_secret_gets_none(
    op: BendableProvider, refresh_token: str, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    op.metadata = {"token_endpoint_auth_methods_supported": ["tls_client_auth", "private_key_jwt"]}
    if call == "refresh":
        with pytest.raises(RegistrationRefused, match="offers 'tls_client_auth', 'private_key_jwt'") as caught:
            refresh(refresh_token)
        assert caught.value.sent is False
    else:
        assert token_endpoint.revoke(providers.get("default"), refresh_token) is False
        assert "offers 'tls_client_auth'" in caplog.text
    assert op.calls == ["/.well-known/openid-configuration"]


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
