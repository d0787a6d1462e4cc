"""The session panel, the organization switch, and the page whose own JavaScript searches."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from example_project.session_panel import clock
from partium_auth.models import ApiKey, Membership, Organization
from partium_auth.services import add_key
from partium_auth.services.key_usage import count_use, write_counts
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from tests.example.conftest import make_developer

SCRIPT = {"X-Fragment": "1", "Sec-Fetch-Mode": "cors"}


@pytest.fixture
def keyed(hedy: PartiumUser, partium_sandbox: PartiumSandbox) -> PartiumUser:
    """Hedy, whose organization has a key that was never used by a session."""
    add_key(hedy.organization, partium_sandbox.add_key("globex"), label="for a test", actor=None, verify=False)
    return hedy


def state_of(client: Client) -> dict[str, Any]:
    response = client.get("/session-state/", headers=SCRIPT)
    assert response.status_code == 200
    state: dict[str, Any] = response.json()
    return state


def test_it_tells_window_time_source_and_organization(browser: Client) -> None:
    state = state_of(browser)

    assert state["window"] == "fresh"
    assert 590 <= state["seconds_left"] <= state["lifetime_seconds"] == 600
    assert state["lifetime"] == "10:00"
    assert state["refreshes"] == 0
    assert state["source_label"] == "Partium login"
    assert state["organization"] == "Acme Industrial"


def test_it_never_tells_the_token(ada: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    token = ada.client.post(reverse("partium_auth:token")).json()["access_token"]

    for path in ("/", "/?text=fan", "/session-state/", "/in-the-browser/"):
        assert token not in ada.client.get(path).content.decode()
    assert token not in json.dumps(ada.client.post("/session-state/", headers=SCRIPT).json())


def test_to_look_fetches_nothing_and_to_use_does(keyed: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    before = partium_sandbox.count(endpoint="auth")

    assert state_of(keyed.client)["window"] == "none"
    assert partium_sandbox.count(endpoint="auth") == before

    used = keyed.client.post("/session-state/", headers=SCRIPT).json()
    assert used["window"] == "fresh"
    assert used["refreshes"] == 0
    assert used["source_label"] == "organization’s key"
    assert partium_sandbox.count(endpoint="auth") == before + 1


def test_it_counts_refreshes(browser: Client, partium_sandbox: PartiumSandbox) -> None:
    token = browser.post(reverse("partium_auth:token")).json()["access_token"]
    partium_sandbox.revoke_token(token)

    page = browser.get("/", {"text": "fan"}).content.decode()  # refreshed by the very request that shows it
    assert '<dd data-field="refreshes">1</dd>' in page
    assert state_of(browser)["refreshes"] == 1


def test_without_javascript_using_the_token_comes_back_to_the_page(
    keyed: PartiumUser, partium_sandbox: PartiumSandbox
) -> None:
    assert keyed.client.post("/session-state/").headers["Location"] == "/"
    assert state_of(keyed.client)["window"] == "fresh"


def test_without_javascript_a_token_that_cannot_be_fetched_is_explained(
    keyed: PartiumUser, partium_sandbox: PartiumSandbox
) -> None:
    with partium_sandbox.fail("auth", status=503):
        page = keyed.client.post("/session-state/", follow=True).content.decode()

    assert "Partium is not available right now." in page


def test_a_script_is_told_what_stands_in_the_way(keyed: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    with partium_sandbox.fail("auth", status=503, retry_after=7):
        state = keyed.client.post("/session-state/", headers=SCRIPT).json()

    assert state["window"] == "none"
    assert state["problem"]["code"] == "token_unavailable"
    assert state["problem"]["retry_after"] >= 1


def test_a_stranger_learns_nothing(site: None, client: Client, db: None) -> None:
    response = client.get("/session-state/")

    assert response.status_code == 401
    assert response.json()["error"] == "login_required"


def test_it_works_for_people_without_organization(ada: PartiumUser) -> None:
    Membership.objects.all().delete()

    state = state_of(ada.client)

    assert state["window"] == "none"
    assert state["organization"] == "none"


def test_the_page_shows_it_without_javascript_too(browser: Client) -> None:
    page = browser.get("/").content.decode()

    assert 'data-window="fresh"' in page
    assert re.search(r'data-field="left" aria-live="off">(9:5\d|10:00)<', page)


def test_the_organization_is_switched_from_the_header(ada: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    globex = Organization.objects.create(org_id="globex", display_name="Globex Machines")
    assert 'name="organization"' not in ada.client.get("/").content.decode(), "there is nothing to switch to"
    Membership.objects.create(user=ada.user, organization=globex)

    page = ada.client.get("/in-the-browser/").content.decode()
    assert re.search(r'<option value="acme" selected>', page)
    response = ada.client.post(
        reverse("partium_auth:organization"), {"organization": "globex", "next": "/in-the-browser/"}, follow=True
    )

    assert response.request["PATH_INFO"] == "/in-the-browser/"
    assert "You are now at Globex Machines." in response.content.decode()
    assert re.search(r'<option value="globex" selected>', response.content.decode())
    assert state_of(ada.client)["organization"] == "Globex Machines"


def test_long_and_hostile_names_are_shown_as_text(ada: PartiumUser) -> None:
    name = "<img src=x onerror=alert(1)>" + "Extraordinarily" * 10
    Organization.objects.update(display_name=name)
    ada.user.first_name = "<b>Ada</b>"
    ada.user.save()

    page = ada.client.get("/").content.decode()

    assert "<img src=x" not in page
    assert "<b>Ada" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;Extraordinarily" in page


def test_developers_have_a_link_to_the_key_admin_and_members_have_none(hedy: PartiumUser) -> None:
    link = '<a href="/keys/">API keys</a>'

    assert link not in hedy.client.get("/").content.decode()
    make_developer(hedy)
    assert link in hedy.client.get("/").content.decode()


def test_the_browser_page_starts_the_sdk_with_the_token_endpoint(
    browser: Client, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    page = browser.get("/in-the-browser/").content.decode()

    assert f'data-token-url="{reverse("partium_auth:token")}"' in page
    assert f'data-api-url="{partium_sandbox.url}"' in page
    assert 'data-organization="acme"' in page
    assert "{% partium_find_sdk %}" in page

    settings.PARTIUM_FIND_SDK_URL = "https://cdn.example/sdk.js"
    response = browser.get("/in-the-browser/")
    assert 'data-sdk-url="https://cdn.example/sdk.js"' in response.content.decode()
    assert "find-sdk-stand-in.js" not in response.content.decode()
    assert "script-src 'self' https://cdn.example;" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (-3, "0:00"), (59.9, "0:59"), (605, "10:05"), (7200, "120:00")]
)
def test_the_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_who_manages_the_keys_sees_how_much_they_are_used(keyed: PartiumUser) -> None:
    count_use(ApiKey.objects.get().pk, ok=True)
    write_counts()

    assert "Searches in 30 days" not in keyed.client.get("/").content.decode()

    make_developer(keyed)
    page = keyed.client.get("/")
    assert page.context["key_usage"] == {"searches": 1, "failures": 0}
    assert "Searches in 30 days" in page.content.decode()
