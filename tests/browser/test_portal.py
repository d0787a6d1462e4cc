"""The portal as its visitors have it: a real browser, provider, sandbox and site."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from partium_auth.testing.sandbox import GLOBEX, part_png
from tests.browser.conftest import PASSWORD, Visit, fits_its_width
from tests.browser.keyboard import tab_to
from tests.example.running_demo import RunningDemo

pytestmark = [pytest.mark.browser, pytest.mark.processes]

TOKEN = """() => fetch("/partium/token/", {
    method: "POST", headers: {"X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value},
}).then((answer) => answer.json()).then((answer) => answer.access_token)"""


def search(page: Page, text: str) -> None:
    page.get_by_label("Name, part number or a few words").fill(text)
    page.get_by_role("button", name="Search", exact=True).click()


def add_key(page: Page, demo: RunningDemo, label: str) -> str:
    """Add a key of Globex Machines, as a developer who is at the portal."""
    key = demo.sandbox.add_key(GLOBEX)
    page.get_by_role("link", name="API keys").first.click()
    page.locator(".model-apikey .addlink").click()
    page.get_by_label("Label:").fill(label)
    page.get_by_label("API key:").fill(key)
    page.locator("input[type=submit]").click()
    return key


def revoke_all_keys(page: Page, demo: RunningDemo) -> None:
    page.goto(demo.site + "/keys/partium_auth/apikey/")
    for link in page.locator("#result_list .field-name a").evaluate_all("links => links.map((one) => one.href)"):
        page.goto(link)
        page.get_by_role("button", name="Revoke …").click()
        page.get_by_role("button", name="Revoke", exact=True).click()
        expect(page.get_by_text("The stored value was erased.")).to_be_visible()
    page.goto(demo.site)


def test_log_in_find_a_part_and_log_out(visit_as: Visit) -> None:
    page = visit_as("ada", path="/?text=oil+filter")
    expect(page.get_by_role("heading", name="Parts for “oil filter”")).to_be_visible()

    search(page, "axial fan")
    expect(page.get_by_role("heading", name="Parts for “axial fan”")).to_be_visible()
    expect(page.locator(".part")).to_have_count(12)
    expect(page.locator(".part").first.locator("mark")).to_have_text(["Axial", "fan"])
    expect(page).to_have_url(re.compile(r"text=axial\+fan"))
    assert page.locator(".part img").first.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(page.url.split("/partium/")[0])
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_on_a_phone_the_page_scrolls_to_what_was_found(visit_as: Visit) -> None:
    page = visit_as("ada", width=360, height=780)
    search(page, "fan")
    expect(page.locator(".part").first).to_be_in_viewport()


def test_back_leads_to_the_search_before(visit_as: Visit) -> None:
    page = visit_as("max")
    search(page, "pump")
    expect(page.get_by_role("heading", name="Parts for “pump”")).to_be_visible()
    search(page, "valve")
    expect(page.get_by_role("heading", name="Parts for “valve”")).to_be_visible()

    page.go_back()

    expect(page.get_by_role("heading", name="Parts for “pump”")).to_be_visible()
    expect(page.get_by_label("Name, part number or a few words")).to_have_value("pump")


def test_more_parts_come_below_and_the_focus_goes_on_there(visit_as: Visit) -> None:
    page = visit_as("ada", path="/?text=fan&limit=6")
    expect(page.locator(".part")).to_have_count(6)

    page.get_by_role("link", name="Show more").click()

    expect(page.locator(".part")).to_have_count(12)
    expect(page.locator("#shown")).to_have_text("12 shown")
    expect(page.locator(".part").nth(6)).to_be_focused()


def test_a_photo_is_shown_before_it_is_sent_and_finds_its_part(visit_as: Visit) -> None:
    page = visit_as("ada", path="/?text=ball+bearing")
    number = page.locator(".part .number").nth(4).inner_text().split()[-1]
    photo = part_png(number)
    assert photo is not None

    page.get_by_label("Or a photo of the part").set_input_files(
        {"name": "from the shop floor.png", "mimeType": "image/png", "buffer": photo}
    )
    expect(page.get_by_role("img", name="The photo you chose")).to_be_visible()
    expect(page.get_by_text("from the shop floor.png")).to_be_visible()
    page.get_by_role("button", name="Search by photo").click()

    expect(page.get_by_role("heading", name="Parts that look like your photo")).to_be_visible()
    expect(page.locator(".part .number").first).to_contain_text(number)


@pytest.mark.parametrize("username", ["ada", "hedy"])
def test_who_has_no_photo_at_hand_tries_the_picture_that_is_offered(visit_as: Visit, username: str) -> None:
    page = visit_as(username)
    page.get_by_role("link", name="Try this picture").press("Enter")

    expect(page.get_by_role("heading", name="Parts that look like your photo")).to_be_visible()
    expect(page.locator(".part .number").first).to_contain_text("SG1901")
    expect(page.get_by_role("img", name="The photo you chose")).to_be_visible()


@pytest.mark.parametrize(
    ("content", "says"),
    [(bytes(6_000_000), "This photo is too large."), (b"no picture", "The picture could not be read")],
)
def test_a_photo_that_will_not_do(visit_as: Visit, content: bytes, says: str) -> None:
    page = visit_as("ada")
    page.get_by_label("Or a photo of the part").set_input_files(
        {"name": "part.jpg", "mimeType": "image/jpeg", "buffer": content}
    )
    page.get_by_role("button", name="Search by photo").click()

    expect(page.get_by_text(says)).to_be_visible()


def test_the_panel_counts_down_and_sees_a_refresh(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("pat")
    page.get_by_role("combobox", name="Organization", exact=True).select_option(GLOBEX)
    panel = page.locator("#session-panel")
    expect(panel.get_by_text("organization’s key")).to_be_visible()
    token = page.evaluate(TOKEN)
    demo.sandbox.settings(lifetime_seconds=30)
    try:
        demo.sandbox.revoke_token(token)
        search(page, "pump")  # 401, a refresh, and the search again
        expect(page.locator(".part").first).to_be_visible()
    finally:
        demo.sandbox.settings(lifetime_seconds=600)
    left = panel.locator("[data-field=left]")
    expect(left).to_have_text(re.compile(r"0:2\d"))
    refreshes = int(panel.locator("[data-field=refreshes]").inner_text())

    # Longer than the panel's interval, so that it is seen: from 12 s to 3 s.
    expect(panel).to_have_attribute("data-window", "advisory", timeout=30_000)
    expect(panel.get_by_text("Refresh due", exact=True)).to_be_visible()
    panel.get_by_role("button", name="Use the token now").click()

    expect(panel.locator("[data-field=refreshes]")).to_have_text(str(refreshes + 1))
    expect(panel.locator("[data-field=left]")).to_have_text(re.compile(r"9:5\d|10:00"))
    expect(panel.locator(".events")).to_contain_text("A new token was fetched.")
    assert token not in page.content()


def test_the_panel_rests_while_nobody_sees_the_page(visit_as: Visit) -> None:
    page = visit_as("ada")
    page.clock.install()
    page.reload()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "session-state" in request.url else None)
    show = """(hidden) => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with page.expect_response("**/session-state/"):
        page.clock.run_for(5_000)

    page.evaluate(show, True)
    page.clock.run_for(100)
    before = len(asked)
    page.clock.run_for(60_000)
    assert len(asked) == before

    with page.expect_response("**/session-state/"):
        page.evaluate(show, False)


def test_the_organization_is_switched_with_one_choice(visit_as: Visit) -> None:
    page = visit_as("pat")
    expect(page.get_by_role("heading", name="What are you looking for at Acme Industrial?")).to_be_visible()

    page.get_by_role("combobox", name="Organization", exact=True).select_option(GLOBEX)

    expect(page.get_by_role("heading", name="What are you looking for at Globex Machines?")).to_be_visible()
    search(page, "GP1803")  # of the press, which only Globex Machines has
    expect(page.locator(".part .number").first).to_contain_text("GP1803")


def test_a_developer_who_is_not_staff_adds_a_key(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("grace")
    key = add_key(page, demo, "From the browser test")

    expect(page.get_by_text("The key was added. Partium accepted it.")).to_be_visible()
    assert key not in page.content()
    page.get_by_role("link", name="API keys", exact=True).first.click()
    row = page.get_by_role("row").filter(has_text="From the browser test")
    expect(row).to_be_visible()
    expect(row).to_contain_text(key[-4:])
    assert key not in page.content()
    page.goto(demo.site + "/admin/")
    expect(page.get_by_text("not authorized to access this page")).to_be_visible()


def test_a_member_finds_no_way_to_the_keys(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("hedy")
    expect(page.get_by_role("link", name="API keys")).to_have_count(0)

    page.goto(demo.site + "/keys/")

    expect(page.get_by_role("heading", name="This page is for developers")).to_be_visible()
    page.get_by_role("link", name="Log in with another account").press("Enter")
    expect(page.get_by_role("heading", name="Log in", exact=True)).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Log out").press("Enter")
    expect(page.get_by_role("heading", name="Log in", exact=True)).to_be_visible()


def test_everything_can_be_done_with_the_keyboard(visit: Visit) -> None:
    page = visit()
    tab_to(page, "Log in with Demo identity provider")
    page.keyboard.press("Enter")
    expect(page.get_by_label("User name")).to_be_focused()
    page.keyboard.type("pat")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Find a part")).to_be_visible()

    page.wait_for_load_state()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "Name, part number")
    page.keyboard.type("fan")
    page.keyboard.press("Enter")
    expect(page.locator(".part")).to_have_count(12)
    tab_to(page, "All details")
    page.keyboard.press("Enter")
    expect(page.locator(".part details[open] dt").first).to_be_visible()
    tab_to(page, "Show more")
    page.keyboard.press("Enter")
    expect(page.locator(".part")).to_have_count(16)

    page.locator("#results").focus()
    tab_to(page, "120 mm (3)")
    page.keyboard.press("Space")
    tab_to(page, "Apply")
    page.keyboard.press("Enter")
    expect(page.locator(".part")).to_have_count(3)

    page.locator(".brand").focus()
    tab_to(page, "Organization")
    page.keyboard.type("Globex")  # a list chooses by its first letters, and does not leave the page
    expect(page.get_by_role("heading", name="Parts for “fan”")).to_be_visible()
    tab_to(page, "Switch")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What are you looking for at Globex Machines?")).to_be_visible()
    tab_to(page, "Log out")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_machines_and_a_part_can_be_reached_with_the_keyboard(visit_as: Visit) -> None:
    page = visit_as("ada")
    for link, heading in (("Machines", "Machines"), ("Tractor", "Tractor")):
        tab_to(page, link)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    tab_to(page, "Parts: Engine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Parts of this machine")).to_be_visible()
    page.locator("#results").focus()
    first = page.locator(".part h3").first.inner_text()
    tab_to(page, first)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=first, level=1)).to_be_visible()
    tab_to(page, "This was it")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you.")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False])
def test_the_facets_are_folded_on_a_phone_and_open_beside_the_results_on_a_desk(
    visit_as: Visit, javascript: bool
) -> None:
    page = visit_as("ada", width=360, height=780, path="/?text=fan", java_script_enabled=javascript)
    size = page.get_by_role("checkbox", name="120 mm (3)")
    expect(page.locator(".part").first).to_be_visible()
    expect(size).to_be_hidden()
    page.get_by_text("Narrow the results").locator("visible=true").click()
    expect(size).to_be_visible()
    page.get_by_text("Narrow the results").locator("visible=true").click()

    page.set_viewport_size({"width": 1280, "height": 900})
    size.check()
    page.get_by_role("button", name="Apply").click()

    expect(page.locator(".part")).to_have_count(3)
    expect(page.get_by_role("checkbox", name="120 mm")).to_be_checked()


def test_a_problem_is_explained_in_place_and_trying_again_helps(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("ada")
    with demo.sandbox.fail("search", status=503, retry_after=3):
        search(page, "relay")
        expect(page.get_by_role("heading", name="Partium is not available right now")).to_be_visible()
        expect(page.get_by_text("Please wait 3 seconds")).to_be_visible()
        expect(page.get_by_label("Name, part number or a few words")).to_have_value("relay")

    page.get_by_role("link", name="Try again").click()

    expect(page.get_by_role("heading", name="Parts for “relay”")).to_be_visible()


def test_a_search_that_takes_its_time_can_be_seen_to_run(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("ada")
    with demo.sandbox.hang("search") as hang:
        search(page, "relay")
        hang.wait_until_met()
        expect(page.locator("#results")).to_have_css("opacity", "0.5")
        expect(page.get_by_role("progressbar", name="Searching")).to_be_in_viewport()
    expect(page.locator("#results .part").first).to_be_visible()
    expect(page.locator("#results")).to_have_css("opacity", "1")
    expect(page.get_by_role("progressbar", name="Searching")).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/in-the-browser/"])
@pytest.mark.parametrize("username", ["ada", "pat"])
def test_the_way_out_is_at_the_edge_of_a_phone(visit_as: Visit, demo: RunningDemo, username: str, path: str) -> None:
    page = visit_as(username, width=360, height=780)
    page.goto(demo.site + path)
    box = page.get_by_role("button", name="Log out").bounding_box()
    assert box
    assert box["x"] + box["width"] > 360 - 24
    expect(page.locator(".who")).to_be_visible()


def test_a_portal_that_does_not_answer_is_explained_and_nothing_typed_is_lost(visit_as: Visit) -> None:
    page = visit_as("ada")
    page.context.set_offline(True)
    search(page, "relay")
    expect(page.get_by_role("heading", name="The portal did not answer")).to_be_visible()
    page.context.set_offline(False)

    page.get_by_role("button", name="Search", exact=True).click()

    expect(page.get_by_role("heading", name="Parts for “relay”")).to_be_visible()


def test_a_session_that_ended_in_another_tab_leads_to_the_login_page(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("ada")
    other = page.context.new_page()
    other.goto(demo.site)
    other.get_by_role("button", name="Log out").click()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    expect(other.get_by_text("You are logged out.")).to_be_visible()

    panel = page.locator("#session-panel")
    expect(panel.get_by_text("Logged out")).to_be_visible()
    for field in ("left", "refreshes", "lifetime", "source_label", "organization"):
        expect(panel.locator(f"[data-field={field}]")).to_have_text("–")
    expect(panel.locator("progress")).to_have_js_property("value", 0)

    search(page, "relay")

    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_role("link", name="Demo identity provider").click()
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Parts for “relay”")).to_be_visible()


def test_a_photo_that_was_not_searched_is_told_on_the_login_page(visit_as: Visit) -> None:
    page = visit_as("ada")
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("link", name="Try this picture").press("Enter")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("choose the photo again.")).to_be_visible()


@pytest.mark.parametrize("path", ["/?text=relay", "/in-the-browser/"])
def test_a_page_that_said_there_is_no_key_goes_on_when_one_is_added(
    visit_as: Visit, demo: RunningDemo, path: str
) -> None:
    grace = visit_as("grace")
    page = visit_as("hedy")
    revoke_all_keys(grace, demo)
    page.goto(demo.site + path)
    expect(page.locator("[data-problem=no_usable_key]")).to_be_visible()

    add_key(grace, demo, "For those who wait")

    expect(page.locator("[data-problem=no_usable_key]")).to_have_count(0, timeout=30_000)
    if "text" in path:
        expect(page.get_by_role("heading", name="Parts for “relay”")).to_be_visible()


def test_the_browser_searches_at_partium_itself_and_keeps_no_token(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("hedy", path="/in-the-browser/")
    seen = len(demo.sandbox.calls())

    page.get_by_label("Name, part number or a few words").fill("fan")
    page.get_by_role("button", name="Search", exact=True).click()

    expect(page.locator(".part")).to_have_count(6)
    assert page.locator(".part img").first.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    expect(page.locator("#browser-log")).to_contain_text("The SDK was started with an access token.")
    (call,) = [call for call in demo.sandbox.calls()[seen:] if call.endpoint == "search"]
    assert call.credential_kind == "access_token"
    assert call.external_user_id
    token = page.evaluate("window.partiumAuth.token()")
    assert token not in page.content()
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]


def test_the_portal_works_without_javascript(visit_as: Visit) -> None:
    page = visit_as("pat", java_script_enabled=False)

    search(page, "fan")
    expect(page.locator(".part")).to_have_count(12)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#shown")).to_have_text("Parts 13 to 16, the last")
    expect(page.locator(".part")).to_have_count(4)
    page.get_by_role("combobox", name="Organization", exact=True).select_option(GLOBEX)
    page.get_by_role("button", name="Switch").click()
    expect(page.get_by_role("status").get_by_text("You are now at Globex Machines.")).to_be_visible()
    expect(page.get_by_role("heading", name="What are you looking for at Globex Machines?")).to_be_visible()
    page.get_by_role("button", name="Use the token now").click()
    expect(page.locator("#session-panel")).to_have_attribute("data-window", "fresh")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit_as: Visit, width: int) -> None:
    page = visit_as("pat", width=width, height=780)
    lengthen = """() => {
        const long = "Donaudampfschifffahrtsgesellschaft".repeat(6);
        for (const one of document.querySelectorAll("h1, h3, dd, .number, .who, legend, .nodes a, .organization-name, option:checked, .note p"))
            one.textContent = long;
    }"""
    for path in (
        "/",
        "/?text=fan&limit=6",
        "/?text=qqqq",
        "/?text=fan&limit=7",
        "/machines/",
        "/part/AF1001/",
        "/in-the-browser/",
    ):
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/", 3)[2] + path)
        assert fits_its_width(page), path
        page.evaluate(lengthen)
        assert fits_its_width(page), f"{path} with long words"


def test_the_scripts_speak_german_too(visit_as: Visit, demo: RunningDemo) -> None:
    page = visit_as("ada", path="/in-the-browser/", locale="de-DE")
    expect(page.locator("#browser-log")).to_contain_text("Das SDK wurde mit einem Zugriffstoken gestartet.")
    page.get_by_label("Name, Teilenummer oder ein paar Wörter").fill("qqqq")
    page.get_by_role("button", name="Suchen", exact=True).click()
    expect(page.get_by_role("heading", name="Kein Teil gefunden für „qqqq“")).to_be_visible()
    expect(page.locator("#browser-log")).to_contain_text("mit 0 Teilen beantwortet")

    page.goto(demo.site)
    page.get_by_role("link", name="Dieses Bild probieren").click()
    expect(page.get_by_role("heading", name="Teile, die aussehen wie Ihr Foto")).to_be_visible()
    expect(page).to_have_title("Mit Foto suchen · Teileportal")
