"""What the tests of the demo's processes share: free ports, servers for the length of a test, and waiting."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import requests

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 120
PORTS = range(12_000, 32_000)
"""Below the range that systems choose ports from for connections and for port 0."""

_reserved: list[IO[str]] = []


def free_port() -> int:
    """A free port that no other test, of any process, gets while this process lives."""
    directory = Path(tempfile.gettempdir()) / f"partium_auth-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(PORTS, 200):
        reservation = (directory / str(port)).open("w")
        try:
            fcntl.flock(reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return port
    raise AssertionError("200 ports are taken")


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
def serving(
    command: Sequence[str],
    url: str,
    log: Path,
    environment: Mapping[str, str],
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Iterator[None]:
    """Run a server, from the moment on that it answers at ``url``."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(url, timeout=DEADLINE_SECONDS).status_code < 500
            return False

        eventually(answers, log.read_text, deadline_seconds=deadline_seconds)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
