"""One of the processes of ``benchmarks.expiry``: warms up, waits for the start, and times each request."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def main(session_key: str, warm_session_key: str, threads: int, requests: int) -> None:
    import django

    django.setup()
    from django.db import connections

    from benchmarks import settings
    from benchmarks.people import Browser, handler

    app = handler(settings.PARTIUM_MIDDLEWARE)
    warm, hot = Browser(app, "/token/", warm_session_key), Browser(app, "/token/", session_key)

    def request(_: int) -> float:
        started_at = time.perf_counter()
        hot.get()
        return time.perf_counter() - started_at

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: warm.get(), range(40 * threads)))
        print("ready", flush=True)
        sys.stdin.readline()
        seconds = list(pool.map(request, range(requests)))
    connections.close_all()
    print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
