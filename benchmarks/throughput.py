"""Requests per second of two gunicorn workers, by ``wrk`` (a package of Debian): with the app, and the same page without it."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection

from benchmarks.chaos.services import free_port, wait_for
from benchmarks.people import log_in
from partium_auth.partium.token_response import TokenResponse

SECONDS = 5
KINDS = {
    "without the app": ("/untouched/", "1"),
    "token not touched": ("/untouched/", ""),
    "token read": ("/token/", ""),
}


def measure(rounds: int, say: Callable[[str], None]) -> None:
    """Print the table, where ``wrk`` is installed."""
    wrk = shutil.which("wrk")
    if wrk is None:
        say("requests per second: not measured, install wrk")
        return
    session_key, _ = log_in("wrk", TokenResponse("a" * 43, "r" * 43, 86_400))
    served: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        for name, (path, bare) in KINDS.items():
            with _gunicorn(bare) as port:
                served[name].append(_requests_per_second(wrk, f"http://127.0.0.1:{port}{path}", session_key))
    base = statistics.median(served["without the app"])
    say(f"{'2 gunicorn workers, wrk':32} {'requests/s':>11} {'ratio':>7}")
    for name, all_rounds in served.items():
        median = statistics.median(all_rounds)
        say(f"{name:32} {median:11,.0f} {median / base:7.2f}")


@contextmanager
def _gunicorn(bare: str) -> Iterator[int]:
    port = free_port()
    environment = {**os.environ, "BENCHMARK_DATABASE": str(connection.settings_dict["NAME"]), "BENCHMARK_BARE": bare}
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}", "benchmarks.wsgi"]
    server = subprocess.Popen([*command, "--log-level", "error"], env=environment)
    try:
        wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def _requests_per_second(wrk: str, url: str, session_key: str) -> float:
    command = [wrk, "-t", "1", "-c", "4", "-H", f"Cookie: {settings.SESSION_COOKIE_NAME}={session_key}"]
    subprocess.run([*command, "-d", "2", url], check=True, capture_output=True)  # warm
    answer = subprocess.run([*command, "-d", str(SECONDS), url], check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", answer)
    if found is None or "Non-2xx" in answer:
        raise RuntimeError(answer)
    return float(found[1])
