"""Throttling is django-axes' job; it works through Django's own signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from partium_auth.testing.sandbox import PartiumSandbox


@pytest.mark.processes
def test_axes_locks_a_name_after_too_many_wrong_passwords_and_no_other(
    partium_sandbox: PartiumSandbox, tmp_path: Path
) -> None:
    for name in ("ann", "bob"):
        partium_sandbox.add_user(name, "correct", "acme")
    command = [sys.executable, "-m", "tests.accounts.axes_site", str(tmp_path / "db.sqlite3"), partium_sandbox.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert [is_in for _, is_in in outcomes] == [False, False, False, False, True]
    assert outcomes[3][0] == 429
