"""Every test ends when its background refreshes have. ``NO_SKIPS=1`` makes a skipped test a failure: where everything is there, nothing may be left out unseen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from partium_auth.tokens.workers import Executor


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
    while any(executor.busy for executor in used):
        assert time.monotonic() < deadline, "A refresh that this test began does not end."
        threading.Event().wait(0.01)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report
