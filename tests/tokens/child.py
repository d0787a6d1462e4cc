"""A process of its own: obtains a token and, where it is told to, stops dead on the way.

``python -m tests.tokens.child '{"grant": …}'`` prints one JSON object per line: ``ready``; ``at`` a point, at which it
sends itself SIGSTOP; and in the end ``results``. See :class:`tests.tokens.processes.Child`.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def stop_around(module: Any, name: str, point: str, *, before: bool) -> None:
    """Have this process stop itself whenever it comes to a function, or comes back from it."""
    original: Callable[..., Any] = getattr(module, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if before:
            halt()
            return original(*args, **kwargs)
        result = original(*args, **kwargs)
        halt()
        return result

    def halt() -> None:
        say(at=point)
        # To this thread: sent to the process, another thread may take it, and this one goes on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    setattr(module, name, wrapper)


def main() -> None:
    wanted = json.loads(sys.argv[1])
    right = time.time
    time.time = lambda: right() + wanted["clock_seconds"]
    import django

    django.setup()
    from django.conf import settings
    from django.db import connections

    from partium_auth.exceptions import PartiumError
    from partium_auth.tokens import lease, manager, refresh, send_credential, state

    settings.PARTIUM_API_URL = wanted["api_url"]
    manager.PATIENCE_SECONDS = 60.0  # the machine may be busy
    for name, value in wanted["constants"].items():
        setattr(refresh, name, value)
    stops: dict[str, tuple[Any, str, bool]] = {
        "leased": (lease, "take", False),
        "marked": (lease, "mark_sent", False),
        "answered": (send_credential, "send_credential", False),
    }
    if wanted["stop_at"]:
        module, name, before = stops[wanted["stop_at"]]
        stop_around(module, name, wanted["stop_at"], before=before)

    def obtain(_: int) -> dict[str, Any]:
        try:
            seen = state.read(uuid.UUID(wanted["grant"]))
            assert seen is not None
            issued = manager.token_manager.obtain(seen)
            return {"generation": issued.generation}
        except PartiumError as error:
            return {"error": type(error).__name__}
        finally:
            connections.close_all()

    say(ready=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(wanted["threads"]) as pool:
        say(results=list(pool.map(obtain, range(wanted["threads"]))))
    # Do not end yet: a test wants to stop a refresh in the background, and the end of the process would do that.
    sys.stdin.readline()


if __name__ == "__main__":
    main()
