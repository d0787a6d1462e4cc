"""What the tests of the demo's processes share: free ports, servers for the length of a test, and waiting."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(
    condition: Callable[[], bool], what: Callable[[], str], *, deadline_seconds: float = DEADLINE_SECONDS
) -> None:
    """Wait until a condition holds; ``what`` says what is wrong if it never does."""
    deadline = time.monotonic() + deadline_seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what()
        pause.wait(0.05)


@contextlib.contextmanager
def serving(command: Sequence[str], url: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server, from the moment on that it answers at ``url``."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(url, timeout=5).status_code < 500
            return False

        eventually(answers, log.read_text)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
