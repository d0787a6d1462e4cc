"""Debian's Chromium, driven by Playwright, in front of the real demo."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.demo.processes import ROOT
from tests.example.running_demo import RunningDemo

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "demo"
IMAGES = ROOT / "docs" / "images"
Visit = Callable[..., Page]
Picture = Callable[[Page, str], None]

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with RunningDemo(tmp_path_factory.mktemp("browser")) as running:
        yield running


# Not for the session: Playwright's event loop runs in this thread, where Django would refuse its database to other tests.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(demo: RunningDemo, chromium: Browser) -> Iterator[Visit]:
    """``visit(width=360, …)``: a new browser's page at the site's first page; what its console reports fails the test.

    Answers with an error status are reported there too; those are what some tests are about, and no fault of the page.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(*, width: int = 1280, height: int = 900, path: str = "/", **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(demo.site + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture
def visit_as(visit: Visit) -> Visit:
    """``visit_as("ada", …)``: the same, logged in through the provider by typing name and password."""

    def open_page(username: str, *, path: str = "/", **options: Any) -> Page:
        page = visit(path=path, **options)
        page.get_by_role("link", name="Demo identity provider").click()
        page.get_by_label("User name").fill(username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("button", name=re.compile("Log out|Abmelden"))).to_be_visible()
        page.wait_for_load_state()  # until the page's script has run
        return page

    return open_page


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """``picture(page, "search")``: into ``docs/images`` with ``SCREENSHOTS=1``, otherwise nowhere that stays."""
    directory = IMAGES if os.environ.get("SCREENSHOTS") == "1" else tmp_path

    def take(page: Page, name: str) -> None:
        page.screenshot(path=directory / f"{name}.png", animations="disabled", caret="hide")

    return take


def fits_its_width(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
