"""A developer's day with keys, in Chromium, while somebody else goes on searching.

``PARTIUM_SCREENSHOTS=docs/images`` keeps the pictures of ``docs/administration.md``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.test import Client
from django.urls import reverse

from partium_auth.models import ApiKey, Membership, Organization, Role
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CHROMIUM = "/usr/bin/chromium"
KEY = "partium_keys:partium_auth_apikey_"


@pytest.fixture
def site(settings: Any, partium_sandbox: PartiumSandbox) -> Iterator[str]:
    settings.ROOT_URLCONF = "tests.admin.browser_urls"
    settings.TIME_ZONE = "UTC"
    StaticLiveServerTestCase.setUpClass()
    yield StaticLiveServerTestCase.live_server_url
    StaticLiveServerTestCase.tearDownClass()


@pytest.fixture
def chromium(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs an event loop in this thread
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def page_of(chromium: Any, site: str, user: Any, **options: Any) -> Any:
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, **options)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    return page


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("PARTIUM_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_a_key_is_added_verified_rotated_and_revoked_while_somebody_searches(
    site: str, chromium: Any, partium_sandbox: PartiumSandbox
) -> None:
    acme = Organization.objects.create(org_id="acme", display_name="Acme Machine Works", token_source="api_key")
    people = get_user_model().objects
    dana, max_ = people.create_user("dana.developer"), people.create_user("max.member")
    Membership.objects.create(user=dana, organization=acme, role=Role.DEVELOPER)
    Membership.objects.create(user=max_, organization=acme, role=Role.MEMBER)
    first, second = partium_sandbox.add_key("acme"), partium_sandbox.add_key("acme")
    page = page_of(chromium, site, dana)

    page.goto(site + reverse("partium_keys:index"))
    page.click("text=API keys >> nth=-1")
    picture(page, "keys-empty")
    page.click("a.addlink")
    page.fill("#id_label", "Web shop 2026")
    page.fill("#id_value", "a-key-that-partium-never-issued")
    page.click("text=Try and add")
    page.wait_for_selector("text=Partium does not accept this key")
    assert page.input_value("#id_value") == ""
    picture(page, "keys-refused")
    page.fill("#id_value", first)
    picture(page, "keys-add")
    page.click("text=Try and add")
    page.wait_for_selector("text=The key was added. Partium accepted it.")

    other = page_of(chromium, site, max_)
    other.goto(site + "/searching/")
    other.wait_for_function("window.answers.length >= 5")

    page.click("text=Verify at Partium")
    page.wait_for_selector("text=Partium accepted it.")
    page.click("text=Rotate …")
    page.fill("#id_label", "Web shop 2027")
    page.fill("#id_value", second)
    picture(page, "keys-rotate")
    page.click("text=Try and rotate")
    page.wait_for_selector("text=the old one is retiring")
    other.evaluate("window.seen = window.answers.length")
    other.wait_for_function("window.answers.length >= window.seen + 10")
    picture(page, "keys-detail")

    old = ApiKey.objects.get(label="Web shop 2026")
    page.goto(site + reverse(KEY + "change", args=[old.pk]))
    page.click("text=Revoke …")
    picture(page, "keys-revoke")
    page.click("text=Yes, revoke")
    page.wait_for_selector("text=Its value is erased")
    other.evaluate("window.seen = window.answers.length")
    other.wait_for_function("window.answers.length >= window.seen + 10")
    answers = other.evaluate("window.answers")
    assert set(answers) == {200}, "somebody's search failed"

    page.goto(site + reverse(KEY + "changelist"))
    picture(page, "keys-list")
    assert page.locator("text=retired >> nth=0").count() + page.locator(".partium-revoked").count() >= 1
    page.check("#action-toggle")
    page.select_option("select[name=action]", "verify_selected")
    page.click("button[name=index]")
    page.wait_for_selector("text=1 of 1 done")  # the script went on by itself
    assert page.problems == []
    other.context.close()


def test_the_list_fits_a_phone_in_the_dark(site: str, chromium: Any, partium_sandbox: PartiumSandbox) -> None:
    acme = Organization.objects.create(org_id="acme", display_name="A" * 80)
    dana = get_user_model().objects.create_user("dana.developer")
    Membership.objects.create(user=dana, organization=acme, role=Role.DEVELOPER)
    from partium_auth.services import keys

    key = keys.add_key(acme, "value-00000000000000", label="x" * 100, actor=None, verify=False)
    page = page_of(chromium, site, dana, color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    for url in (
        reverse(KEY + "changelist"),
        reverse(KEY + "add"),
        reverse(KEY + "change", args=[key.pk]),
        reverse(KEY + "rotate", args=[key.pk]),
        reverse("partium_keys:partium_auth_apikeyevent_changelist"),
    ):
        page.goto(site + url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, url
