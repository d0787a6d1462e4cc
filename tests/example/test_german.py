"""The portal in German: what a person whose browser asks for it gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import translation
from pytest_django import Settings

from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.test_languages import Shown
from tests.example.conftest import EXAMPLE
from tests.test_translations import read

GERMAN = "de-AT,de;q=0.9,en;q=0.5"


@pytest.fixture(autouse=True)
def _catalogs(settings: Settings, site: None) -> Iterator[None]:
    settings.LOCALE_PATHS = [EXAMPLE / "locale"]  # of an app in INSTALLED_APPS Django finds them by itself
    with translation.override("en-us"):
        yield


def assert_german(response: Any, *expected: str) -> None:
    page = response.content.decode()
    text = " ".join(" ".join(Shown(page).texts).split())
    for words in expected:
        assert words in text
    english = [
        one.text
        for one in read(EXAMPLE / "locale/de/LC_MESSAGES/django.po")
        if len(one.text.split()) > 1 and "%" not in one.text
    ]
    assert len(english) > 80
    assert [words for words in english if words in text] == []


def test_the_portals_pages(browser: Client) -> None:
    browser.defaults["HTTP_ACCEPT_LANGUAGE"] = GERMAN
    first = browser.get("/")
    assert '<html lang="de"' in first.content.decode()
    assert '<option value="de" selected>' in first.content.decode()
    assert_german(first, "Was suchen Sie bei Acme Industrial?", "Ölfilter", "Ihr Partium-Token", "Abmelden")
    assert_german(browser.get("/", {"text": "Lüfter"}), "Teile für „Lüfter“", "12 gezeigt", "Axiallüfter")
    assert_german(browser.get("/", {"text": ""}), "Geben Sie ein, was Sie suchen")
    assert_german(
        browser.post("/", {"image": SimpleUploadedFile("x.txt", b"no picture")}), "Das Bild konnte nicht gelesen werden"
    )
    assert_german(browser.get("/in-the-browser/"), "Aus dem Browser suchen", "Einen API-Schlüssel bekommt es nie.")
    assert_german(browser.get("/nowhere/"), "Diese Seite gibt es nicht")
    assert browser.get("/session-state/").json()["window_label"] in {"Frisch", "Noch nicht geholt"}


def test_the_login_page_has_the_sites_name(client: Client, db: None) -> None:
    page = client.get("/partium/login/", headers={"Accept-Language": GERMAN})
    assert_german(page, "Anmelden", "Teileportal")


def test_a_problem(ada: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    ada.client.defaults["HTTP_ACCEPT_LANGUAGE"] = GERMAN
    with partium_sandbox.fail("search", status=503, retry_after=20):
        page = ada.client.get("/", {"text": "Lüfter"})
    assert_german(
        page, "Partium ist im Moment nicht verfügbar", "Bitte warten Sie 20 Sekunden", "Noch einmal versuchen"
    )
