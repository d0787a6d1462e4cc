"""Work in the background: a few daemon threads per upstream, so that one that hangs does not delay another's.

A thread stays for a while after its last job, with its database connection where the site keeps connections (``CONN_MAX_AGE``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from django.db import close_old_connections, connections

from partium_auth.host.per_process import PerProcess

logger = logging.getLogger("partium_auth.tokens")

IDLE_SECONDS = 10.0
QUEUE_LIMIT = 10_000
SLOW_TURN_SECONDS = 5.0
"""If a job waits longer than this for a thread, there are too few threads."""


class Saturated(Exception):
    """Too many jobs wait for one upstream, or no thread can be started."""


class _Upstream:
    def __init__(self, lock: threading.Lock) -> None:
        self.waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self.has_job = threading.Condition(lock)
        self.unfinished = 0
        self.threads = 0
        self.is_slow = False


class _Upstreams:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_name: dict[str, _Upstream] = {}


class Executor:
    """Runs jobs in daemon threads that end some time after the last job. Safe to use before and after a fork.

    Args:
        threads: how many jobs of one upstream run at once; asked for at each job.
        queue_limit: how many jobs of one upstream may run and wait.
    """

    def __init__(
        self,
        *,
        threads: Callable[[], int],
        queue_limit: int = QUEUE_LIMIT,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._threads = threads
        self._queue_limit = queue_limit
        self._idle_seconds = idle_seconds
        self._upstreams = PerProcess(_Upstreams)

    def submit(self, upstream_name: str, job: Callable[[], None]) -> None:
        """Run a job in the background.

        Args:
            upstream_name: each upstream has threads of its own.
            job: must not raise.

        Raises:
            Saturated: the upstream's queue is full, or no thread can be started.
        """
        upstreams = self._upstreams()
        with upstreams.lock:
            upstream = upstreams.by_name.setdefault(upstream_name, _Upstream(upstreams.lock))
            if upstream.unfinished >= self._queue_limit:
                raise Saturated(upstream_name)
            if upstream.threads < min(self._threads(), upstream.unfinished + 1):
                thread = threading.Thread(
                    target=self._work, args=(upstreams, upstream_name), name=f"partium-{upstream_name}", daemon=True
                )
                try:
                    thread.start()
                    upstream.threads += 1
                except RuntimeError as error:  # the machine's limit, or the interpreter is shutting down
                    if not upstream.threads:
                        del upstreams.by_name[upstream_name]
                        raise Saturated(upstream_name) from error
            upstream.waiting.append((time.monotonic(), job))
            upstream.unfinished += 1
            upstream.has_job.notify()

    @property
    def queued(self) -> dict[str, int]:
        """How many jobs of each upstream wait for a thread of this process."""
        upstreams = self._upstreams()
        with upstreams.lock:
            return {name: len(upstream.waiting) for name, upstream in upstreams.by_name.items() if upstream.unfinished}

    def _work(self, upstreams: _Upstreams, upstream_name: str) -> None:
        upstream = upstreams.by_name[upstream_name]
        try:
            while True:
                with upstreams.lock:
                    if not upstream.waiting:
                        upstream.has_job.wait(self._idle_seconds)
                    if not upstream.waiting:
                        upstream.threads -= 1
                        if not upstream.threads and not upstream.unfinished:
                            upstreams.by_name.pop(upstream_name, None)
                        return
                    queued_at, job = upstream.waiting.popleft()
                self._report_turn(upstream, upstream_name, time.monotonic() - queued_at)
                self._run(job)
                del job  # an idle thread must not keep what the job holds
                with upstreams.lock:
                    upstream.unfinished -= 1
        finally:
            connections.close_all()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            close_old_connections()
            try:
                job()
            finally:
                close_old_connections()
        except BaseException:
            logger.exception("A job in the background raised what it should have handled.")

    def _report_turn(self, upstream: _Upstream, upstream_name: str, seconds: float) -> None:
        is_slow = seconds > SLOW_TURN_SECONDS
        if is_slow and not upstream.is_slow:
            logger.warning(
                "Refreshes of %s wait %.0f s for one of %d threads. Raise PARTIUM_REFRESH_THREADS, or run more processes: "
                "processes x threads / latency in seconds has to be at least living sessions / 390.",
                upstream_name,
                seconds,
                self._threads(),
            )
        upstream.is_slow = is_slow
