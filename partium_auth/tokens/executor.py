"""Background renewals: a few daemon threads per upstream, so that one that hangs does not delay another's."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("partium_auth.tokens")

THREADS_PER_LANE = 2
IDLE_SECONDS = 10.0
QUEUE_LIMIT = 10_000


class Saturated(Exception):
    """More renewals are waiting for one upstream than it makes sense to queue."""


class _Lane:
    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.threads = 0
        self.idle = 0


class Executor:
    """Runs jobs in threads made when there is work, and ended when there is none. Safe to use before and after a fork.

    Args:
        after_job: called in the thread after each job; closes the thread's database connections.
    """

    def __init__(self, after_job: Callable[[], None]) -> None:
        self._after_job = after_job
        self._reset()

    def _reset(self) -> None:
        # Threads do not survive a fork, and a lock may have been held by one of them.
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane] = {}

    def submit(self, lane_name: str, job: Callable[[], None]) -> None:
        """Run a job in the background.

        Args:
            lane_name: the upstream; at most two jobs of a lane run at once.
            job: must not raise.

        Raises:
            Saturated: the lane's queue is full.
        """
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            lane = self._lanes.setdefault(lane_name, _Lane())
            if lane.jobs.qsize() >= QUEUE_LIMIT:
                raise Saturated(lane_name)
            lane.jobs.put(job)
            if lane.idle < lane.jobs.qsize() and lane.threads < THREADS_PER_LANE:
                lane.threads += 1
                threading.Thread(
                    target=self._work, args=(lane_name, lane), name=f"partium-{lane_name}", daemon=True
                ).start()

    def _work(self, lane_name: str, lane: _Lane) -> None:
        while True:
            with self._lock:
                lane.idle += 1
            try:
                job = lane.jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                job = None
            with self._lock:
                lane.idle -= 1
                if job is None:
                    if not lane.jobs.empty():
                        continue
                    lane.threads -= 1
                    if not lane.threads:
                        self._lanes.pop(lane_name, None)
                    return
            try:
                job()
            except BaseException:
                logger.exception("A renewal raised what it should have handled.")
            finally:
                self._after_job()
