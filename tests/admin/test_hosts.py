"""The admin in sites of other kinds, each in a process of its own, since such settings hold from the start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("host", ["unfold", "custom_user", "script_name"])
def test_every_page_comes_out_right(host: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": f"tests.admin.hosts.{host}_settings"}
    walk = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.admin.hosts.walk"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert walk.returncode == 0, walk.stderr[-3000:]
    assert walk.stdout == "54 pages\n"
