"""What an attacker, a sloppy provider or an unlucky moment could do."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import SESSION_KEY, get_user_model, login, logout
from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.test import Client, RequestFactory
from django.urls import set_script_prefix
from pytest_django import Settings

from partium_auth.accounts import code_flow
from partium_auth.exceptions import LoginRequired
from partium_auth.models import Grant, Identity, Membership, Organization
from partium_auth.session import PartiumSession
from partium_auth.testing.people import PartiumUser, log_in
from partium_auth.testing.sandbox import PartiumSandbox
from tests.hosts.journey import PAGE
from tests.oidc.conftest import Browser, add_provider
from tests.oidc.provider import BendableProvider

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hosts.urls")]


@pytest.fixture
def browser(op: BendableProvider, settings: Settings, db: None) -> Browser:
    settings.PARTIUM_EXECUTOR = "inline"
    return Browser(op)


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(org_id="acme", display_name="Acme")


# --- claims that no provider should send ----------------------------------------------------------------------------------

JUNK: list[Any] = [
    "\0",
    "a\0b@example.com",
    "x" * 300 + "@example.com",
    ["ann@example.com"],
    {"a": 1},
    7,
    True,
    "",
    " ",
    "‮@x",
    "\ud800",
    "a\ud800@example.com",
]


@pytest.mark.parametrize("value", JUNK, ids=lambda value: ascii(value)[:12])
@pytest.mark.parametrize(
    "claim",
    ["email", "given_name", "family_name", "name", "preferred_username", "organizations", "roles", "sid", "sub"],
)
def test_no_claim_becomes_a_500(browser: Browser, claim: str, value: Any) -> None:
    answer = browser.log_in(claims={"organizations": ["acme"], claim: value})
    assert answer.status_code in {302, 400, 403}, answer.status_code
    if answer.status_code == 302:
        again = Browser(browser.op)
        assert again.log_in(claims={"organizations": ["acme"], claim: value}).status_code == 302
        assert again.user == browser.user


# --- redirects that Django refuses --------------------------------------------------------------------------------------------


@pytest.fixture
def _old_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """5.2.8 refuses to redirect to more than 2048 characters, others to more than 16384."""
    monkeypatch.setattr("django.http.response.MAX_URL_REDIRECT_LENGTH", 2048, raising=False)
    monkeypatch.setattr("django.http.response.MAX_URL_LENGTH", 2048, raising=False)


@pytest.mark.usefixtures("_old_django")
@pytest.mark.parametrize(("groups", "hinted"), [(1, True), (300, True), (3000, False)])
def test_logging_out_with_a_long_id_token_leads_to_the_provider(browser: Browser, groups: int, hinted: bool) -> None:
    browser.log_in(claims={"groups": [f"group-{n}" for n in range(groups)]})
    answer = browser.client.post("/partium/logout/")
    assert answer.status_code == 302, answer.content
    assert answer["Location"].startswith(f"{browser.op.url}/logout?")
    assert ("id_token_hint" in answer["Location"]) is hinted
    assert len(answer["Location"]) < 8200
    assert SESSION_KEY not in browser.client.session


@pytest.mark.usefixtures("_old_django")
def test_a_long_address_leads_to_the_login_page_all_the_same(client: Client) -> None:
    answer = client.get("/token/?q=" + "%C3%A4" * 220, headers=PAGE)
    assert answer.status_code == 302, answer.content
    assert urlsplit(answer["Location"]).path == "/partium/login/"


@pytest.mark.usefixtures("_old_django")
def test_a_long_next_does_not_break_the_switch(partium_user: PartiumUser) -> None:
    form = {"organization": "acme", "next": "/token/?" + "q" * 3000}
    assert partium_user.client.post("/partium/organization/", form).status_code == 302


LONG = {
    "plain": "/token/?" + "q" * 30_000,
    "as long as a server takes": "/token/?" + "q" * 3_000,
    "encoded": "/token/?q=" + "%C3%A4" * 300,
    "not encoded": "/token/?q=" + "ä" * 700,
    "grows when it is encoded": "/token/?q=" + "&" * 1_500,
    "elsewhere": "https://evil.example/?q=" + "q" * 3_000,
    "elsewhere, and short": "https://evil.example/",
}
SERVERS_TAKE = 2100


@pytest.mark.parametrize("target", LONG.values(), ids=LONG)
def test_wherever_next_is_named_it_is_left_out_where_it_is_too_long_or_elsewhere(
    partium_user: PartiumUser, op: BendableProvider, settings: Settings, target: str
) -> None:
    settings.ROOT_URLCONF = "tests.admin.urls"
    settings.LOGIN_REDIRECT_URL = "/home/"
    visitor = Client()
    # The key admin sends people to the login page; that sends nobody there without asking.
    answer = visitor.get("/keys/login/", {"next": target})
    assert answer["Location"] == "/partium/login/?next=%2Fkeys%2F"
    page = visitor.get("/partium/login/", {"next": target})
    assert page.status_code == 200
    links = re.findall(r'href="([^"]*)"', page.content.decode())
    assert "/partium/login/default/" in links
    # On through the provider, and back.
    browser = Browser(op, visitor)
    answer = browser.log_in(next=target)
    assert (answer.status_code, answer["Location"]) == (302, "/home/")
    # And the switch of organization.
    answer = partium_user.client.post("/partium/organization/", {"organization": "acme", "next": target})
    assert (answer.status_code, answer["Location"]) == (302, "/home/")


def test_the_longest_next_that_is_taken_fits_everywhere(op: BendableProvider, db: None, settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.admin.urls"
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    noise = hashlib.sha512(b"what does not compress").hexdigest()
    target = "/token/?" + (noise * 20)[:1780]
    visitor = Client()
    answer = visitor.get("/keys/login/", {"next": target})
    assert target.rpartition("?")[2] in answer["Location"]
    assert len(answer["Location"]) < SERVERS_TAKE
    page = visitor.get(answer["Location"]).content.decode()
    assert max(len(link) for link in re.findall(r'href="([^"]*)"', page)) < SERVERS_TAKE
    browser = Browser(op, visitor)
    url = browser.start(next=target)
    assert all(len(cookie.OutputString()) < 4000 for cookie in visitor.cookies.values())
    assert browser.come_back(op.authorize(url))["Location"] == target


def test_the_login_of_the_key_admin_understands_utf_8_only(client: Client, settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.admin.urls"
    kind = "multipart/form-data; charset=utf-7; boundary=x"
    assert client.generic("GET", "/keys/login/?next=/%2B2AA-", b"", kind, CONTENT_TYPE=kind).status_code == 400


def test_a_page_of_the_key_admin_with_a_long_address_is_no_500(db: None, settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.admin.urls"
    client = Client()
    for length in (3_000, 100_000):
        answer = client.get("/keys/partium_auth/apikey/?q=" + "ä" * length)
        assert answer.status_code in {302, 400}
        if answer.status_code == 302:
            answer = client.get(answer["Location"])
            assert answer["Location"] == "/partium/login/?next=%2Fkeys%2F"


def test_a_site_that_calls_next_otherwise_understands_djangos_name_too(browser: Browser, settings: Settings) -> None:
    settings.OIDC_REDIRECT_FIELD_NAME = "goto"
    assert browser.log_in(next="/token/")["Location"] == "/token/"
    assert browser.log_in(goto="/token/?goto")["Location"] == "/token/?goto"


# --- loops ----------------------------------------------------------------------------------------------------------------


def test_a_provider_whose_tokens_are_useless_does_not_send_people_round_in_circles(
    browser: Browser, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = browser.op.tokens

    def short_lived() -> dict[str, Any]:
        return {**tokens(), "refresh_token": None, "expires_in": 1}

    monkeypatch.setattr(browser.op, "tokens", short_lived)
    answer = browser.log_in(claims={"organizations": ["acme"]}, next="/token/")
    rounds = 0
    while answer.status_code == 302 and rounds < 20:
        url = answer["Location"]
        if url.startswith(browser.op.url):
            assert "prompt=none" in url
            rounds += 1
            answer = browser.come_back(browser.op.authorize(url, organizations=["acme"]))
        else:
            answer = browser.client.get(url, headers=PAGE)
    assert rounds <= 1
    assert answer.status_code in {200, 503}


def test_an_old_login_is_repeated_silently(browser: Browser, acme: Organization, settings: Settings) -> None:
    settings.PARTIUM_REAUTHENTICATE_AFTER = 3600
    browser.log_in(claims={"organizations": ["acme"]})
    Grant.objects.update(authenticated_at=1.0)
    answer = browser.client.get("/token/", headers=PAGE)
    assert urlsplit(answer["Location"]).path == "/partium/login/default/"
    assert parse_qs(urlsplit(answer["Location"]).query)["prompt"] == ["none"]


# --- one request, two people --------------------------------------------------------------------------------------------------


def test_a_request_in_which_somebody_else_logs_in_forgets_the_first_ones_token(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox
) -> None:
    other = log_in(partium_sandbox, "somebody-else", "globex")
    request: Any = RequestFactory().get("/")
    request.session, request.user = partium_user.client.session, partium_user.user
    request.partium = PartiumSession(request)
    theirs = request.partium.access_token
    assert request.partium.client is not None
    login(request, other.user, "django.contrib.auth.backends.ModelBackend")
    assert request.partium.organization.org_id == "globex"
    with pytest.raises(LoginRequired):  # a login at another backend has no token of its own
        assert request.partium.access_token != theirs


def test_a_request_that_logs_out_has_no_token_any_more(partium_user: PartiumUser) -> None:
    request: Any = RequestFactory().get("/")
    request.session, request.user = partium_user.client.session, partium_user.user
    request.partium = PartiumSession(request)
    assert request.partium.access_token
    logout(request)
    assert isinstance(request.user, AnonymousUser)
    with pytest.raises(LoginRequired):
        _ = request.partium.access_token
    with pytest.raises(LoginRequired):
        request.partium.client.search(text="fan")


# --- what the session keeps ---------------------------------------------------------------------------------------------------


def test_the_browser_keeps_no_secret_of_a_login_under_way(browser: Browser) -> None:
    url = browser.start()
    nonce = parse_qs(urlsplit(url).query)["nonce"][0]
    (cookie,) = browser.client.cookies.values()
    assert cookie["httponly"]
    assert not browser.client.session.items()
    text = str(signing.loads(cookie.value, salt=cookie.key))
    assert nonce not in text
    browser.come_back(browser.op.authorize(url))
    verifier = next(form["code_verifier"] for form in browser.op.forms if "code_verifier" in form)
    assert verifier not in text
    assert len(verifier) >= 43
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", verifier)


def test_two_logins_have_nothing_in_common(browser: Browser) -> None:
    one, two = (parse_qs(urlsplit(browser.start()).query) for _ in range(2))
    for name in ("state", "nonce", "code_challenge"):
        assert one[name] != two[name]


def test_many_logins_under_way_fit_into_cookies(browser: Browser, settings: Settings) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    for number in range(25):
        url = browser.start(next=f"/token/?{number}" + "x" * 200)
        assert all(len(cookie.OutputString()) < 4000 for cookie in browser.client.cookies.values())
    assert browser.come_back(browser.op.authorize(url)).status_code == 302


# --- hosts below a path ---------------------------------------------------------------------------------------------------------


def test_the_redirect_uri_of_the_base_library_stays_below_a_path(settings: Settings, rf: RequestFactory) -> None:
    settings.ROOT_URLCONF = "tests.accounts.migrated_site"
    set_script_prefix("/portal/")
    try:
        uri = code_flow.redirect_uri_of(rf.get("/"), "default")
    finally:
        set_script_prefix("/")
    assert uri == "http://testserver/portal/oidc/callback/"


# --- an organization's own provider ----------------------------------------------------------------------------------------------


def test_an_organizations_provider_cannot_take_somebody_elses_address(
    browser: Browser, acme: Organization, op: BendableProvider
) -> None:
    add_provider(op, "acme-login", organization=acme)
    row_claims = {"sub": "mallory", "email": "chief@host.example", "email_verified": True}
    assert browser.log_in("acme-login", claims=row_claims).status_code == 302
    mallory = get_user_model().objects.get()
    assert "chief@host.example" not in {mallory.username, mallory.email}
    assert Membership.objects.get().organization == acme


def test_an_organizations_provider_speaks_for_its_own_domains(
    browser: Browser, acme: Organization, op: BendableProvider
) -> None:
    row = add_provider(op, "acme-login", organization=acme)
    row.email_domains.create(domain="acme.example")
    browser.log_in("acme-login", claims={"sub": "bob", "email": "Bob@Acme.example", "email_verified": True})
    assert get_user_model().objects.get().email.lower() == "bob@acme.example"
    assert Identity.objects.count() == 1
