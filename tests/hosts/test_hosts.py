"""The journey, in hosts of many kinds; each in a process of its own, since such settings hold from the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
SITES = sorted(path.stem for path in (Path(__file__).parent / "sites").glob("[a-z]*.py"))


@pytest.mark.parametrize("site", SITES)
def test_the_app_is_a_good_guest(site: str) -> None:
    # The worker's number stays: it chooses the database of Redis, which a test may empty.
    left_out = {name for name in os.environ if name.startswith(("TEST_SQLITE", "PYTEST_"))} - {"PYTEST_XDIST_WORKER"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment["DJANGO_SETTINGS_MODULE"] = f"tests.hosts.sites.{site}"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "tests/hosts/journey.py",
    ]
    run = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, cwd=Path(__file__).parents[2]
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
