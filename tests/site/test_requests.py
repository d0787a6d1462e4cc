"""A host site's requests: what a view gets, and what its visitor is told when something is wrong."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client, RequestFactory
from django.test.client import encode_multipart
from pytest_django import DjangoAssertNumQueries, Settings

from partium_auth import afor_organization, exceptions, for_organization
from partium_auth.accounts import error_pages
from partium_auth.models import Grant, Membership, Organization
from partium_auth.services.keys import add_key
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.site.urls")]
PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
EVERY_ERROR = {
    "PartiumError": (503, "upstream_error"),
    "LoginRequired": (401, "login_required"),
    "FreshLoginRequired": (401, "fresh_login_required"),
    "NoOrganization": (403, "no_organization"),
    "NoUsableKey": (503, "no_usable_key"),
    "KeyRejected": (503, "key_rejected"),
    "EncryptionError": (503, "encryption"),
    "TokenUnavailable": (503, "token_unavailable"),
    "UpstreamError": (503, "upstream_error"),
    "ConnectionFailed": (503, "upstream_error"),
    "TimedOut": (503, "upstream_error"),
    "UnexpectedResponse": (503, "upstream_error"),
    "CredentialsRejected": (503, "credentials_rejected"),
    "NotPermitted": (403, "not_permitted"),
    "LengthRequired": (503, "upstream_error"),
    "NothingToSearch": (422, "nothing_to_search"),
    "PayloadTooLarge": (413, "payload_too_large"),
    "UnsupportedImage": (415, "unsupported_image"),
    "UnprocessableRequest": (422, "unprocessable"),
    "RateLimited": (503, "rate_limited"),
    "ServiceUnavailable": (503, "upstream_error"),
}
PAGE_STATUSES = {"LoginRequired": 302, "FreshLoginRequired": 403}


def test_a_view_has_a_token_and_finds_a_part(partium_user: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    assert partium_user.client.get("/token/").json()["organization"] == "acme"
    names = partium_user.client.get("/search/?text=fan").json()["names"]
    assert names
    assert "fan" in names[0].lower()
    (call,) = partium_sandbox.calls(endpoint="search")
    assert call.credential_kind == "access_token"


@async_to_sync
async def aget(partium_user: PartiumUser, path: str) -> Any:
    client = AsyncClient()
    client.cookies = partium_user.client.cookies
    return (await client.get(path)).json()


@pytest.mark.django_db(transaction=True)
def test_an_async_view_has_them_too(partium_user: PartiumUser) -> None:
    assert aget(partium_user, "/atoken/")["organization"] == "acme"
    assert aget(partium_user, "/asearch/?text=fan")["names"]


def test_a_request_that_asks_nothing_pays_nothing(
    partium_user: PartiumUser, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2):  # the host's own: session and user
        partium_user.client.get("/untouched/")


def test_reading_a_token_is_one_query(
    partium_user: PartiumUser, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(3):
        partium_user.client.get("/token/")


# --- nobody is logged in ------------------------------------------------------------------------------------------------


def test_a_visitor_is_sent_to_the_login_page_and_back(client: Client) -> None:
    response = client.get("/token/?page=2", headers=PAGE)
    assert response.status_code == 302
    target = urlsplit(response["Location"])
    assert target.path == "/partium/login/"
    assert parse_qs(target.query) == {"next": ["/token/?page=2"]}
    assert "no-store" in response["Cache-Control"]


def test_a_script_is_told_401_and_where_to_log_in(client: Client) -> None:
    response = client.get("/token/", headers=SCRIPT)
    assert response.status_code == 401
    assert response.json() == {"error": "login_required", "login_url": "/partium/login/"}


def test_a_post_comes_back_to_the_page_it_was_sent_from(client: Client) -> None:
    response = client.post("/token/", headers=PAGE | {"Referer": "http://testserver/form/"})
    assert parse_qs(urlsplit(response["Location"]).query) == {"next": ["http://testserver/form/"]}
    response = client.post("/token/", headers=PAGE | {"Referer": "http://elsewhere.example/form/"})
    assert response["Location"] == "/partium/login/"


# --- errors that a view lets through ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_ERROR)
@pytest.mark.parametrize("headers", [PAGE, SCRIPT], ids=["page", "script"])
def test_no_partium_error_becomes_a_500_or_shows_its_details(
    client: Client, name: str, headers: dict[str, str]
) -> None:
    response = client.get(f"/failing/{name}/", headers=headers)
    status, code = EVERY_ERROR[name]
    if headers == SCRIPT:
        assert (response.status_code, response.json()["error"]) == (status, code)
    else:
        assert response.status_code == PAGE_STATUSES.get(name, status)
    assert "SECRET-DETAIL" not in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert ("Retry-After" in response) == (response.status_code == 503)


@pytest.mark.parametrize("name", ["KeyRejected", "NoUsableKey", "EncryptionError"])
@pytest.mark.parametrize("headers", [PAGE, SCRIPT], ids=["page", "script"])
def test_nobody_is_told_to_come_back_before_a_rejected_key_is_tried_again(
    client: Client, name: str, headers: dict[str, str]
) -> None:
    assert client.get(f"/failing/{name}/", headers=headers)["Retry-After"] == "60"


def test_every_exception_has_an_answer_of_its_own_here() -> None:
    kinds = [value for value in vars(exceptions).values() if isinstance(value, type)]
    assert {kind.__name__ for kind in kinds if issubclass(kind, exceptions.PartiumError)} == set(EVERY_ERROR)


@pytest.mark.parametrize("accept", [PAGE, SCRIPT])
def test_django_does_not_log_each_of_our_answers_once_more(
    client: Client, caplog: pytest.LogCaptureFixture, accept: dict[str, str]
) -> None:
    for _ in range(3):
        assert client.get("/failing/TokenUnavailable/", headers=accept).status_code == 503
    assert client.get("/partium/callback/nobody/?code=x&state=y", headers=accept).status_code >= 400
    assert not [record for record in caplog.records if record.name == "django.request"]
    assert client.get("/no-such-page/").status_code == 404
    assert [record.status_code for record in caplog.records if record.name == "django.request"] == [404]  # type: ignore[attr-defined]


def test_a_page_that_fails_says_what_to_do_next(client: Client) -> None:
    page = client.get("/unavailable/?q=fan", headers=PAGE)
    assert page["Retry-After"] == "17"
    assert "try again" in page.content.decode().lower()
    assert 'href="/unavailable/?q=fan"' in page.content.decode()


def test_a_script_that_fails_gets_a_code(client: Client) -> None:
    response = client.get("/unavailable/", headers=SCRIPT)
    assert response.status_code == 503
    assert response.json()["error"] == "token_unavailable"


# --- the token endpoint ---------------------------------------------------------------------------------------------------


def test_the_token_endpoint_gives_an_access_token(partium_user: PartiumUser) -> None:
    response = partium_user.client.post("/partium/token/", headers=SCRIPT)
    answer = response.json()
    assert answer["access_token"]
    assert answer["organization"] == "acme"
    assert 550 < answer["expires_in"] <= 600
    assert "no-store" in response["Cache-Control"]


def test_the_token_endpoint_takes_post_with_csrf_only(partium_user: PartiumUser) -> None:
    assert partium_user.client.get("/partium/token/").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = partium_user.client.cookies
    assert strict.post("/partium/token/").status_code == 403


@pytest.mark.parametrize("source", [Organization.TokenSource.API_KEY, Organization.TokenSource.API_KEY_DIRECT])
def test_the_token_endpoint_never_gives_an_api_key(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox, source: str, settings: Settings
) -> None:
    value = partium_sandbox.add_key("acme")
    add_key(partium_user.organization, value, label="shared", actor=None, verify=False)
    Organization.objects.update(token_source=source)
    answer = partium_user.client.post("/partium/token/", headers=SCRIPT).json()
    assert answer["access_token"] != value
    assert [call.credential_kind for call in partium_sandbox.calls(endpoint="auth")][-1] == "api_key"


def test_the_token_endpoint_answers_401_in_json_when_nobody_is_logged_in(client: Client) -> None:
    assert client.post("/partium/token/", headers=SCRIPT).status_code == 401


@pytest.mark.parametrize("state", ["due", "failing", "rejected key"])
def test_a_flood_of_token_requests_costs_partium_one_call(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox, state: str
) -> None:
    Grant.objects.update(issued_at=time.time() - (550 if state == "due" else 600))
    if state == "failing":
        partium_sandbox.fail("refresh", status=503, retry_after=60)
    elif state == "rejected key":
        add_key(partium_user.organization, "no-such-key-" + "0" * 20, label="k", actor=None, verify=False)
        Organization.objects.update(token_source="api_key")
    before = partium_sandbox.count()
    answers = {partium_user.client.post("/partium/token/", headers=SCRIPT).status_code for _request in range(30)}
    assert answers == {200 if state == "due" else 503}
    assert partium_sandbox.count() == before + 1


def test_a_flood_without_a_login_costs_no_query(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert client.post("/partium/token/", headers=SCRIPT).status_code == 401


# --- the switch of organization ----------------------------------------------------------------------------------------------


def test_a_member_switches_and_others_cannot(partium_user: PartiumUser) -> None:
    globex = Organization.objects.create(org_id="globex")
    refused = partium_user.client.post("/partium/organization/", {"organization": "globex"}, headers=PAGE)
    unknown = partium_user.client.post("/partium/organization/", {"organization": "nonsense"}, headers=PAGE)
    assert refused.status_code == unknown.status_code == 403
    assert refused.content == unknown.content  # does not tell which organizations exist

    Membership.objects.create(user=partium_user.user, organization=globex)
    target = {"organization": "globex", "next": "/token/"}
    assert partium_user.client.post("/partium/organization/", target)["Location"] == "/token/"
    assert partium_user.client.get("/token/").json()["organization"] == "globex"


@pytest.mark.parametrize("target", ["https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)", ""])
def test_a_switch_never_leads_to_another_site(partium_user: PartiumUser, target: str) -> None:
    response = partium_user.client.post("/partium/organization/", {"organization": "acme", "next": target})
    assert response["Location"] == "/accounts/profile/"


# --- the template tag ----------------------------------------------------------------------------------------------------------


def test_the_template_tag_gives_the_page_an_address_and_no_token(partium_user: PartiumUser) -> None:
    page = partium_user.client.get("/sdk/").content.decode()
    token = partium_user.client.post("/partium/token/").json()["access_token"]
    assert 'data-token-url="/partium/token/"' in page
    assert 'data-organization="acme"' in page
    assert 'data-external-user-id=""' in page
    assert token not in page


def test_the_template_tag_tells_people_apart_who_share_a_key(partium_user: PartiumUser) -> None:
    Organization.objects.update(token_source=Organization.TokenSource.API_KEY)
    page = partium_user.client.get("/sdk/").content.decode()
    (opaque,) = [part.split('"')[1] for part in page.split() if part.startswith("data-external-user-id=")]
    assert len(opaque) == 32
    assert partium_user.user.username not in opaque


def test_the_template_tag_renders_nothing_when_nobody_is_logged_in(client: Client) -> None:
    assert "script" not in client.get("/sdk/").content.decode()


@pytest.mark.parametrize(("seconds", "status"), [(1, 503), (9, 200)])
def test_a_search_may_take_as_long_as_the_setting_says(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox, settings: Settings, seconds: int, status: int
) -> None:
    settings.PARTIUM_TIMEOUT = seconds
    partium_sandbox.delay("search", 1.5)
    assert partium_user.client.get("/search/?text=fan", headers=SCRIPT).status_code == status


@pytest.mark.parametrize("junk", ["\0", "acme\0", "x" * 5000, "'; --", "‮"])
def test_junk_for_an_organization_is_an_unknown_one(partium_user: PartiumUser, client: Client, junk: str) -> None:
    switched = partium_user.client.post("/partium/organization/", {"organization": junk}, headers=PAGE)
    assert switched.status_code == 403
    assert client.get("/partium/login/", {"organization": junk}).status_code == 200
    with pytest.raises(exceptions.NoOrganization):
        for_organization(junk)


@pytest.mark.parametrize("junk", ["\0", "ac\0me"])
def test_what_no_id_can_be_is_not_asked_for(
    partium_user: PartiumUser, junk: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    # PostgreSQL refuses a query with a NUL in a parameter.
    with django_assert_num_queries(0):
        assert Organization.objects.named(junk).first() is None


def test_who_is_in_no_organization_is_sent_to_people_who_can_change_that(partium_user: PartiumUser) -> None:
    Membership.objects.all().delete()
    response = partium_user.client.get("/token/", headers=PAGE)
    assert response.status_code == 403
    # Developers may not invite anybody unless PARTIUM_DEVELOPERS_MANAGE_MEMBERS says so.
    assert "Ask the people who run this site for access" in response.content.decode()
    assert "developer" not in response.content.decode()


# --- silent login ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds_ago", "target"),
    [(3600, "/partium/login/default/?next=%2Ftoken%2F&prompt=none"), (2, "/partium/login/?next=%2Ftoken%2F")],
)
def test_a_login_that_has_run_out_is_refreshed_silently_but_not_over_and_over(
    partium_user: PartiumUser, seconds_ago: float, target: str
) -> None:
    # A provider whose tokens live too short to be used would otherwise send the browser round in circles.
    Grant.objects.filter(pk=partium_user.grant.pk).update(
        kind=Grant.Kind.OIDC,
        provider="default",
        refresh_token=None,
        lifetime_seconds=1,
        authenticated_at=time.time() - seconds_ago,
    )
    assert partium_user.client.get("/token/", headers=PAGE)["Location"] == target


@pytest.mark.django_db(transaction=True)
def test_an_organization_is_acted_for_in_async_code_too(partium_sandbox: PartiumSandbox) -> None:
    organization = Organization.objects.create(org_id="acme")
    add_key(organization, partium_sandbox.add_key("acme"), label="shop", actor=None)

    async def search() -> Any:
        client = await afor_organization("acme")
        return await client.asearch(text="fan", limit=1)

    assert async_to_sync(search)().results


# --- what no browser sends -------------------------------------------------------------------------------------------


def test_a_path_does_not_forge_lines_of_the_log(rf: RequestFactory, caplog: pytest.LogCaptureFixture) -> None:
    """As Django's own log since CVE-2025-48432."""
    caplog.set_level(logging.INFO, "partium_auth")
    request = rf.get("/parts/a%0AINFO%20forged%1B[2J/ä", headers=SCRIPT)
    for error in (exceptions.NoOrganization(), exceptions.LoginRequired(), exceptions.EncryptionError()):
        error_pages.error_response(request, error)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("GET /parts/a%0AINFO%20forged%1B")
        assert "\n" not in line
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/partium/login/?organization=%2B2AA-"),
        ("GET", "/partium/login/default/?login_hint=%2B2AA-"),
        ("GET", "/partium/callback/default/?state=%2B2AA-"),
        ("POST", "/partium/login/"),
        ("POST", "/partium/organization/"),
        ("POST", "/partium/token/"),
        ("POST", "/partium/logout/"),
        ("POST", "/partium/backchannel-logout/default/"),
    ],
)
def test_half_a_surrogate_pair_is_no_500(client: Client, method: str, url: str) -> None:
    # UTF-7, which a request may name as its charset, can encode half a surrogate pair.
    form = {"organization": "+2AA-", "email": "+2AA-", "username": "+2AA-", "password": "+2AA-", "next": "/+2AA-"}
    body = encode_multipart("x", form) if method == "POST" else b""
    kind = "multipart/form-data; charset=utf-7; boundary=x"
    client.raise_request_exception = False
    assert client.generic(method, url, body, kind, CONTENT_TYPE=kind).status_code == 400


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "utf_8"])
def test_utf_8_by_any_name_is_understood(partium_user: PartiumUser, charset: str) -> None:
    body = encode_multipart("x", {"organization": partium_user.organization.org_id, "next": "/token/"})
    kind = f"multipart/form-data; charset={charset}; boundary=x"
    assert partium_user.client.generic("POST", "/partium/organization/", body, kind).status_code == 302
