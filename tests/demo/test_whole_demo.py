"""The real demo, all three processes of it, on ports and in a directory of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from django.urls import reverse

from example_project import demo
from tests.demo.processes import DEADLINE_SECONDS
from tests.example.running_demo import RunningDemo

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def whole_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with RunningDemo(tmp_path_factory.mktemp("demo")) as running:
        yield running


def sign_in(whole_demo: RunningDemo, username: str) -> tuple[requests.Session, requests.Response]:
    """Through the site's login link and the provider's page, back to the site."""
    browser = requests.Session()
    page = browser.get(f"{whole_demo.site}/partium/login/default/?next=/", timeout=DEADLINE_SECONDS)
    fields = dict(re.findall(r'name="(transaction_id)" value="([^"]+)"', page.text))
    data = {**fields, "username": username, "password": "demo"}
    return browser, browser.post(page.url, data=data, timeout=DEADLINE_SECONDS)


def test_the_provider_is_told_the_apps_own_callback() -> None:
    assert reverse("partium_auth:oidc_callback", args=["default"]) == demo.CALLBACK_PATH


@pytest.mark.parametrize("username", ["ada", "max", "grace", "hedy", "pat"])
def test_everybody_signs_in_and_finds_parts(whole_demo: RunningDemo, username: str) -> None:
    browser, arrived = sign_in(whole_demo, username)
    assert (arrived.status_code, arrived.url) == (200, f"{whole_demo.site}/")
    found = browser.get(
        f"{whole_demo.site}/", params={"text": "fan"}, headers={"X-Fragment": "1"}, timeout=DEADLINE_SECONDS
    )
    assert found.status_code == 200
    assert "fan" in found.text.lower()


def log_in_here(browser: requests.Session, url: str, username: str, password: str) -> requests.Response:
    """With a form of the site itself."""
    page = browser.get(url, timeout=DEADLINE_SECONDS).text
    (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page))
    data = {"username": username, "password": password, "csrfmiddlewaretoken": token}
    return browser.post(url, data=data, timeout=DEADLINE_SECONDS)


def test_the_partium_account_that_the_demo_names_finds_parts(whole_demo: RunningDemo) -> None:
    (username, password) = re.findall(r"Partium account: +(\S+), password “(.+)”", whole_demo.said())[0]
    browser = requests.Session()
    arrived = log_in_here(browser, f"{whole_demo.site}/partium/login/?next=/%3Ftext%3Dfan", username, password)
    assert arrived.url == f"{whole_demo.site}/?text=fan"
    assert "Parts for “fan”" in arrived.text


def test_the_operator_enters_the_stock_admin(whole_demo: RunningDemo) -> None:
    browser = requests.Session()
    response = log_in_here(browser, f"{whole_demo.site}/admin/login/?next=/admin/", "operator", "demo")
    assert response.url == f"{whole_demo.site}/admin/"


def test_it_stops_leaves_its_ports_free_and_starts_again_over_the_same_data(tmp_path: Path) -> None:
    demo_twice = RunningDemo(tmp_path)
    secrets = tmp_path / "demo" / "env"
    with demo_twice:
        written = secrets.read_text()
    with demo_twice:
        assert secrets.read_text() == written
        browser, _arrived = sign_in(demo_twice, "hedy")  # whose organization's key the first one has sealed
        assert browser.get(f"{demo_twice.site}/?text=fan", timeout=DEADLINE_SECONDS).status_code == 200
    demo.choose_ports(demo_twice.ports)  # raises if one is still taken
