"""Every test begins with an empty cache and ends when its background refreshes have ended.

``NO_SKIPS=1`` makes a skipped test a failure, for runs that may leave nothing out. ``HYPOTHESIS_PROFILE=thorough`` tries
many more examples of each property.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from hypothesis import settings as properties

from partium_auth.accounts.error_pages import repeated_log
from partium_auth.oidc import token_endpoint
from partium_auth.tokens.manager import token_manager
from partium_auth.tokens.workers import Executor

properties.register_profile("quick", max_examples=40, deadline=None)  # no deadline: the machine may be busy
properties.register_profile("thorough", max_examples=2000, deadline=None)
properties.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    caches["default"].clear()
    repeated_log.forget()
    token_endpoint.repeated_log.forget()
    token_manager.forget()


@pytest.fixture(autouse=True)
def _refreshes_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait for refreshes that outlive their caller: emptying the tables under one is a deadlock on PostgreSQL."""
    used: set[Executor] = set()
    submit = Executor.submit

    def noted(self: Executor, upstream_name: str, job: Callable[[], None]) -> None:
        used.add(self)
        submit(self, upstream_name, job)

    monkeypatch.setattr(Executor, "submit", noted)
    yield
    deadline = time.monotonic() + 60
    while any(executor.queued for executor in used):
        assert time.monotonic() < deadline, "A refresh that this test began does not end."
        threading.Event().wait(0.01)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report
