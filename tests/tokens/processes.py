"""Child processes that obtain tokens, and that a test stops, continues and kills."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Self

from django.db import connection

from partium_auth.models import Grant

PATIENCE_SECONDS = 120.0


class Child:
    """One process that obtains a token of a grant.

    Args:
        grant: whose.
        api_url: the sandbox.
        stop_at: ``leased`` (the lease is taken), ``marked`` (``sent_at`` is written, nothing is sent yet), ``answered``
            (the answer is here, and not committed).
        threads: how many obtain it at once.
        clock_seconds: how much its clock is ahead.
        constants: of ``partium_auth.tokens.refresh``, by name.
    """

    def __init__(
        self,
        grant: Grant,
        api_url: str,
        *,
        stop_at: str | None = None,
        threads: int = 1,
        clock_seconds: float = 0.0,
        **constants: float,
    ) -> None:
        wanted = {
            "grant": str(grant.pk),
            "api_url": api_url,
            "stop_at": stop_at,
            "threads": threads,
            "clock_seconds": clock_seconds,
            "constants": constants,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tokens.child", json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
            },
        )
        self._heard: dict[str, Any] = {}
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def __enter__(self) -> Self:
        self.said("ready")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait(60)
        self._reader.join(60)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def said(self, what: str) -> Any:
        """Wait until it has said that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while what not in self._heard:
            self._heard |= self._said.get(timeout=max(0.01, deadline - time.monotonic()))
        return self._heard.pop(what)

    def go(self) -> None:
        """Begin to obtain."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait_until_stopped(self) -> None:
        """Wait until the kernel has stopped it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self._process.pid, os.WNOHANG | os.WUNTRACED)
            if pid:
                assert os.WIFSTOPPED(status), "it ended instead"
                return
            threading.Event().wait(0.005)
        raise TimeoutError

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        self.wait_until_stopped()

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)

    def result(self) -> dict[str, Any]:
        """Wait for what came of it, with one thread."""
        (result,) = self.said("results")
        return dict(result)
