"""The real demo, all three processes of it, for the tests that drive it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from example_project.demo import DEFAULT_PORTS
from partium_auth.testing.sandbox import SandboxControl
from tests.demo.processes import DEADLINE_SECONDS, ROOT, eventually, free_port


class RunningDemo:
    """``python -m example_project.demo`` on free ports and in a directory of its own, from ``with`` to the end of it.

    Args:
        directory: empty; for the demo's files.
    """

    def __init__(self, directory: Path) -> None:
        self._output = directory / "output"
        self.ports = {name: str(free_port()) for name in DEFAULT_PORTS}
        self.site = f"http://127.0.0.1:{self.ports['DEMO_PORT']}"
        self.sandbox = SandboxControl(f"http://127.0.0.1:{self.ports['DEMO_SANDBOX_PORT']}")
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("DEMO_", "DJANGO_", "PARTIUM_", "OIDC_", "DATABASE_URL", "CACHE_URL", "DEBUG"))
            },
            **self.ports,
            "DEMO_DIRECTORY": str(directory / "demo"),
        }

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            command = [sys.executable, "-m", "example_project.demo"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=output, stderr=output)
        eventually(lambda: "is running" in self.said() or self._process.poll() is not None, self.said)
        assert self._process.poll() is None, self.said()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(DEADLINE_SECONDS) == 0, self.said()

    def said(self) -> str:
        """Return what it has printed."""
        return self._output.read_text()
