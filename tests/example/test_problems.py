"""What a visitor is told when something is wrong, and that nothing typed or sent in makes the portal fail."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from example_project.problems import problem_of
from partium_auth import PartiumRequest, exceptions
from partium_auth.models import Grant, Membership, Organization
from partium_auth.services import add_key
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants
from tests.example.conftest import make_developer

FRAGMENT = {"X-Fragment": "1", "Sec-Fetch-Mode": "cors"}
KEYS = "/keys/"


def told(response: Any, code: str) -> bool:
    return f'data-problem="{code}"' in response.content.decode()


@pytest.mark.parametrize(
    ("upstream", "code", "status"),
    [
        (403, "not_permitted", 403),
        (404, "upstream_error", 503),  # a wrong PARTIUM_API_URL, and no search that has expired
        (411, "upstream_error", 503),
        (413, "payload_too_large", 413),
        (415, "unsupported_image", 415),
        (422, "unprocessable", 422),
        (429, "rate_limited", 503),
        (500, "upstream_error", 503),
        (503, "upstream_error", 503),
    ],
)
def test_every_answer_of_partium_has_its_words(
    browser: Client, partium_sandbox: PartiumSandbox, upstream: int, code: str, status: int
) -> None:
    with partium_sandbox.fail("search", status=upstream, body='{"message": "secret of the upstream"}'):
        response = browser.get("/", {"text": "fan"})

    assert response.status_code == status
    assert told(response, code)
    assert b"secret of the upstream" not in response.content
    assert b'value="fan"' in response.content, "what was typed is lost"


@pytest.mark.parametrize("status", [429, 503])
def test_where_waiting_helps_it_says_how_long_and_offers_to_try_again(
    browser: Client, partium_sandbox: PartiumSandbox, status: int
) -> None:
    with partium_sandbox.fail("search", status=status, retry_after=17):
        response = browser.get("/", {"text": "fan", "limit": "6"})

    seconds = int(response.headers["Retry-After"])
    assert 15 <= seconds <= 18
    assert f"Please wait {seconds} seconds" in response.content.decode()
    assert 'href="/?text=fan&amp;limit=6">Try again' in response.content.decode()
    assert browser.get("/", {"text": "fan", "limit": "6"}).status_code == 200


def test_trying_again_is_offered_only_where_it_may_help(hedy: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    missing_key = hedy.client.get("/", {"text": "fan"})
    add_key(hedy.organization, partium_sandbox.add_key("globex"), label="for a test", actor=None)
    with partium_sandbox.fail("search", status=422):
        bad_search = hedy.client.get("/", {"text": "fan"})

    assert (missing_key.status_code, bad_search.status_code) == (503, 422)
    assert b"Try again" not in missing_key.content + bad_search.content


def test_a_dropped_connection(browser: Client, partium_sandbox: PartiumSandbox) -> None:
    with partium_sandbox.drop("search"):
        response = browser.get("/", {"text": "fan"})

    assert response.status_code == 503
    assert told(response, "upstream_error")


@pytest.mark.parametrize("what", ["html", "empty", "truncated", "array", "invalid_utf8", "wrong_types"])
def test_an_answer_that_is_none(browser: Client, partium_sandbox: PartiumSandbox, what: Any) -> None:
    with partium_sandbox.garbage("search", what):
        response = browser.get("/", {"text": "fan"})

    assert response.status_code == 503
    assert told(response, "upstream_error")


def test_results_that_partium_no_longer_keeps(browser: Client) -> None:
    response = browser.get("/more/?session=6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10&page=2&limit=12")

    assert response.status_code == 404
    assert told(response, "search_expired")


def test_every_exception_has_words_and_none_of_its_own_text(rf: RequestFactory) -> None:
    def kinds(cls: type[exceptions.PartiumError]) -> list[type[exceptions.PartiumError]]:
        public = [sub for sub in cls.__subclasses__() if sub.__module__ == exceptions.__name__]
        return [cls, *(kind for sub in public for kind in kinds(sub))]

    request = cast("PartiumRequest", rf.get("/?text=fan"))
    request.user = AnonymousUser()
    for kind in kinds(exceptions.PartiumError):
        problem = problem_of(request, kind("a text for developers"))
        assert problem.title
        assert problem.text
        assert 400 <= problem.status < 600
        assert "developers" not in str(problem.title)


def test_no_organization(ada: PartiumUser) -> None:
    Membership.objects.filter(user=ada.user).delete()

    for response in (ada.client.get("/"), ada.client.get("/", {"text": "fan"}), ada.client.get("/in-the-browser/")):
        assert response.status_code == 403
        assert told(response, "no_organization")


def test_an_organization_that_was_deactivated(ada: PartiumUser) -> None:
    Organization.objects.update(is_active=False)

    response = ada.client.get("/", {"text": "fan"})

    assert response.status_code == 403
    assert told(response, "no_organization")


def test_no_key_sends_a_developer_to_the_key_admin_and_a_member_to_a_developer(hedy: PartiumUser) -> None:
    as_member = hedy.client.get("/", {"text": "fan"})
    make_developer(hedy)
    as_developer = hedy.client.get("/", {"text": "fan"})

    assert told(as_member, "no_usable_key")
    assert told(as_developer, "no_usable_key")
    assert f'href="{KEYS}">Manage API keys' not in as_member.content.decode()
    assert f'href="{KEYS}">Manage API keys' in as_developer.content.decode()


def test_a_key_that_partium_rejects(hedy: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    key = partium_sandbox.add_key("globex")
    add_key(hedy.organization, key, label="for a test", actor=None)
    partium_sandbox.revoke_key(key)

    response = hedy.client.get("/", {"text": "fan"})

    assert response.status_code == 503
    assert told(response, "key_rejected") or told(response, "no_usable_key")
    assert key not in response.content.decode()


def test_a_token_that_cannot_be_fetched_now(hedy: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    add_key(hedy.organization, partium_sandbox.add_key("globex"), label="for a test", actor=None)
    with partium_sandbox.fail("auth", status=503, retry_after=9):
        response = hedy.client.get("/", {"text": "fan"})

    assert response.status_code == 503
    assert told(response, "token_unavailable")
    assert int(response.headers["Retry-After"]) >= 1


def test_a_login_that_was_ended_elsewhere_leads_to_the_login_page(ada: PartiumUser) -> None:
    grants.revoke(Grant.objects.all())

    page = ada.client.get("/?text=fan", headers={"Accept": "text/html"})
    script = ada.client.get("/?text=fan", headers=FRAGMENT)
    state = ada.client.get("/session-state/", headers=FRAGMENT)

    assert page.status_code == 302
    assert page.headers["Location"].startswith(reverse("partium_auth:login"))
    assert script.status_code == state.status_code == 401


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "This file is empty."), (b"\x89PNG\r\n\x1a\n" + bytes(5_800_000), "This photo is too large.")],
)
def test_photos_that_are_not_sent_on(
    browser: Client, partium_sandbox: PartiumSandbox, content: bytes, says: str
) -> None:
    response = browser.post("/", {"image": SimpleUploadedFile("part.png", content)})

    assert response.status_code == 422
    assert says in response.content.decode()
    assert partium_sandbox.count(endpoint="search") == 0


def test_a_file_that_is_no_photo(browser: Client) -> None:
    response = browser.post("/", {"image": SimpleUploadedFile("part.png", b"no picture at all")})

    assert response.status_code == 415
    assert told(response, "unsupported_image")


def test_a_photo_form_without_a_photo(browser: Client) -> None:
    for data in ({}, {"image": "not a file"}):
        response = browser.post("/", data)
        assert response.status_code == 422
        assert "Choose or take a photo first." in response.content.decode()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("text=", "Type what you are looking for"),
        ("text=%20%20", "Type what you are looking for"),
        ("limit=6", "Type what you are looking for"),
        ("text=" + "x" * 201, "Shorten this to 200 characters"),
        ("text=a%00b", "Remove the characters that cannot be typed"),
        ("text=fan&language=xx", "Choose one of the languages"),
        ("text=fan&language=%00", "Choose one of the languages"),
        ("text=fan&limit=7", "Choose one of the numbers"),
        ("text=fan&limit=-1", "Choose one of the numbers"),
        ("text=fan&limit=9999999999999999999999", "Choose one of the numbers"),
        ("text=fan&limit[]=6&limit=six", "Choose one of the numbers"),
    ],
)
def test_junk_in_a_search_says_what_would_be_right(
    browser: Client, partium_sandbox: PartiumSandbox, query: str, says: str
) -> None:
    response = browser.get(f"/?{query}")

    assert response.status_code == 422
    assert says in response.content.decode()
    assert partium_sandbox.count(endpoint="search") == 0


@pytest.mark.parametrize(
    "query",
    [
        "",
        "session=x&page=2&limit=12",
        "session=6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10&page=0&limit=12",
        "session=6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10&page=1001&limit=12",
        "session=6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10&page=2&limit=13",
        "session=6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10&page=%00&limit=12",
        "session=..%2f..%2fauth&page=2&limit=12",
    ],
)
def test_junk_in_a_link_to_more(browser: Client, partium_sandbox: PartiumSandbox, query: str) -> None:
    before = partium_sandbox.count()

    response = browser.get(f"/more/?{query}")

    assert response.status_code == 404
    assert "There is no such page" in response.content.decode()
    assert partium_sandbox.count() == before


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    path=st.sampled_from(["/", "/more/", "/session-state/", "/in-the-browser/"]),
    data=st.dictionaries(
        st.sampled_from(["text", "language", "limit", "image", "session", "page", "next", ""]),
        st.text(max_size=30) | st.sampled_from(["\0", "🔩" * 30, "\ud7ff", "-0", "1e9", "١٢", "%", "{{7*7}}", "../"]),
        max_size=4,
    ),
)
def test_no_junk_makes_the_portal_fail(browser: Client, path: str, data: dict[str, str]) -> None:
    browser.raise_request_exception = False

    assert browser.get(path, data).status_code < 500
    assert browser.post(path, data).status_code < 500


@pytest.mark.parametrize("org_id", ["", "globex", "nowhere", "\0", "x" * 5000, "acme' OR 1=1"])
def test_junk_in_the_switch_of_organization(browser: Client, org_id: str) -> None:
    response = browser.post(
        reverse("partium_auth:organization"),
        {"organization": org_id, "next": "https://evil.example/"},
        headers={"Accept": "text/html"},
    )

    assert response.status_code == 403
    assert "Acme Industrial" in browser.get("/").content.decode()


def test_a_broken_upload_gets_a_page(browser: Client) -> None:
    response = browser.post("/", b"junk", content_type="multipart/form-data; boundary=")

    assert response.status_code in (400, 422)


def test_too_many_fields_get_a_page(browser: Client) -> None:
    response = browser.post("/", {f"field{number}": "" for number in range(1100)})

    assert response.status_code == 400
    assert "This request could not be read" in response.content.decode()


def test_a_form_without_its_csrf_token_gets_a_page(ada: PartiumUser) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.cookies = ada.client.cookies

    response = browser.post("/session-state/")

    assert response.status_code == 403
    assert "This form was open for too long" in response.content.decode()


def test_an_address_that_does_not_exist_gets_a_page(browser: Client) -> None:
    for path in ("/nowhere", "/" + quote("\0"), "/more/7/"):
        response = browser.get(path)
        assert response.status_code == 404
        assert "There is no such page" in response.content.decode()


def test_a_fault_of_ours_gets_a_page_that_needs_nothing_else(
    browser: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    browser.raise_request_exception = False
    monkeypatch.setattr("example_project.views.card", lambda _part: 1 / 0)

    response = browser.get("/", {"text": "fan"})

    assert response.status_code == 500
    assert "Something went wrong here" in response.content.decode()
    assert "ZeroDivisionError" not in response.content.decode()
    assert "ZeroDivisionError" in caplog.text


def test_the_key_admin_is_closed_to_members_with_words(hedy: PartiumUser) -> None:
    response = hedy.client.get(KEYS, follow=True)

    assert response.status_code == 403
    assert "This page is for developers" in response.content.decode()
