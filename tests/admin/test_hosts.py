"""The admin in sites of other kinds, each in a process of its own, since such settings hold from the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes


CHROMIUM = Path("/usr/bin/chromium")


def run_in(host: str, module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", f"tests.admin.hosts.{module}"],
        capture_output=True,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": f"tests.admin.hosts.{host}_settings"},
        check=False,
    )


@pytest.mark.parametrize("host", ["unfold", "custom_user", "script_name"])
def test_every_page_comes_out_right(host: str) -> None:
    walk = run_in(host, "walk")
    assert walk.returncode == 0, walk.stderr[-3000:]
    assert walk.stdout == "60 pages\n"


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
@pytest.mark.parametrize("host", ["unfold", "custom_user"])
def test_a_date_is_picked_beside_its_field(host: str) -> None:
    walk = run_in(host, "calendar_walk")
    assert walk.returncode == 0, walk.stderr[-3000:]
