"""Every page a person sees, looked at by axe-core (WCAG 2.2 A and AA), in light and in dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Visit
from tests.example.running_demo import RunningDemo

pytestmark = pytest.mark.browser

# Django's own: links in its breadcrumbs are told by color alone, and its search field has no label that is seen.
DJANGOS = [[".breadcrumbs"], ["#changelist-search"], [".changelist-filter"]]
NOBODYS = ["/partium/login/", "/partium/callback/default/?error=access_denied&state=x"]
KEYS = "/keys/partium_auth/apikey/"
TRACTOR = "TRACTOR.2454488"
ADAS = [
    "/",
    "/?text=fan",
    f"/?within={TRACTOR}",
    "/machines/",
    f"/machines/?root={TRACTOR}&name=Tractor",
    "/part/AF1001/",
    "/?text=qqqq",
    "/partium/memberships/",
    "/keys/",
    KEYS,
    f"{KEYS}add/",
    f"{KEYS}find/",
    "/keys/partium_auth/auditevent/",
]


def faults(page: Page) -> list[str]:
    """What is wrong with a page, one line for each element."""
    found = Axe().run(page, context={"include": [["body"]], "exclude": DJANGOS}).response["violations"]
    return [
        f"{page.url}: {fault['help']}: {node['html'][:200]} {node['failureSummary']}"
        for fault in found
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 360)])
def test_axe_finds_no_fault_with_any_page(
    demo: RunningDemo, visit: Visit, visit_as: Visit, scheme: str, width: int
) -> None:
    found = []
    # axe styles what it measures, which the pages' policies forbid.
    page = visit(color_scheme=scheme, width=width, bypass_csp=True)
    for path in NOBODYS:
        page.goto(demo.site + path)
        found += faults(page)
    page = visit_as("ada", color_scheme=scheme, width=width, bypass_csp=True)
    page.goto(demo.site + KEYS)
    change = page.locator("#result_list .field-name a").first.get_attribute("href") or ""
    for path in [*ADAS, change, change.replace("/change/", "/rotate/")]:
        response = page.goto(demo.site + path)
        assert response is not None
        assert response.ok, path
        found += faults(page)
    page.goto(demo.site + "/in-the-browser/")
    page.get_by_label("Name, part number or a few words").fill("oil filter")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator(".part").first.wait_for()
    found += faults(page)
    assert found == []
