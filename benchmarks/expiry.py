"""200 requests in 4 processes meet a token that is about to expire, or has expired: upstream calls, and the slowest request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from django.db import connection

from benchmarks.people import log_in
from partium_auth.host import upstream
from partium_auth.models import Grant
from partium_auth.partium.token_response import TokenResponse
from partium_auth.testing.sandbox import PartiumSandbox

PROCESSES, THREADS, REQUESTS = 4, 5, 50
PASSWORD = "only for measuring"


def measure(say: Callable[[str], None]) -> None:
    """Print the table. The upstream takes 300 ms for a refresh, so that a request that waits for it is seen."""
    title = f"{PROCESSES * REQUESTS} requests, {PROCESSES} processes"
    say(f"{title:32} {'upstream calls':>15} {'503 first':>12} {'median':>10} {'slowest':>10}")
    with PartiumSandbox.start() as sandbox:
        os.environ["BENCHMARK_API_URL"] = sandbox.url
        from django.conf import settings

        settings.PARTIUM_API_URL = sandbox.url
        sandbox.add_user("bench", PASSWORD, "acme")
        sandbox.delay("refresh", 0.3)
        warm_session_key, _ = log_in("warm", TokenResponse("a" * 43, None, 86_400))
        for name, seconds_left in (("token fresh", 600), ("token due for refresh", 150), ("token expired", 0)):
            tokens = upstream.authentication_api().exchange_password("bench", PASSWORD)
            session_key, grant = log_in(f"bench-{seconds_left}", tokens)
            Grant.objects.filter(pk=grant.pk).update(issued_at=time.time() + seconds_left - 600)
            before = sandbox.count(endpoint="refresh")
            answers = _run(session_key, warm_session_key)
            times = sorted(seconds for seconds, _ in answers)
            calls = sandbox.count(endpoint="refresh") - before
            median, slowest = times[len(times) // 2], times[-1]
            refused = sum(refusals for _, refusals in answers)
            say(f"{name:32} {calls:15} {refused:12} {median * 1000:7.1f} ms {slowest * 1000:7.1f} ms")


def _run(session_key: str, warm_session_key: str) -> list[tuple[float, int]]:
    """Return how many seconds each request took, and how often it was answered 503 before."""
    environment = {**os.environ, "BENCHMARK_DATABASE": str(connection.settings_dict["NAME"])}
    command = [sys.executable, "-m", "benchmarks.worker", session_key, warm_session_key, str(THREADS), str(REQUESTS)]
    workers = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    answers: list[tuple[float, int]] = []
    for worker in workers:
        output, _ = worker.communicate(timeout=60)
        answers += json.loads(output)
    return answers
