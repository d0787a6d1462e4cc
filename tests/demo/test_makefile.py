"""``make`` alone says what there is, and nothing more."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    # The tests may have been started by make, whose flags are not this make's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets.split()
    assert done.stderr == ""
