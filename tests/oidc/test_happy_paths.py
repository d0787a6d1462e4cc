"""What a login has to be able to do: the happy paths of a certified relying party."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from partium_auth.accounts import sessions, started
from partium_auth.models import Grant, Identity
from tests.oidc.conftest import Browser, add_provider, moved_clock, name_endpoints
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, Answer, BendableProvider, jwk, private_key


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_login_through_the_code_flow_with_pkce_opens_a_session(browser: Browser, op: BendableProvider) -> None:
    response = browser.log_in()
    assert (response.status_code, response.headers["Location"]) == (302, "/home/")
    assert browser.user is not None
    identity = Identity.objects.get()
    assert (identity.issuer, identity.subject, identity.user) == (op.url, "ann-1", browser.user)
    grant = Grant.objects.get()
    assert (grant.kind, grant.provider, grant.session_id, grant.lifetime_seconds) == (
        "oidc",
        "default",
        "session-1",
        600,
    )
    assert grant.access_token.reveal() in op.issued
    assert grant.refresh_token.reveal() in op.refresh_tokens
    assert grant.id_token.reveal() in op.issued
    assert grant.session_key.reveal() == browser.client.session.session_key
    assert browser.user.has_usable_password() is False


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_the_client_authenticates_as_discovery_says(browser: Browser, op: BendableProvider, method: str) -> None:
    op.client_authentication = method
    assert browser.log_in().status_code == 302
    assert browser.user is not None


@pytest.mark.parametrize("decode", [unquote_plus, unquote])
def test_basic_credentials_are_read_by_whoever_decodes_them(
    browser: Browser, op: BendableProvider, decode: Callable[[str], str]
) -> None:
    # Authlib, and with it Canaille, does not take "+" for a space.
    op.decode_basic = decode
    browser.log_in()
    assert browser.user is not None


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_setting_of_the_base_library_chooses_the_client_authentication(
    browser: Browser, op: BendableProvider, settings: Settings, method: str
) -> None:
    op.client_authentication = method
    op.metadata["token_endpoint_auth_methods_supported"] = None
    settings.OIDC_TOKEN_USE_BASIC_AUTH = method == "client_secret_basic"
    browser.log_in()
    assert browser.user is not None


def test_a_public_client_sends_no_secret(browser: Browser, op: BendableProvider, settings: Settings) -> None:
    op.client_authentication = "none"
    settings.OIDC_RP_CLIENT_SECRET = ""
    browser.log_in()
    assert browser.user is not None


def test_a_provider_without_a_userinfo_endpoint_is_enough(browser: Browser, op: BendableProvider) -> None:
    op.metadata["userinfo_endpoint"] = None
    browser.log_in()
    assert browser.user is not None
    assert browser.user.email == "ann@example.com"


def test_a_warm_login_costs_one_call(browser: Browser, op: BendableProvider) -> None:
    op.claims |= {"organizations": [], "roles": []}
    browser.log_in()
    op.calls.clear()
    Browser(op).log_in()
    assert op.calls == ["/token"]


def test_userinfo_is_asked_where_claims_are_missing(browser: Browser, op: BendableProvider) -> None:
    op.changed_claims["email"] = None
    browser.log_in()
    assert op.calls.count("/userinfo") == 1
    assert browser.user is not None
    assert browser.user.email == "ann@example.com"


def test_userinfo_may_be_a_signed_token(browser: Browser, op: BendableProvider) -> None:
    op.changed_claims["email"] = None
    claims = {"iss": op.url, "aud": CLIENT_ID, "sub": "ann-1", "email": "signed@example.com", "email_verified": True}
    op.answers["/userinfo"] = Answer(body=op.sign(claims).encode(), content_type="application/jwt; charset=utf-8")
    browser.log_in()
    assert browser.user is not None
    assert browser.user.email == "signed@example.com"


def test_a_provider_with_static_endpoints_needs_no_discovery(
    browser: Browser, op: BendableProvider, settings: Settings
) -> None:
    name_endpoints(op, settings)
    browser.log_in()
    assert browser.user is not None
    assert op.calls == ["/token", "/jwks", "/userinfo"]


def test_a_discovery_url_alone_is_enough(browser: Browser, op: BendableProvider, settings: Settings) -> None:
    settings.OIDC_OP_ISSUER = ""
    settings.OIDC_OP_DISCOVERY_ENDPOINT = f"{op.url}/.well-known/openid-configuration"
    op.issuer = f"{op.url}/"  # which its discovery URL does not tell
    browser.log_in()
    assert Identity.objects.get().issuer == f"{op.url}/"


@pytest.mark.parametrize("form", ["JWK", "PEM"])
def test_a_key_from_the_settings_is_enough(
    browser: Browser, op: BendableProvider, settings: Settings, form: str
) -> None:
    pem = private_key("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    settings.OIDC_RP_IDP_SIGN_KEY = jwk("RS256") if form == "JWK" else pem
    op.metadata["jwks_uri"] = None
    browser.log_in()
    assert browser.user is not None


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_every_modern_signature_is_understood(browser: Browser, op: BendableProvider, algorithm: str) -> None:
    op.algorithm = algorithm
    op.jwks = [jwk("RS256", 1), jwk(algorithm)]
    browser.log_in()
    assert browser.user is not None


def test_hmac_with_the_client_secret_where_the_settings_name_it(
    browser: Browser, op: BendableProvider, settings: Settings
) -> None:
    settings.OIDC_RP_SIGN_ALGO = "HS256"
    op.sign = lambda claims: jwt.encode(claims, CLIENT_SECRET, "HS256")
    browser.log_in()
    assert browser.user is not None


def test_one_key_without_kid(browser: Browser, op: BendableProvider) -> None:
    op.header["kid"] = None
    op.jwks = [jwk("RS256", kid=None, use=None, alg=None)]
    browser.log_in()
    assert browser.user is not None


def test_keys_for_encryption_and_of_other_kinds_are_passed_over(browser: Browser, op: BendableProvider) -> None:
    op.jwks = [
        jwk("RS256", 1, kid="RS256-0", use="enc"),
        jwk("ES256", kid="RS256-0"),
        jwk("RS256", 2, kid="RS256-0", key_ops=["encrypt"]),
        {"kty": "oct", "kid": "RS256-0", "k": "AAAA"},
        "rubbish",  # type: ignore[list-item]  # no key at all
        jwk("RS256"),
    ]
    browser.log_in()
    assert browser.user is not None


def test_a_new_key_is_fetched_once_and_then_kept(browser: Browser, op: BendableProvider) -> None:
    op.claims |= {"organizations": [], "roles": []}
    browser.log_in()
    op.key_number, op.jwks = 1, [jwk("RS256"), jwk("RS256", 1)]
    op.calls.clear()
    for _ in range(2):
        fresh = Browser(op)
        fresh.log_in()
        assert fresh.user is not None
    assert op.calls == ["/token", "/jwks", "/token"]


def test_a_provider_whose_keys_have_no_names_changes_its_key(browser: Browser, op: BendableProvider) -> None:
    op.header["kid"] = None
    op.jwks = [jwk("RS256", kid=None)]
    browser.log_in()
    op.key_number, op.jwks = 1, [jwk("RS256", 1, kid=None)]
    fresh = Browser(op)
    fresh.log_in()
    assert fresh.user is not None


def test_an_audience_list_with_our_azp(browser: Browser, op: BendableProvider) -> None:
    op.changed_claims.update(aud=["somebody else", CLIENT_ID], azp=CLIENT_ID)
    browser.log_in()
    assert browser.user is not None


def test_the_issuer_parameter_of_rfc_9207(browser: Browser, op: BendableProvider) -> None:
    op.sends_issuer = True
    browser.log_in()
    assert browser.user is not None


def test_clocks_may_differ_by_a_minute(browser: Browser, op: BendableProvider) -> None:
    op.changed_claims.update(iat=int(time.time()) + 50, exp=int(time.time()) - 50)
    browser.log_in()
    assert browser.user is not None


def test_a_server_whose_clock_is_a_little_behind_takes_up_what_another_one_started(browser: Browser) -> None:
    """A silent login is back within a tenth of a second, which is less than what clocks differ by."""
    with moved_clock(5):
        url = browser.start()
    assert browser.come_back(browser.op.authorize(url)).status_code == 302
    assert browser.user is not None


def test_the_second_tab_keeps_the_login_of_the_first(browser: Browser, op: BendableProvider) -> None:
    """Keycloak's other tabs go on by themselves; a grant for each would be left over."""
    first, second = browser.start(), browser.start(next="/second/")
    browser.come_back(op.authorize(first))
    assert browser.come_back(op.authorize(second)).headers["Location"] == "/second/"
    assert Grant.objects.count() == 1


def test_the_second_tab_replaces_a_login_that_has_ended_or_is_somebody_elses(
    browser: Browser, op: BendableProvider
) -> None:
    first, second, third = browser.start(), browser.start(), browser.start()
    browser.come_back(op.authorize(first))
    Grant.objects.update(rejected_at=timezone.now())
    browser.come_back(op.authorize(second))
    assert Grant.objects.filter(revoked_at=None, rejected_at=None).count() == 1
    browser.come_back(op.authorize(third, sub="bob-2", email="bob@example.com"))
    assert browser.user is not None
    assert browser.user.email == "bob@example.com"
    assert Grant.objects.get(revoked_at=None).user == browser.user


def test_two_tabs_each_return_to_their_own_page(browser: Browser, op: BendableProvider) -> None:
    one, two = browser.start(next="/one/"), browser.start(next="/two/")
    second = browser.come_back(op.authorize(two))
    first = browser.come_back(op.authorize(one))
    assert (first.headers["Location"], second.headers["Location"]) == ("/one/", "/two/")
    assert browser.user is not None


def test_a_silent_login_asks_for_prompt_none_and_replaces_the_grant(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    before = Grant.objects.get()
    key = browser.client.session.session_key
    url = browser.start(prompt="none", next="/page/")
    assert query(url)["prompt"] == "none"
    assert browser.come_back(op.authorize(url)).headers["Location"] == "/page/"
    before.refresh_from_db()
    assert before.revoked_at is not None
    assert Grant.objects.filter(revoked_at=None).count() == 1
    assert browser.client.session.session_key != key


def test_a_silent_login_of_somebody_else_leaves_the_session_as_it_is(browser: Browser, op: BendableProvider) -> None:
    """At a provider that does not read the hint: nobody becomes another person without having asked for it."""
    browser.log_in()
    grant, ann = Grant.objects.get(), browser.user
    response = browser.log_in(claims={"sub": "bob-1", "email": "bob@example.com"}, prompt="none")
    assert response.status_code == 403
    assert "Somebody else is logged in" in response.content.decode()
    assert browser.user == ann
    grant.refresh_from_db()
    assert grant.revoked_at is None
    assert browser.log_in(claims={"sub": "bob-1", "email": "bob@example.com"}).status_code == 302
    assert browser.user != ann


@pytest.mark.parametrize("change", ["another issuer", "junk in the session", "a lost key"])
def test_a_silent_login_names_nobody_where_there_is_nothing_to_name_them_with(
    browser: Browser, op: BendableProvider, settings: Settings, change: str
) -> None:
    """The ID token goes to the issuer that the login was at only, as at a log-out."""
    browser.log_in()
    if change == "another issuer":
        Identity.objects.update(issuer="https://elsewhere.example")
    elif change == "junk in the session":
        kept = browser.client.session
        kept[sessions.GRANT] = "junk"
        kept.save()
    else:
        Grant.objects.update(id_token=Grant.objects.values("access_token")[:1])  # does not open there
    url = browser.start(prompt="none")
    assert query(url)["prompt"] == "none"
    assert "id_token_hint" not in query(url)


def test_a_page_in_another_tab_works_on_when_the_same_person_has_logged_in_once_more(
    op: BendableProvider, db: None
) -> None:
    """As a silent login does by itself: the forms of other tabs, and the SDK's script, keep their CSRF token."""
    browser = Browser(op, Client(enforce_csrf_checks=True))

    def token() -> str:
        page = browser.client.get("/partium/login/").content.decode()
        found: list[str] = re.findall('name="csrfmiddlewaretoken" value="([^"]+)"', page)
        return found[0]

    def is_accepted(csrf_token: str) -> bool:
        answer = browser.client.post("/partium/organization/", headers={"X-CSRFToken": csrf_token, "Accept": "x/y"})
        return "no_organization" in answer.content.decode()  # and not Django's 403

    before = token()
    browser.log_in()
    assert not is_accepted(before)  # somebody else may have known it
    in_another_tab = token()
    assert is_accepted(in_another_tab)
    key = browser.client.session.session_key
    browser.log_in(prompt="none")
    assert browser.client.session.session_key != key
    assert is_accepted(in_another_tab)


@pytest.mark.parametrize("error", ["login_required", "consent_required", "invalid_request", "made up"])
@pytest.mark.parametrize("promises_issuer", [False, True])
def test_a_silent_login_that_fails_becomes_an_interactive_one(
    browser: Browser, op: BendableProvider, error: str, promises_issuer: bool
) -> None:
    # Canaille and django-oauth-toolkit promise the iss parameter (RFC 9207), and leave it out where they refuse.
    op.metadata["authorization_response_iss_parameter_supported"] = promises_issuer
    url = browser.start(prompt="none", next="/page/")
    response = browser.come_back({"error": error, "state": query(url)["state"]})
    again = response.headers["Location"]
    assert "prompt" not in query(again)
    op.sends_issuer = promises_issuer
    assert browser.come_back(op.authorize(again)).headers["Location"] == "/page/"


def test_a_silent_login_says_who_was_logged_in(browser: Browser, op: BendableProvider) -> None:
    # Core §3.1.2.1: id_token_hint SHOULD be there with prompt=none. Glewlwyd refuses without.
    assert "id_token_hint" not in query(browser.start(prompt="none"))
    browser.log_in()
    grant = Grant.objects.get()
    assert query(browser.start(prompt="none"))["id_token_hint"] == grant.id_token.reveal()
    assert "id_token_hint" not in query(browser.start())


def test_a_provider_is_told_nothing_of_a_login_at_another_one(
    browser: Browser, op: BendableProvider, other_op: BendableProvider
) -> None:
    add_provider(other_op)
    browser.log_in()
    url = Browser(other_op, browser.client).start("other", prompt="none")
    assert query(url)["prompt"] == "none"
    assert "id_token_hint" not in query(url)


def test_a_silent_login_goes_without_a_hint_that_is_too_long_for_a_url(browser: Browser, op: BendableProvider) -> None:
    op.claims["groups"] = ["x" * 8000]
    browser.log_in()
    url = browser.start(prompt="none")
    assert query(url)["prompt"] == "none"
    assert "id_token_hint" not in query(url)


def test_a_silent_login_that_the_provider_left_unanswered_is_not_tried_again(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # django-oauth-toolkit answers prompt=none with a 500 unless the site there has taken care of it.
    browser.start(prompt="none")
    assert query(browser.start(prompt="none"))["prompt"] == "none"  # another tab
    monkeypatch.setattr(started, "ANSWERED_WITHIN_SECONDS", 0)
    url = browser.start(prompt="none", next="/page/")
    assert "prompt" not in query(url)
    assert browser.come_back(op.authorize(url)).headers["Location"] == "/page/"


def test_the_authorization_request(browser: Browser, settings: Settings, op: BendableProvider) -> None:
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"acr_values": "gold", "state": "mine", "client_id": "mine"}
    settings.OIDC_RP_SCOPES = "email offline_access"
    op.metadata["authorization_endpoint"] = f"{op.url}/authorize?tenant=a"
    url = browser.start(login_hint="ann@example.com")
    asked = query(url)
    assert url.startswith(f"{op.url}/authorize?tenant=a&")
    assert asked["acr_values"] == "gold"
    assert asked["client_id"] == CLIENT_ID
    assert len(asked["state"]) >= 43
    assert asked["scope"] == "openid email offline_access"
    assert asked["login_hint"] == "ann@example.com"
    assert asked["redirect_uri"] == "http://testserver/partium/callback/default/"


def test_a_provider_of_the_database_logs_in_beside_the_default(
    browser: Browser, op: BendableProvider, other_op: BendableProvider
) -> None:
    add_provider(other_op)
    one, two = browser.start(), Browser(other_op, browser.client).start("other")
    assert query(two)["state"] != query(one)["state"]
    assert browser.come_back(other_op.authorize(two), "other").status_code == 302
    assert Identity.objects.get().issuer == other_op.url
    assert Grant.objects.get().provider == "other"
