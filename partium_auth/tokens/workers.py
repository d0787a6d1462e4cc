"""Work in the background: a few daemon threads per upstream, so that one that hangs does not delay another's."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable

from partium_auth.host.per_process import PerProcess

logger = logging.getLogger("partium_auth.tokens")

THREADS_PER_UPSTREAM = 2
QUEUE_LIMIT = 10_000


class Saturated(Exception):
    """More jobs wait for one upstream than it makes sense to queue, or there is no thread to be had."""


class _Upstream:
    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()
        self.unfinished = 0
        self.threads = 0


class _Upstreams:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_name: dict[str, _Upstream] = defaultdict(_Upstream)


class Executor:
    """Runs jobs in daemon threads that end when nothing is left to do. Safe to use before and after a fork.

    Args:
        after_job: called in the thread after each job; closes the thread's database connections.
        queue_limit: how many jobs of one upstream may run and wait.
    """

    def __init__(self, after_job: Callable[[], None], *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._after_job = after_job
        self._queue_limit = queue_limit
        self._upstreams = PerProcess(_Upstreams)

    def submit(self, upstream_name: str, job: Callable[[], None]) -> None:
        """Run a job in the background.

        Args:
            upstream_name: at most :data:`THREADS_PER_UPSTREAM` jobs of an upstream run at once.
            job: must not raise.

        Raises:
            Saturated: the upstream's queue is full, or no thread can be started.
        """
        upstreams = self._upstreams()
        with upstreams.lock:
            upstream = upstreams.by_name[upstream_name]
            if upstream.unfinished >= self._queue_limit:
                raise Saturated(upstream_name)
            if upstream.threads < THREADS_PER_UPSTREAM:
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
            upstream.waiting.append(job)
            upstream.unfinished += 1

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits in this process."""
        upstreams = self._upstreams()
        with upstreams.lock:
            return bool(upstreams.by_name)

    @property
    def queued(self) -> dict[str, int]:
        """How many jobs of each upstream wait for a thread of this process; upstreams without any job are left out."""
        upstreams = self._upstreams()
        with upstreams.lock:
            return {name: len(upstream.waiting) for name, upstream in upstreams.by_name.items()}

    def _work(self, upstreams: _Upstreams, upstream_name: str) -> None:
        while True:
            with upstreams.lock:
                upstream = upstreams.by_name[upstream_name]
                if not upstream.waiting:
                    upstream.threads -= 1
                    if not upstream.threads:
                        del upstreams.by_name[upstream_name]
                    return
                job = upstream.waiting.popleft()
            try:
                try:
                    job()
                finally:
                    self._after_job()
            except BaseException:
                logger.exception("A job in the background raised what it should have handled.")
            with upstreams.lock:
                upstream.unfinished -= 1
