"""Every test begins with an empty cache. ``NO_SKIPS=1`` makes a skipped test a failure: where everything is there, nothing may be left out unseen."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    if settings.PARTIUM_CACHE:
        caches[settings.PARTIUM_CACHE].clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report
