"""What has to be refused: nobody is logged in, nothing is stored, a page says what to do, one log line names the check."""

from __future__ import annotations

import dataclasses
import json
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth import SESSION_KEY, get_user_model
from django.test import Client
from pytest_django import Settings

from partium_auth.models import Grant, Organization
from partium_auth.oidc import token_endpoint, userinfo
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import interpret_metadata
from partium_auth.oidc.provider import Provider, discovery_url_of
from partium_auth.oidc.signed_tokens import refuse_unstorable_text
from tests.oidc.conftest import Browser, Refusals, add_provider, moved_clock
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, Answer, BendableProvider, jwk, private_key

DAY = 86400


def encoded(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unchecked(claims: dict[str, Any]) -> str:
    """Sign claims that PyJWT would refuse to sign; those that are None are left out."""
    payload = json.dumps({name: value for name, value in claims.items() if value is not None}).encode()
    return jwt.api_jws.PyJWS().encode(payload, private_key("RS256"), "RS256", headers={"kid": "RS256-0"})


# --- the ID token ----------------------------------------------------------------------------------------------------


def test_a_wrong_signature(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.sign = lambda claims: op.sign_properly({**claims, "sub": "eve"}).rpartition(".")[0] + ".c2ln"
    refused.check(browser.log_in(), browser, "signature")


def test_a_signature_of_another_key(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.key_number = 1
    op.header["kid"] = "RS256-0"
    refused.check(browser.log_in(), browser, "signature")


def test_no_signature(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.sign = lambda claims: f"{encoded({'alg': 'none'})}.{encoded(claims)}."
    refused.check(browser.log_in(), browser, "alg")


def test_an_algorithm_that_is_not_in_the_list(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.OIDC_RP_SIGN_ALGO = "ES256"
    refused.check(browser.log_in(), browser, "alg")


def test_hmac_with_the_public_key(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    public = private_key("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    op.sign = lambda claims: _hmac(claims, public)
    refused.check(browser.log_in(), browser, "alg")


def test_hmac_with_the_client_secret_where_nobody_asked_for_it(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    op.sign = lambda claims: _hmac(claims, CLIENT_SECRET.encode())
    refused.check(browser.log_in(), browser, "alg")


def test_hmac_with_the_public_key_where_hmac_is_allowed(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.OIDC_RP_SIGN_ALGO = ["RS256", "HS256"]
    public = private_key("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    op.sign = lambda claims: _hmac(claims, public)
    refused.check(browser.log_in(), browser, "signature")


def test_a_row_never_allows_hmac(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, refused: Refusals
) -> None:
    add_provider(other_op, signing_algorithms="RS256 HS256 none")
    other_op.sign = lambda claims: _hmac(claims, CLIENT_SECRET.encode())
    refused.check(Browser(other_op, browser.client).log_in("other"), browser, "alg")


def _hmac(claims: dict[str, Any], secret: bytes) -> str:
    # Signed here, because PyJWT refuses to sign with what looks like a public key.
    import hashlib
    import hmac

    body = f"{encoded({'alg': 'HS256', 'kid': 'RS256-0'})}.{encoded(claims)}"
    signature = hmac.new(secret, body.encode(), hashlib.sha256).digest()
    return f"{body}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_no_kid_while_several_keys_fit(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.header["kid"] = None
    op.jwks = [jwk("RS256"), jwk("RS256", 1)]
    refused.check(browser.log_in(), browser, "kid")


def test_two_keys_of_one_name(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.jwks = [jwk("RS256"), jwk("RS256", 1, kid="RS256-0")]
    refused.check(browser.log_in(), browser, "kid")


def test_a_key_that_is_not_for_signatures(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.jwks = [jwk("RS256", use="enc")]
    refused.check(browser.log_in(), browser, "kid")


def test_a_key_set_that_is_no_key_set(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.answers["/jwks"] = Answer(body={"keys": "none"})
    refused.check(browser.log_in(), browser, "kid")


def test_extensions_that_have_to_be_understood(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.header["crit"] = ["exp"]
    refused.check(browser.log_in(), browser, "jwt")


@pytest.mark.parametrize("token", ["rubbish", "a.b.c", "e30.e30.e30", "x" * 100_000])
def test_something_that_is_no_token(browser: Browser, op: BendableProvider, refused: Refusals, token: str) -> None:
    op.sign = lambda claims: token
    response = browser.log_in()
    check = "alg" if token == "e30.e30.e30" else "jwt"
    refused.check(response, browser, check)


@pytest.mark.parametrize(
    ("check", "claims"),
    [
        ("iss", {"iss": None}),
        ("iss", {"iss": "https://evil.example"}),
        ("iss", {"iss": "with a slash"}),
        ("iss", {"iss": "a part"}),
        ("iss", {"iss": ["a", "list"]}),
        ("aud", {"aud": None}),
        ("aud", {"aud": "somebody else"}),
        ("aud", {"aud": ["somebody else"]}),
        ("aud", {"aud": []}),
        ("aud", {"aud": {CLIENT_ID: 1}}),
        ("aud", {"aud": [CLIENT_ID, 7], "azp": CLIENT_ID}),
        ("azp", {"aud": [CLIENT_ID, "somebody else"], "azp": "somebody else"}),
        ("azp", {"aud": [CLIENT_ID, "somebody else"]}),
        ("azp", {"azp": "somebody else"}),
        ("exp", {"exp": None}),
        ("exp", {"exp": "past"}),
        ("exp", {"exp": "tomorrow"}),
        ("exp", {"exp": True}),
        ("exp", {"exp": "9999999999"}),
        ("exp", {"exp": float("inf")}),
        ("exp", {"exp": [9_999_999_999]}),
        ("iat", {"iat": None}),
        ("iat", {"iat": "future"}),
        ("iat", {"iat": float("nan")}),
        ("iat", {"iat": "future", "nbf": 0}),
        ("nbf", {"nbf": "future"}),
        ("nbf", {"nbf": {}}),
        ("sub", {"sub": None}),
        ("sub", {"sub": ""}),
        ("sub", {"sub": 7}),
        ("sub", {"sub": "x" * 256}),
        ("nonce", {"nonce": None}),
        ("nonce", {"nonce": "another"}),
        ("nonce", {"nonce": ["another"]}),
        ("at_hash", {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
        ("at_hash", {"at_hash": 7}),
    ],
)
def test_a_claim_that_is_not_right(
    browser: Browser, op: BendableProvider, refused: Refusals, check: str, claims: dict[str, Any]
) -> None:
    now = int(time.time())
    special = {"past": now - 61, "future": now + 120, "with a slash": f"{op.url}/", "a part": op.url[:-1]}
    changed = {name: special.get(value, value) if isinstance(value, str) else value for name, value in claims.items()}

    op.sign = lambda given: unchecked({**given, **changed})
    refused.check(browser.log_in(), browser, check)


def test_a_replayed_nonce(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    first = parse_qs(urlsplit(browser.start()).query)["nonce"][0]
    op.changed_claims["nonce"] = first
    refused.check(browser.log_in(), browser, "nonce")


def test_a_login_that_is_older_than_max_age(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"max_age": 600}
    op.changed_claims["auth_time"] = int(time.time()) - 700
    refused.check(browser.log_in(), browser, "auth_time")


# --- userinfo --------------------------------------------------------------------------------------------------------


@pytest.fixture
def asks_userinfo(op: BendableProvider, settings: Settings) -> None:
    settings.OIDC_OP_USER_ENDPOINT = f"{op.url}/userinfo"


@pytest.mark.usefixtures("asks_userinfo")
@pytest.mark.parametrize("subject", ["somebody else", None, ["ann-1"]])
def test_userinfo_about_somebody_else(
    browser: Browser, op: BendableProvider, refused: Refusals, subject: object
) -> None:
    op.userinfo_claims["sub"] = subject
    refused.check(browser.log_in(), browser, "userinfo_sub")


@pytest.mark.usefixtures("asks_userinfo")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, b"private words"),
        Answer(500, b"private words"),
        Answer(302, headers={"Location": "https://elsewhere.example"}),
        Answer(200, b"<html>private words</html>", "text/html"),
        Answer(200, b"[]"),
        Answer(200, b'"' + b"x" * 300_000 + b'"'),
        Answer(closes=True),
        Answer(hangs=True),
    ],
    ids=lambda answer: f"{answer.status} {'hangs' if answer.hangs else ''}{len(answer.body)}",
)
def test_userinfo_that_fails(
    browser: Browser, op: BendableProvider, refused: Refusals, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(userinfo, "USERINFO_SECONDS", 0.5)
    op.answers["/userinfo"] = answer
    refused.check(browser.log_in(), browser, "userinfo", status=503)


@pytest.mark.usefixtures("asks_userinfo")
@pytest.mark.parametrize(
    ("check", "claims"),
    [
        ("userinfo_sub", {"sub": "somebody else"}),
        ("iss", {"sub": "ann-1", "iss": "https://evil.example"}),
        ("aud", {"sub": "ann-1", "aud": "somebody else"}),
        ("exp", {"sub": "ann-1", "exp": 1}),
    ],
)
def test_a_signed_userinfo_that_is_not_right(
    browser: Browser, op: BendableProvider, refused: Refusals, check: str, claims: dict[str, Any]
) -> None:
    op.answers["/userinfo"] = Answer(body=op.sign_properly(claims).encode(), content_type="application/jwt")
    refused.check(browser.log_in(), browser, check)


@pytest.mark.usefixtures("asks_userinfo")
@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("text", ["\0", "half \ud800"])
def test_userinfo_with_text_that_no_database_stores(
    browser: Browser, op: BendableProvider, refused: Refusals, is_signed: bool, text: str
) -> None:
    claims = {"sub": "ann-1", "name": text}
    if is_signed:
        op.answers["/userinfo"] = Answer(body=unchecked(claims).encode(), content_type="application/jwt")
    else:
        op.userinfo_claims.update(claims)
    refused.check(browser.log_in(), browser, "claims", status=403)


# --- state, and what comes with it -------------------------------------------------------------------------------------


def test_an_unknown_state(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    answer = op.authorize(browser.start())
    refused.check(browser.come_back({**answer, "state": "made up"}), browser, "state")
    assert op.forms == []


def test_no_state(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    refused.check(browser.come_back({"code": "x"}), browser, "state")


def test_a_state_that_was_used_before(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    op.answers["/token"] = Answer(500)
    answer = op.authorize(browser.start())
    browser.come_back(answer)
    refused.caplog.clear()
    del op.answers["/token"]
    refused.check(browser.come_back(answer), browser, "state")


def test_a_state_that_is_older_than_ten_minutes(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    with moved_clock(-601):
        answer = op.authorize(browser.start())
    refused.check(browser.come_back(answer), browser, "state")
    assert op.forms == []


def test_claims_that_are_nested_without_end_are_looked_through_all_the_same() -> None:
    """Python 3.12 and later read JSON that is nested more deeply than functions may call each other."""
    nested: list[Any] = ["\0"]
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(Refused) as caught:
        refuse_unstorable_text({"deep": nested})
    assert caught.value.check == "claims"


def test_a_state_of_another_session(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    answer = op.authorize(browser.start())
    victim = Browser(op)
    victim.start()
    refused.check(victim.come_back(answer), victim, "state")


def test_logins_that_never_come_back_do_not_fill_the_requests_of_a_browser(
    browser: Browser, op: BendableProvider
) -> None:
    first = op.authorize(browser.start())
    last = [op.authorize(browser.start(next=f"/page/{number}/")) for number in range(40)][-1]
    kept = [cookie for cookie in browser.client.cookies.values() if cookie.value]
    assert 2000 < sum(len(cookie.key + cookie.value) for cookie in kept) < 5000
    assert browser.come_back(first).status_code == 400
    assert browser.come_back(last).status_code == 302


def test_a_code_redeemed_at_another_provider_than_it_was_started_at(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, refused: Refusals
) -> None:
    add_provider(other_op)
    answer = op.authorize(browser.start())
    refused.check(browser.come_back(answer, "other"), browser, "state")
    assert op.forms == other_op.forms == []


def test_no_code(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    answer = op.authorize(browser.start())
    refused.check(browser.come_back({"state": answer["state"]}), browser, "code")


@pytest.mark.parametrize("error", ["access_denied", "<script>"])
def test_an_error_without_our_state_logs_nobody_out(browser: Browser, op: BendableProvider, error: str) -> None:
    browser.log_in()
    response = browser.come_back({"error": error, "state": "made up"})
    assert response.status_code == 400
    assert "<script>" not in response.content.decode()
    assert browser.user is not None
    assert Grant.objects.filter(revoked_at=None).count() == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("access_denied", 403),
        ("consent_required", 403),
        ("server_error", 503),
        ("temporarily_unavailable", 503),
        ("login_required", 400),
        ("private words", 400),
    ],
)
@pytest.mark.parametrize("promises_issuer", [False, True])
def test_an_error_with_our_state(
    browser: Browser, op: BendableProvider, refused: Refusals, error: str, status: int, promises_issuer: bool
) -> None:
    op.metadata["authorization_response_iss_parameter_supported"] = promises_issuer
    answer = op.authorize(browser.start(next="/page/"))
    parameters = {"state": answer["state"], "error": error, "error_description": "private words"}
    response = browser.come_back(parameters)
    refused.check(response, browser, "provider_error", status=status)
    assert "/partium/login/?next=%2Fpage%2F" in response.content.decode()


@pytest.mark.parametrize(
    "error", ["invalid_request", "invalid_scope", "unauthorized_client", "unsupported_response_type", "invalid_target"]
)
def test_what_the_operator_has_to_mend_is_in_the_log(
    browser: Browser, op: BendableProvider, refused: Refusals, error: str
) -> None:
    answer = op.authorize(browser.start())
    response = browser.come_back({"state": answer["state"], "error": error})
    refused.check(response, browser, "provider_error", status=503)
    assert error in refused.caplog.text
    assert {r.levelname for r in refused.caplog.records if r.name == "partium_auth.login"} == {"ERROR"}
    assert "is not set up correctly" in response.content.decode()


def test_an_error_that_nobody_has_registered_is_in_the_log(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    answer = op.authorize(browser.start())
    response = browser.come_back({"state": answer["state"], "error": "moon_is_full"})
    refused.check(response, browser, "provider_error")
    assert "moon_is_full" in refused.caplog.text


def test_a_person_who_took_too_long_at_keycloak_is_sent_there_once_more(browser: Browser, op: BendableProvider) -> None:
    error = {"error": "temporarily_unavailable", "error_description": "authentication_expired"}
    state = op.authorize(browser.start(next="/page/"))["state"]
    again = browser.come_back({"state": state, **error})
    answer = op.authorize(again.headers["Location"])
    assert browser.come_back({"state": answer["state"], **error}).status_code == 503  # but not over and over
    state = op.authorize(browser.start(next="/page/"))["state"]
    again = browser.come_back({"state": state, **error})
    assert browser.come_back(op.authorize(again.headers["Location"])).headers["Location"] == "/page/"


def test_an_error_that_another_provider_sends(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    answer = op.authorize(browser.start())
    parameters = {"state": answer["state"], "error": "access_denied", "iss": "https://evil.example"}
    refused.check(browser.come_back(parameters), browser, "iss_parameter")


def test_a_code_beside_an_error_is_not_redeemed_and_needs_no_issuer_parameter(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    op.metadata["authorization_response_iss_parameter_supported"] = True
    answer = op.authorize(browser.start())
    refused.check(browser.come_back({**answer, "error": ""}), browser, "provider_error")
    assert op.forms == []


def test_the_issuer_parameter_of_another_provider(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    answer = op.authorize(browser.start())
    refused.check(browser.come_back({**answer, "iss": "https://evil.example"}), browser, "iss_parameter")
    assert op.forms == []


def test_no_issuer_parameter_where_the_provider_promises_it(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    op.sends_issuer = True
    answer = op.authorize(browser.start())
    del answer["iss"]
    refused.check(browser.come_back(answer), browser, "iss_parameter")


# --- the token endpoint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"error": "invalid_client", "error_description": "private words"}),
        Answer(400, b"private words", "text/plain"),
        Answer(500, b"private words"),
        Answer(200, b"<html>private words</html>", "text/html"),
        Answer(200, {"access_token": "private words"}),
        Answer(200, {"access_token": "abc", "token_type": "Bearer"}),
        Answer(307, headers={"Location": "https://evil.example/token"}),
        Answer(302, headers={"Location": "/token"}),
        Answer(200, b" " * 2_000_000),
        Answer(closes=True),
        Answer(hangs=True),
    ],
    ids=lambda answer: f"{answer.status} {'hangs' if answer.hangs else ''}{str(answer.body)[:40]}",
)
def test_the_token_endpoint_fails(
    browser: Browser, op: BendableProvider, refused: Refusals, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_endpoint, "EXCHANGE_SECONDS", 0.5)
    op.answers["/token"] = answer
    refused.check(browser.log_in(), browser, "upstream", status=503)
    assert op.calls.count("/token") == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_code_that_is_made_up_or_too_old_is_nobodys_error(
    browser: Browser, op: BendableProvider, refused: Refusals, status: int
) -> None:
    op.answers["/token"] = Answer(status, {"error": "invalid_grant", "error_description": "private words"})
    response = browser.log_in()
    refused.check(response, browser, "upstream", status=400)
    assert "has expired" in response.content.decode()
    assert {r.levelname for r in refused.caplog.records if r.name == "partium_auth.login"} == {"WARNING"}


def test_a_wrong_client_secret(browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings) -> None:
    settings.OIDC_RP_CLIENT_SECRET = "wrong"
    response = browser.log_in()
    refused.check(response, browser, "upstream", status=503)
    assert "Check client id, client secret" in refused.caplog.text
    assert "Trying again will not help" in response.content.decode()
    assert [r.levelname for r in refused.caplog.records if r.name == "partium_auth.login"] == ["ERROR"]


@pytest.mark.parametrize("slug", ["default", "other"])
def test_a_provider_that_takes_no_secret(browser: Browser, op: BendableProvider, refused: Refusals, slug: str) -> None:
    add_provider(op)
    op.metadata = {"token_endpoint_auth_methods_supported": ["tls_client_auth", "\x1b[2J"]}
    response = browser.client.get(f"/partium/login/{slug}/")
    refused.check(response, browser, "client_authentication", status=503)
    assert "Trying again will not help" in response.content.decode()
    assert "offers 'tls_client_auth', '\\x1b[2J'; configured is client_secret_basic" in refused.caplog.text
    assert "/token" not in op.calls


def test_a_provider_that_does_not_decode_basic_credentials(
    browser: Browser, op: BendableProvider, refused: Refusals
) -> None:
    op.decode_basic = str  # Glewlwyd's way
    refused.check(browser.log_in(), browser, "upstream", status=503)
    assert "client_secret_post" in refused.caplog.text


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_provider_that_may_answer_later(
    browser: Browser, op: BendableProvider, refused: Refusals, status: int
) -> None:
    op.answers["/token"] = Answer(status, b"private words")
    response = browser.log_in()
    refused.check(response, browser, "upstream", status=503)
    assert "try again in a few minutes" in response.content.decode()


def test_a_discovery_document_that_is_not_there(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.OIDC_OP_DISCOVERY_ENDPOINT = f"{op.url}/nothing/here"
    response = start(browser)
    refused.check(response, browser, "upstream", status=503)
    assert "Trying again will not help" in response.content.decode()


def test_a_site_that_forgot_the_backend(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    response = browser.log_in()
    refused.check(response, browser, "configuration", status=503)
    assert "PartiumOIDCBackend" in refused.caplog.text


def test_a_browser_without_our_cookie_is_said_in_the_log(
    browser: Browser, op: BendableProvider, refused: Refusals, db: None
) -> None:
    answer = op.authorize(browser.start())
    browser.client.cookies.clear()
    refused.check(browser.come_back(answer), browser, "state")
    assert "sent no cookie" in refused.caplog.text
    assert "SESSION_COOKIE_SECURE" in refused.caplog.text


# --- discovery ---------------------------------------------------------------------------------------------------------


def start(browser: Browser, slug: str = "default") -> Any:
    return browser.client.get(f"/partium/login/{slug}/")


@pytest.mark.parametrize("issuer", ["https://evil.example", "slash", None, 7])
def test_a_discovery_document_of_another_issuer(
    browser: Browser, op: BendableProvider, refused: Refusals, issuer: object
) -> None:
    op.metadata["issuer"] = f"{op.url}/" if issuer == "slash" else issuer
    refused.check(start(browser), browser, "discovery_issuer", status=503)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    "url", [None, "http://provider.example/x", "javascript:alert(1)", "https://a@provider.example", 7]
)
def test_a_discovery_document_without_a_usable_endpoint(
    browser: Browser, op: BendableProvider, refused: Refusals, name: str, url: object
) -> None:
    op.metadata[name] = url
    refused.check(start(browser), browser, "discovery", status=503)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8500/v1/agent/service/register", "HTTP://localhost/", "http://[::1]/"]
)
def test_a_document_from_elsewhere_that_names_this_machine(url: str) -> None:
    """Whoever runs an organization's provider would otherwise have this server call what listens on loopback."""
    elsewhere = Provider(slug="acme", display_name="Acme", issuer="https://login.acme.example", client_id=CLIENT_ID)
    elsewhere = dataclasses.replace(elsewhere, discovery_url=discovery_url_of(elsewhere.issuer))
    document = {
        "issuer": elsewhere.issuer,
        "authorization_endpoint": "https://login.acme.example/authorize",
        "token_endpoint": "https://login.acme.example/token",
        "jwks_uri": "https://login.acme.example/jwks",
    }
    assert interpret_metadata(elsewhere, document)
    for name in ("token_endpoint", "jwks_uri", "userinfo_endpoint", "revocation_endpoint"):
        with pytest.raises(Refused) as caught:
            interpret_metadata(elsewhere, {**document, name: url})
        assert caught.value.check == "discovery"
        by_hand = dataclasses.replace(elsewhere, endpoints={name: url})
        assert getattr(interpret_metadata(by_hand, document), name) == url


@pytest.mark.parametrize(
    "answer", [Answer(404), Answer(200, b"<html>private words</html>"), Answer(200, b"[]"), Answer(200, b" " * 300_000)]
)
def test_no_discovery_document(browser: Browser, op: BendableProvider, refused: Refusals, answer: Answer) -> None:
    op.answers["/.well-known/openid-configuration"] = answer
    refused.check(start(browser), browser, "upstream", status=503)


def test_static_endpoints_without_an_issuer(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.OIDC_OP_ISSUER = ""
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = f"{op.url}/authorize"
    settings.OIDC_OP_TOKEN_ENDPOINT = f"{op.url}/token"
    settings.OIDC_OP_JWKS_ENDPOINT = f"{op.url}/jwks"
    refused.check(start(browser), browser, "configuration", status=503)
    assert "OIDC_OP_ISSUER" in refused.caplog.text


def test_no_encryption_key(browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings) -> None:
    answer = op.authorize(browser.start())
    settings.PARTIUM_ENCRYPTION_KEYS = []
    refused.check(browser.come_back(answer), browser, "configuration", status=503)
    assert op.forms == []


# --- people ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ann(db: None) -> Any:
    """An account that was there before anybody logged in through a provider."""
    return get_user_model().objects.create_user("ann", "ann@example.com", "a password")


@pytest.mark.parametrize("verified", [False, "true", 1, None])
def test_an_email_address_that_is_not_verified_is_neither_stored_nor_compared(
    browser: Browser, op: BendableProvider, settings: Settings, ann: Any, verified: object
) -> None:
    """Else whoever claims it first would lock out the person whose it is."""
    settings.PARTIUM_LINK_BY_VERIFIED_EMAIL = True
    op.claims["email_verified"] = verified
    assert browser.log_in().status_code == 302
    other = get_user_model().objects.exclude(pk=ann.pk).get()
    assert other.email == ""
    assert "@" not in other.username


@pytest.mark.parametrize("flag", ["is_staff", "is_superuser"])
@pytest.mark.parametrize("linking", [True, False])
def test_the_email_address_of_a_privileged_account(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings, ann: Any, flag: str, linking: bool
) -> None:
    settings.PARTIUM_LINK_BY_VERIFIED_EMAIL = linking
    setattr(ann, flag, True)
    ann.save()
    refused.check(browser.log_in(claims={"email": "Ann@Example.com"}), browser, "email", status=403, users=1)


def test_an_email_address_that_two_accounts_have(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings, ann: Any
) -> None:
    settings.PARTIUM_LINK_BY_VERIFIED_EMAIL = True
    get_user_model().objects.create_user("ann2", "ANN@example.com")
    refused.check(browser.log_in(), browser, "email", status=403, users=2)


def test_the_email_address_of_an_existing_account_where_linking_is_not_allowed(
    browser: Browser, op: BendableProvider, refused: Refusals, ann: Any
) -> None:
    refused.check(browser.log_in(), browser, "email", status=403, users=1)


def test_the_email_address_of_another_identity(browser: Browser, op: BendableProvider, settings: Settings) -> None:
    settings.PARTIUM_LINK_BY_VERIFIED_EMAIL = True
    browser.log_in()
    mallory = Browser(op)
    response = mallory.log_in(claims={"sub": "mallory"})
    assert response.status_code == 403
    assert mallory.user is None
    assert get_user_model().objects.count() == Grant.objects.count() == 1


def test_a_deactivated_account(browser: Browser, op: BendableProvider, settings: Settings, ann: Any) -> None:
    browser.op.claims["email"] = "new@example.com"
    browser.log_in()
    user = browser.user
    assert user is not None
    user.is_active = False
    user.save()
    again = Browser(op)
    response = again.log_in()
    assert response.status_code == 403
    assert "deactivated" in response.content.decode()
    assert SESSION_KEY not in again.client.session
    assert Grant.objects.count() == 1
    # … and on the next request of the session that is still there:
    assert browser.client.get("/partium/login/").wsgi_request.user.is_anonymous


def test_an_unknown_provider(browser: Browser, refused: Refusals) -> None:
    refused.check(start(browser, "unknown"), browser, "provider", status=404)


def test_a_deactivated_provider(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, refused: Refusals
) -> None:
    row = add_provider(other_op)
    answer = other_op.authorize(Browser(other_op, browser.client).start("other"))
    row.is_active = False
    row.save()
    refused.check(browser.come_back(answer, "other"), browser, "provider", status=404)
    refused.caplog.clear()
    refused.check(start(browser, "other"), browser, "provider", status=404)


def test_a_provider_of_a_deactivated_organization(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, refused: Refusals, acme: Organization
) -> None:
    add_provider(other_op, organization=acme)
    answer = other_op.authorize(Browser(other_op, browser.client).start("other"))
    acme.is_active = False
    acme.save()
    refused.check(browser.come_back(answer, "other"), browser, "provider", status=404)


def test_nobody_new_where_the_site_creates_no_users(
    browser: Browser, op: BendableProvider, refused: Refusals, settings: Settings
) -> None:
    settings.OIDC_CREATE_USER = False
    refused.check(browser.log_in(), browser, "unknown_person", status=403)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\thttps://evil.example",
        "x" * 3000,
    ],
)
def test_next_that_points_to_another_site(browser: Browser, op: BendableProvider, target: str) -> None:
    assert browser.log_in(next=target).headers["Location"] == "/home/"


def test_a_refused_login_as_somebody_else_leaves_the_session_as_it_was(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    before = (browser.user, Grant.objects.get().access_token.reveal())
    op.changed_claims["aud"] = "somebody else"
    assert browser.log_in(claims={"sub": "bob", "email": "bob@example.com"}).status_code == 400
    assert (browser.user, Grant.objects.get().access_token.reveal()) == before
    assert get_user_model().objects.count() == 1


def test_a_login_as_somebody_else_ends_the_first_persons_grant(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    ann, session_key = browser.user, browser.client.session.session_key
    browser.log_in(claims={"sub": "bob", "email": "bob@example.com"})
    assert browser.user not in (None, ann)
    assert browser.client.session.session_key != session_key
    assert [grant.user for grant in Grant.objects.filter(revoked_at=None)] == [browser.user]


def test_two_first_logins_at_once_make_one_account(browser: Browser, op: BendableProvider) -> None:
    one, two = Browser(op, Client()), Browser(op, Client())
    answers = [op.authorize(b.start()) for b in (one, two)]
    one.come_back(answers[0])
    two.come_back(answers[1])
    assert one.user == two.user
    assert get_user_model().objects.count() == 1
