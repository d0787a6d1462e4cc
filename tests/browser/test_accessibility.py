"""Every page a person sees, looked at by axe-core (WCAG 2.2 A and AA), in light and in dark."""

from __future__ import annotations

import pytest

from tests.browser.axe import faults
from tests.browser.conftest import Visit
from tests.example.running_demo import RunningDemo

pytestmark = pytest.mark.browser

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
