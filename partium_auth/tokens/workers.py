"""Work in the background: a few daemon threads per upstream, so that one that hangs does not delay another's."""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable

from partium_auth.host.per_process import PerProcess

logger = logging.getLogger("partium_auth.tokens")

THREADS_PER_UPSTREAM = 2
QUEUE_LIMIT = 10_000


class Saturated(Exception):
    """More jobs wait for one upstream than it makes sense to queue, or there is no thread to be had."""


class _Jobs:
    """The jobs of one process, by upstream."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: dict[str, deque[Callable[[], None]]] = defaultdict(deque)
        self.unfinished = Counter[str]()
        self.threads = Counter[str]()


class Executor:
    """Runs jobs in daemon threads that end when nothing is left to do. Safe to use before and after a fork.

    Args:
        after_job: called in the thread after each job; closes the thread's database connections.
        queue_limit: how many jobs of one upstream may run and wait.
    """

    def __init__(self, after_job: Callable[[], None], *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._after_job = after_job
        self._queue_limit = queue_limit
        self._jobs = PerProcess(_Jobs)

    def submit(self, upstream: str, job: Callable[[], None]) -> None:
        """Run a job in the background.

        Args:
            upstream: at most :data:`THREADS_PER_UPSTREAM` jobs of an upstream run at once.
            job: must not raise.

        Raises:
            Saturated: the upstream's queue is full, or no thread can be started.
        """
        jobs = self._jobs()
        with jobs.lock:
            if jobs.unfinished[upstream] >= self._queue_limit:
                raise Saturated(upstream)
            if jobs.threads[upstream] < THREADS_PER_UPSTREAM:
                try:
                    threading.Thread(
                        target=self._work, args=(jobs, upstream), name=f"partium-{upstream}", daemon=True
                    ).start()
                    jobs.threads[upstream] += 1
                except RuntimeError as error:  # the machine's limit, or the interpreter is shutting down
                    if not jobs.threads[upstream]:
                        raise Saturated(upstream) from error
            jobs.waiting[upstream].append(job)
            jobs.unfinished[upstream] += 1

    @property
    def busy(self) -> bool:
        """Whether a thread of this process works."""
        jobs = self._jobs()
        with jobs.lock:
            return any(jobs.threads.values())

    @property
    def queued(self) -> dict[str, int]:
        """How many jobs of each upstream wait for a thread of this process."""
        jobs = self._jobs()
        with jobs.lock:
            return {upstream: len(waiting) for upstream, waiting in jobs.waiting.items() if jobs.unfinished[upstream]}

    def _work(self, jobs: _Jobs, upstream: str) -> None:
        while True:
            with jobs.lock:
                if not jobs.waiting[upstream]:
                    jobs.threads[upstream] -= 1
                    return
                job = jobs.waiting[upstream].popleft()
            try:
                try:
                    job()
                finally:
                    self._after_job()
            except BaseException:
                logger.exception("A job in the background raised what it should have handled.")
            with jobs.lock:
                jobs.unfinished[upstream] -= 1
