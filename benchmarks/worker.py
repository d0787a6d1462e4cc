"""One of the processes of ``benchmarks.expiry``: warms up, waits for the start, and times each request."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

RETRY_AFTER_SECONDS = 1
"""What the site's 503 asks for while another request waits for the refresh."""


def main(session_key: str, warm_session_key: str, threads: int, requests: int) -> None:
    import django

    django.setup()
    from django.db import connections

    from benchmarks import settings
    from benchmarks.people import Browser, Unavailable, handler

    app = handler(settings.PARTIUM_MIDDLEWARE)
    warm, hot = Browser(app, "/token/", warm_session_key), Browser(app, "/token/", session_key)

    def request(_: int) -> tuple[float, int]:
        """Ask until there is an answer. Returns how many seconds it took, and how often the site said 503."""
        started_at, refusals = time.perf_counter(), 0
        while True:
            try:
                hot.get()
            except Unavailable:
                refusals += 1
                time.sleep(RETRY_AFTER_SECONDS)
            else:
                return time.perf_counter() - started_at, refusals

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: warm.get(), range(40 * threads)))
        print("ready", flush=True)
        sys.stdin.readline()
        answers = list(pool.map(request, range(requests)))
    connections.close_all()
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
