"""A search through ``request.partium.client`` beside the same request by ``requests`` and ``httpx``: elapsed, side by side."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any
from unittest.mock import patch

import requests
from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest

from benchmarks.people import log_in
from partium_auth.host import upstream
from partium_auth.session import PartiumSession

PASSWORD = "only for measuring"
AT_ONCE = 60


def measure(rounds: int, say: Callable[[str], None]) -> None:
    """Print the table; the sandbox runs in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "partium_auth.testing.sandbox",
        "--port",
        "0",
        "--set",
        "rate_limit_per_second=100000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox:
        try:
            assert sandbox.stdout is not None
            line = next(line for line in sandbox.stdout if "http://" in line)
            settings.PARTIUM_API_URL = "http://" + line.partition("http://")[2].split()[0].rstrip("/.,")
            _measure(rounds, say)
        finally:
            sandbox.terminate()


def _measure(rounds: int, say: Callable[[str], None]) -> None:
    from partium_auth.testing.sandbox.seed import DEFAULT_SEED

    user = DEFAULT_SEED["users"][0]
    session_key, _ = log_in(
        "searching", upstream.authentication_api().exchange_password(user["username"], user["password"])
    )
    request: Any = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request.user = get_user_model().objects.get(username="searching")
    partium = PartiumSession(request)
    sent = _as_sent(partium)
    session = requests.Session()
    kinds: dict[str, Callable[[], Any]] = {
        "requests.post, Partium's sample": lambda: requests.post(timeout=10, **sent).json(),
        "requests.Session.post": lambda: session.post(timeout=10, **sent).json(),
        "client.search": lambda: partium.client.search(text="fan"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, search in kinds.items():
            search()
            started_at = time.perf_counter()
            for _ in range(20):
                search()
            seconds[name].append((time.perf_counter() - started_at) / 20)
    say(f"{'one search':32} {'median':>9} {'to Session':>11} {'to post':>9}")
    post, kept = (statistics.median(seconds[name]) for name in list(kinds)[:2])
    for name in kinds:
        median = statistics.median(seconds[name])
        say(f"{name:32} {median * 1e3:6.2f} ms {median / kept:11.2f} {median / post:9.2f}")
    asyncio.run(_at_once(partium, sent, max(3, rounds // 3), say))


def _as_sent(partium: PartiumSession) -> dict[str, Any]:
    """Return the request that the client sends, for the others."""
    seen: list[requests.PreparedRequest] = []
    prepare = requests.PreparedRequest.prepare

    def note(self: requests.PreparedRequest, *arguments: Any, **values: Any) -> None:
        prepare(self, *arguments, **values)
        seen.append(self)

    with patch.object(requests.PreparedRequest, "prepare", note):
        partium.client.search(text="fan")
    headers = {name: value for name, value in seen[0].headers.items() if name not in {"Content-Length", "Host"}}
    return {"url": seen[0].url, "headers": headers, "json": json.loads(seen[0].body or b"{}")}


async def _at_once(partium: PartiumSession, sent: dict[str, Any], rounds: int, say: Callable[[str], None]) -> None:
    async def ours() -> None:
        await partium.client.asearch(text="fan")

    kinds: dict[str, Callable[[], Any]] = {"client.asearch": ours}
    clients = []
    if importlib.util.find_spec("httpx") is not None:
        httpx = import_module("httpx")
        clients.append(httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=AT_ONCE)))

        async def theirs() -> None:
            (await clients[0].post(**sent)).json()

        kinds["httpx.AsyncClient.post"] = theirs
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, search in kinds.items():
            started_at = time.perf_counter()
            await asyncio.gather(*(search() for _ in range(AT_ONCE)))
            seconds[name].append(time.perf_counter() - started_at)
    for client in clients:
        await client.aclose()
    say(f"{f'{AT_ONCE} searches at once':32} {'median':>9}")
    for name, all_seconds in seconds.items():
        say(f"{name:32} {statistics.median(all_seconds) * 1e3:6.0f} ms")
