"""Searching: words, photos, further results, and what stands there when there are none."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from example_project import views
from partium_auth.models import Grant
from partium_auth.services import add_key
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox, part_png
from partium_auth.tokens import grants

EXAMPLE = Path(views.__file__).parent
FRAGMENT = {"X-Fragment": "1", "Sec-Fetch-Mode": "cors"}


def numbers(html: str) -> list[str]:
    return re.findall(r"Part number </span>([^<]+)</p>", html)


def photo_of(number: str) -> SimpleUploadedFile:
    picture = part_png(number)
    assert picture is not None
    return SimpleUploadedFile("part.png", picture, "image/png")


def test_a_stranger_is_sent_to_the_login_page_and_back(site: None, client: Client, db: None) -> None:
    response = client.get("/", {"text": "fan"})

    assert response.status_code == 302
    assert response.headers["Location"] == f"{reverse('partium_auth:login')}?next=/%3Ftext%3Dfan"


@pytest.mark.parametrize("is_script", [False, True])
@pytest.mark.parametrize("ended", ["session", "login"])
def test_a_photo_that_a_session_has_lost_is_told_before_the_login(browser: Client, is_script: bool, ended: str) -> None:
    if ended == "session":
        browser.post(reverse("partium_auth:logout"))
    else:
        grants.revoke(Grant.objects.all())

    answer = browser.post(
        "/", {"image": photo_of("AF1001")}, headers=FRAGMENT if is_script else {"Accept": "text/html"}
    )

    assert answer.status_code == (401 if is_script else 302)
    page = browser.get(reverse("partium_auth:login")).content.decode()
    assert "the photo was not searched. Log in, then choose the photo again." in page


def test_the_login_page_carries_the_sites_name(site: None, client: Client, db: None) -> None:
    assert "Parts Portal" in client.get(reverse("partium_auth:login")).content.decode()


def test_the_first_page_says_what_to_do_and_asks_partium_nothing(
    browser: Client, partium_sandbox: PartiumSandbox
) -> None:
    before = partium_sandbox.count()

    page = browser.get("/").content.decode()

    assert "What are you looking for at Acme Industrial?" in page
    assert "?text=oil%20filter&amp;language=en" in page
    assert partium_sandbox.count() == before


def test_words_find_parts_with_what_fits_marked(browser: Client, partium_sandbox: PartiumSandbox) -> None:
    page = browser.get("/", {"text": "axial fan", "limit": "6"}).content.decode()

    assert len(numbers(page)) == 6
    assert "<mark>Axial</mark> <mark>fan</mark>" in page
    assert "Parts for “axial fan”" in page
    assert page.count('src="/static/portal/parts/fan.svg"') == 6
    assert '<option value="6" selected>' in page
    assert 'value="axial fan"' in page


def test_the_language_is_the_one_that_was_chosen(browser: Client) -> None:
    page = browser.get("/", {"text": "Lüfter", "language": "de", "limit": "6"}).content.decode()

    assert "Hersteller" in page
    assert '<option value="de" selected>Deutsch' in page


def test_a_part_number_is_found(browser: Client) -> None:
    known = numbers(browser.get("/", {"text": "pump"}).content.decode())[3]

    assert numbers(browser.get("/", {"text": known}).content.decode())[0] == known


def test_a_picture_to_try_is_offered_and_finds_something(browser: Client, partium_sandbox: PartiumSandbox) -> None:
    page = browser.get("/").content.decode()
    (address,) = re.findall(r'<a href="([^"]+)"[^>]* data-try', page)
    picture = (EXAMPLE / "static/portal" / address.rpartition("/")[2]).read_bytes()

    found = browser.post("/", {"image": SimpleUploadedFile("part.png", picture, "image/png")}).content.decode()

    assert numbers(found)[0] == "SG1901"


def test_nothing_found_says_so_and_what_to_try(browser: Client) -> None:
    page = browser.get("/", {"text": "qqqq<script>"}).content.decode()

    assert "No part found for “qqqq&lt;script&gt;”" in page
    assert "Try fewer or more general words" in page


def test_a_photo_finds_its_part(browser: Client) -> None:
    wanted = numbers(browser.get("/", {"text": "oil filter"}).content.decode())[2]

    page = browser.post("/", {"image": photo_of(wanted), "limit": "6", "language": "en"}).content.decode()

    assert numbers(page)[0] == wanted
    assert len(numbers(page)) == 6
    assert "Parts that look like your photo" in page


def test_further_parts_follow_the_first_ones_without_repetition(browser: Client) -> None:
    first = browser.get("/", {"text": "fan", "limit": "6"}).content.decode()
    link = re.search(r'href="([^"]+)" data-more', first)
    assert link

    second = browser.get(unescape(link[1])).content.decode()

    assert len(numbers(second)) == 6
    assert not set(numbers(first)) & set(numbers(second))
    assert "Parts 7 to 12" in second
    assert "12 shown" in browser.get(unescape(link[1]), headers=FRAGMENT).content.decode(), (
        "a script adds them to the others"
    )


def test_a_full_page_without_a_next_one_says_that_it_is_all(browser: Client) -> None:
    page = browser.get("/", {"text": "axial fan", "limit": "12"}).content.decode()

    assert len(numbers(page)) == 12
    assert "12 shown, that is all" in page
    assert "data-more" not in page


def test_the_last_page_has_no_link_to_more(browser: Client) -> None:
    page = browser.get("/", {"text": "axial fan", "limit": "48"}).content.decode()
    while link := re.search(r'href="([^"]+)" data-more', page):
        page = browser.get(unescape(link[1])).content.decode()

    assert "that is all" in page


def test_the_pages_own_script_gets_the_results_alone(browser: Client) -> None:
    response = browser.get("/", {"text": "fan"}, headers=FRAGMENT)

    assert b"<html" not in response.content
    assert len(numbers(response.content.decode())) == 12
    assert "X-Fragment" in response.headers["Vary"]
    assert "no-store" in response.headers["Cache-Control"]


def test_pages_forbid_everything_inline(browser: Client, partium_sandbox: PartiumSandbox) -> None:
    response = browser.get("/", {"text": "fan"})
    policy = response.headers["Content-Security-Policy"]

    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert f"connect-src 'self' {partium_sandbox.url};" in policy
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", response.content.decode())


def test_people_search_in_their_own_organization_and_are_told_apart_where_they_share_a_key(
    hedy: PartiumUser, partium_sandbox: PartiumSandbox
) -> None:
    add_key(hedy.organization, partium_sandbox.add_key("globex"), label="for a test", actor=None)

    page = hedy.client.get("/", {"text": "pump"}).content.decode()

    (search,) = [call for call in partium_sandbox.calls(endpoint="search") if call.external_user_id]
    assert numbers(page)
    assert search.organization == "globex"
    assert search.external_user_id not in (str(hedy.user.pk), hedy.user.username)


@pytest.mark.parametrize("path", ["/", "/more/", "/session-state/", "/in-the-browser/"])
def test_the_wrong_method_is_refused(browser: Client, path: str) -> None:
    assert browser.delete(path).status_code == 405


@pytest.mark.parametrize("query", ["text=", "text=%20", "text=+&filter.Voltage=", "within=%20"])
def test_an_empty_search_is_a_message(browser: Client, query: str) -> None:
    page = browser.get(f"/?{query}")
    assert page.status_code in {200, 422}
    assert "Nothing was searched yet" in page.content.decode() or "nothing to search for" in page.content.decode()
