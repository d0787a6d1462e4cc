"""Picks a date in Chromium in a host of another kind; run by ``tests.admin.test_hosts`` in a process of its own."""

from __future__ import annotations

import os
import sys
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.staticfiles.testing import StaticLiveServerTestCase  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.runner import DiscoverRunner  # noqa: E402
from django.urls import reverse  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

from partium_auth.services import keys, organizations  # noqa: E402

AT = """(element) => { const box = element.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; }"""


def pick_a_date(page: Page) -> None:
    for field, opens, picks in (
        ("#id_expires_at_0", "#calendarlink0", "#calendarbox0 .calendar td:not(.nonday):nth-child(7) a >> nth=0"),
        ("#id_expires_at_1", "#clocklink0", "#clockbox0 .timelist a >> nth=1"),
    ):
        left, top, right, bottom = page.locator(field).evaluate(AT)
        button = page.locator(opens).evaluate(AT)
        if not (right <= button[0] < right + 120 and top - 10 < button[1] and button[3] < bottom + 20 and left < right):
            sys.exit(f"{page.url}: {opens} at {button} is not beside {field} at {[left, top, right, bottom]}")
        page.click(opens)
        page.click(picks)  # a Saturday: where the calendar is cut off at its right side, this waits in vain
        if not page.input_value(field):
            sys.exit(f"{page.url}: {field} stays empty")


def main() -> None:
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    runner.setup_databases()
    users: Any = get_user_model()
    root = users._default_manager.create_superuser(**{users.USERNAME_FIELD: "root@example.com", "password": "pw"})
    acme = organizations.add_organization("acme", display_name="Acme", actor=None)
    key = keys.add_key(acme, "value-0000000000000", label="shop", actor=root, verify=False)
    client = Client()
    client.force_login(root, "django.contrib.auth.backends.ModelBackend")
    StaticLiveServerTestCase.setUpClass()
    try:
        with sync_playwright() as run:
            browser = run.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            site = StaticLiveServerTestCase.live_server_url
            context = browser.new_context(viewport={"width": 1200, "height": 900})
            context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
            page = context.new_page()
            page.set_default_timeout(15_000)
            for name, args in (("add", []), ("change", [key.pk]), ("rotate", [key.pk])):
                page.goto(site + reverse(f"partium_keys:partium_auth_apikey_{name}", args=args))
                pick_a_date(page)
            browser.close()
    finally:
        StaticLiveServerTestCase.tearDownClass()


os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright runs an event loop in this thread
main()
