"""Narrowing results, machines, and a part's own page."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from partium_auth.testing.sandbox import PartiumSandbox, part_png
from tests.example.test_search import numbers


def test_results_are_narrowed_by_check_boxes_in_the_url(browser: Client) -> None:
    page = browser.get("/", {"text": "fuse"}).content.decode()
    assert "220V (2)" in page

    narrowed = browser.get("/", {"text": "fuse", "filter.Voltage": "220V"}).content.decode()

    assert len(numbers(narrowed)) == 2
    assert re.search(r'value="220V"[^>]* checked', narrowed)
    assert '<input type="hidden" name="text" value="fuse">' in narrowed


def test_machines_lead_to_their_assemblies_and_parts(browser: Client) -> None:
    page = browser.get("/machines/").content.decode()
    assert "Tractor" in page
    assert "Hydraulic press" not in page, "it is globex's"
    assert "Engine" in browser.get("/machines/", {"root": "TRACTOR.2454488"}).content.decode()
    assert browser.get("/machines/", {"root": "PRESS.7710"}).status_code == 404

    parts = browser.get("/", {"within": "ELEVATOR.3050", "limit": "48"}).content.decode()

    assert "GM1611" in numbers(parts)
    assert "GP1801" not in numbers(parts)


def test_a_photo_and_words_are_searched_together(browser: Client) -> None:
    picture = part_png("CF1021")
    assert picture is not None
    form = {"image": SimpleUploadedFile("part.png", picture, "image/png"), "text": "axial 230"}

    page = browser.post("/", form).content.decode()

    assert numbers(page)[:2] == ["CF1021", "AF1008"]


def test_a_part_has_a_page_and_partium_learns_that_it_was_it(browser: Client, partium_sandbox: PartiumSandbox) -> None:
    page = browser.get("/", {"text": "glass fuse"}).content.decode()
    link = re.search(r'href="(/part/GF2302/[^"]+)"', page)
    assert link

    part = browser.get(unescape(link[1])).content.decode()
    fields = dict(re.findall(r'name="(partium_\w+)" value="([^"]+)"', part))
    assert "This was it" in part
    assert browser.post("/part/GF2302/", fields).status_code == 302

    assert [event["event"] for event in partium_sandbox.events] == ["part_detail_enter", "part_confirmed_search"]
    assert {event["data"]["index"] for event in partium_sandbox.events} == {"1"}


@pytest.mark.parametrize("path", ["/part/XX9999/", "/part/GF2302%2F../"])
def test_a_part_that_there_is_not_is_404(browser: Client, path: str) -> None:
    assert browser.get(path).status_code == 404
