"""Work in the background: a few daemon threads per upstream, so that one that hangs does not delay another's."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from partium_auth.host.per_process import PerProcess

logger = logging.getLogger("partium_auth.tokens")

THREADS_PER_LANE = 2
IDLE_SECONDS = 10.0
QUEUE_LIMIT = 10_000


class Saturated(Exception):
    """More jobs wait for one upstream than it makes sense to queue, or there is no thread to be had."""


class _Lane:
    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.threads = 0
        self.unfinished = 0


class _Lanes:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_name: dict[str, _Lane] = {}


class Executor:
    """Runs jobs in threads made when there is work, and ended when there is none. Safe to use before and after a fork.

    Args:
        after_job: called in the thread after each job; closes the thread's database connections.
        queue_limit: how many jobs of a lane may be running and waiting.
    """

    def __init__(self, after_job: Callable[[], None], *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._after_job = after_job
        self._queue_limit = queue_limit
        self._lanes = PerProcess(_Lanes)

    def submit(self, lane_name: str, job: Callable[[], None]) -> None:
        """Run a job in the background.

        Args:
            lane_name: the upstream; at most two jobs of a lane run at once.
            job: must not raise.

        Raises:
            Saturated: the lane's queue is full, or no thread can be started.
        """
        lanes = self._lanes()
        with lanes.lock:
            lane = lanes.by_name.setdefault(lane_name, _Lane())
            if lane.unfinished >= self._queue_limit:
                raise Saturated(lane_name)
            if lane.threads < min(THREADS_PER_LANE, lane.unfinished + 1):
                try:
                    threading.Thread(
                        target=self._work, args=(lanes, lane_name, lane), name=f"partium-{lane_name}", daemon=True
                    ).start()
                    lane.threads += 1
                except RuntimeError as error:  # the machine's limit, or the interpreter is shutting down
                    if not lane.threads:
                        raise Saturated(lane_name) from error
            lane.unfinished += 1
            lane.jobs.put(job)

    def _work(self, lanes: _Lanes, lane_name: str, lane: _Lane) -> None:
        while True:
            try:
                job = lane.jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with lanes.lock:
                    if not lane.jobs.empty():
                        continue
                    lane.threads -= 1
                    if not lane.threads:
                        del lanes.by_name[lane_name]
                    return
            self._run(job)
            del job  # or an idle thread would keep what it has done alive
            with lanes.lock:
                lane.unfinished -= 1

    def _run(self, job: Callable[[], None]) -> None:
        try:
            try:
                job()
            finally:
                self._after_job()
        except BaseException:
            logger.exception("A job in the background raised what it should have handled.")
