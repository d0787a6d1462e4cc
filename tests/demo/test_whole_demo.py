"""The real demo, all three processes of it, on ports and in a directory of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from django.urls import reverse

from example_project import demo
from tests.demo.processes import DEADLINE_SECONDS, ROOT, eventually, free_port

pytestmark = pytest.mark.processes


class WholeDemo:
    """``python -m example_project.demo``, started and stopped."""

    def __init__(self, directory: Path) -> None:
        self._output = directory / "output"
        self.ports = {name: str(free_port()) for name in demo.PORT_VARIABLES}
        self.site = f"http://127.0.0.1:{self.ports['DEMO_PORT']}"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DEMO_", "DJANGO_", "PARTIUM_", "OIDC_", "DATABASE_URL"))
        }
        self._environment: Mapping[str, str] = {
            **inherited,
            **self.ports,
            "DEMO_DIRECTORY": str(directory / "demo"),
            "DJANGO_ENV_FILE": str(directory / "env"),
        }

    def start(self) -> None:
        with self._output.open("wb") as output:
            command = [sys.executable, "-m", "example_project.demo"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=output, stderr=output)
        eventually(
            lambda: "is running" in self.said() or self._process.poll() is not None, self.said, deadline_seconds=90
        )
        assert "The demo is running." in self.said(), self.said()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE_SECONDS)

    def said(self) -> str:
        return self._output.read_text()


@pytest.fixture(scope="module")
def whole_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeDemo]:
    running = WholeDemo(tmp_path_factory.mktemp("demo"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


def sign_in(whole_demo: WholeDemo, username: str) -> tuple[requests.Session, requests.Response]:
    """Through the site's login link and the provider's page, back to the site."""
    browser = requests.Session()
    page = browser.get(f"{whole_demo.site}/partium/login/default/?next=/", timeout=DEADLINE_SECONDS)
    fields = dict(re.findall(r'name="(transaction_id)" value="([^"]+)"', page.text))
    data = {**fields, "username": username, "password": "demo"}
    return browser, browser.post(page.url, data=data, timeout=DEADLINE_SECONDS)


def test_the_provider_is_told_the_apps_own_callback() -> None:
    assert reverse("partium_auth:oidc_callback", args=["default"]) == demo.CALLBACK_PATH


@pytest.mark.parametrize("username", ["ada", "max", "grace", "hedy", "pat"])
def test_everybody_signs_in_and_finds_parts(whole_demo: WholeDemo, username: str) -> None:
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


def test_the_partium_account_that_the_demo_names_finds_parts(whole_demo: WholeDemo) -> None:
    (username, password) = re.findall(r"Partium account: +(\S+), password “(.+)”", whole_demo.said())[0]
    browser = requests.Session()
    arrived = log_in_here(browser, f"{whole_demo.site}/partium/login/?next=/%3Ftext%3Dfan", username, password)
    assert arrived.url == f"{whole_demo.site}/?text=fan"
    assert "Parts for “fan”" in arrived.text


def test_the_operator_enters_the_stock_admin(whole_demo: WholeDemo) -> None:
    browser = requests.Session()
    response = log_in_here(browser, f"{whole_demo.site}/admin/login/?next=/admin/", "operator", "demo")
    assert response.url == f"{whole_demo.site}/admin/"


def test_it_stops_leaves_its_ports_free_and_starts_again_over_the_same_data(tmp_path: Path) -> None:
    whole = WholeDemo(tmp_path)
    written = []
    for _ in range(2):
        whole.start()
        assert whole.stop() == 0
        demo.choose_ports(whole.ports)  # raises if one is still taken
        written.append((tmp_path / "env").read_text())
    assert written[0] == written[1]
