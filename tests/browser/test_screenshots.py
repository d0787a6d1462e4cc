"""The pictures of the documentation: ``SCREENSHOTS=1 pytest -m browser tests/browser/test_screenshots.py`` takes them anew.

Without ``SCREENSHOTS`` the same pages are opened and looked at, and no picture is kept.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from partium_auth.testing.sandbox import GLOBEX
from tests.browser.conftest import Picture, Visit, fits_its_width
from tests.example.running_demo import RunningDemo

pytestmark = [pytest.mark.browser, pytest.mark.processes]

PHONE = {"width": 360, "height": 780, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def test_the_login_page(visit: Visit, picture: Picture) -> None:
    page = visit(height=720)
    expect(page.get_by_text("Parts Portal")).to_be_visible()
    picture(page, "login")


def test_a_search_and_the_session_panel(visit_as: Visit, picture: Picture) -> None:
    page = visit_as("ada", path="/?text=axial+fan&limit=12")
    expect(page.locator(".part")).to_have_count(12)
    page.wait_for_load_state("networkidle")
    assert fits_its_width(page)
    picture(page, "results")


def test_the_first_page_in_the_dark(visit_as: Visit, picture: Picture) -> None:
    page = visit_as("pat", color_scheme="dark", height=760)
    expect(page.locator(".empty")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 22, 28)"
    picture(page, "start-dark")


def test_a_phone(visit_as: Visit, picture: Picture) -> None:
    page = visit_as("ada", path="/?text=axial+fan&limit=6", color_scheme="dark", **PHONE)
    expect(page.locator(".part")).to_have_count(6)
    expect(page.locator(".chip")).to_be_visible()
    expect(page.get_by_role("button", name="Choose a saved picture")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert fits_its_width(page)
    picture(page, "phone-dark")
    page.locator(".part").nth(1).scroll_into_view_if_needed()
    picture(page, "phone-results-dark")


def test_a_problem(visit_as: Visit, demo: RunningDemo, picture: Picture) -> None:
    with demo.sandbox.fail("search", status=503, retry_after=20):
        page = visit_as("max", path="/?text=pressure+sensor", height=720)
        expect(page.get_by_text("Please wait 20 seconds")).to_be_visible()
        picture(page, "problem")


def test_the_page_whose_own_javascript_searches(visit_as: Visit, picture: Picture) -> None:
    page = visit_as("pat", path="/in-the-browser/")
    page.get_by_label("Name, part number or a few words").fill("oil filter")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".part")).to_have_count(3)
    page.wait_for_load_state("networkidle")
    picture(page, "in-the-browser")


def test_the_token_of_an_organizations_key(visit_as: Visit, picture: Picture) -> None:
    page = visit_as("pat", height=760)
    page.get_by_role("combobox", name="Organization", exact=True).select_option(GLOBEX)
    expect(page.get_by_role("heading", name="What are you looking for at Globex Machines?")).to_be_visible()
    page.get_by_role("button", name="Use the token now").click()
    expect(page.locator("#session-panel")).to_have_attribute("data-window", "fresh")
    picture(page, "session-panel")
