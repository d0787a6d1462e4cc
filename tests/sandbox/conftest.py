"""What the tests of the sandbox share."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from partium_auth.testing.sandbox import ACME_KEY, PartiumSandbox


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin where the package is not installed with its entry point."""
    plugin = importlib.import_module("partium_auth.testing.pytest_plugin")
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin, plugin.__name__)


class Caller:
    """A client that knows the paths and nothing else: no retries, no redirects, no interpretation."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, path: str, **arguments: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=10, allow_redirects=False, **arguments)

    def get(self, path: str, bearer: str | None = None, **arguments: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.session.get(self.url + path, timeout=10, headers=headers, **arguments)

    def exchange(self, key: str = ACME_KEY, path: str = "/1/auth") -> requests.Response:
        return self.post(path, headers={"Authorization": f"Bearer {key}"})

    def log_in(self, username: str, password: str) -> requests.Response:
        return self.post("/1/auth", auth=(username.encode(), password.encode()))

    def refresh(self, token: str, path: str = "/auth/refresh") -> requests.Response:
        return self.post(path, json={"refresh_token": token})

    def search(
        self, bearer: str | None = ACME_KEY, organization: str = "acme", text: str = "fan", **more: Any
    ) -> requests.Response:
        headers = more.pop("headers", {}) | ({"Authorization": f"Bearer {bearer}"} if bearer is not None else {})
        body = {"language": "en", "matches": {"organization": organization, "text": text}} | more
        return self.post("/1/find/search", json=body, headers=headers)


@pytest.fixture
def sandbox(partium_sandbox: PartiumSandbox) -> PartiumSandbox:
    return partium_sandbox


@pytest.fixture
def caller(sandbox: PartiumSandbox) -> Iterator[Caller]:
    made = Caller(sandbox.url)
    with made.session:
        yield made


@pytest.fixture
def background(sandbox: PartiumSandbox) -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that do not come back by themselves; whatever they wait for ends with the test."""
    with ThreadPoolExecutor(16) as executor:
        yield executor
        sandbox.clear_faults()


@pytest.fixture(autouse=True)
def no_thread_of_the_sandbox_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A defect in a server thread is logged, and would otherwise pass unnoticed."""
    threads_that_failed: list[str] = []
    before = threading.excepthook
    threading.excepthook = lambda failure: threads_that_failed.append(str(failure.exc_type))
    yield
    threading.excepthook = before
    assert not threads_that_failed
    assert not [record for record in caplog.records if record.name.startswith("partium_auth.testing")]
