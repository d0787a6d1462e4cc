"""Work that nobody waits for: one daemon thread per process, and a bound on what waits for it."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections.abc import Callable

from django.db import connections

from partium_auth.host.per_process import PerProcess
from partium_auth.host.repeated_log import RepeatedLog

logger = logging.getLogger("partium_auth.background")

MAX_WAITING = 500
EXIT_SECONDS = 2.0
"""How long the end of a process, such as a job's, waits for what has not been done yet."""


class _Worker:
    def __init__(self) -> None:
        self.waiting: queue.Queue[Callable[[], None]] = queue.Queue(MAX_WAITING)
        self.log = RepeatedLog(logger)
        threading.Thread(target=self._work, name="partium-background", daemon=True).start()
        atexit.register(self._finish)

    def _work(self) -> None:
        while True:
            do = self.waiting.get()
            try:
                do()
            except Exception:  # a defect must not end the thread
                logger.exception("Background work failed.")
            finally:
                if self.waiting.empty():
                    connections.close_all()  # this thread's own: an idle guest holds none
                self.waiting.task_done()

    def _finish(self) -> None:
        with self.waiting.all_tasks_done:
            self.waiting.all_tasks_done.wait_for(lambda: not self.waiting.unfinished_tasks, EXIT_SECONDS)


_worker = PerProcess(_Worker)


def run_later(do: Callable[[], None]) -> None:
    """Do something in the background; where too much waits already, log that it is not done."""
    worker = _worker()
    try:
        worker.waiting.put_nowait(do)
    except queue.Full:
        worker.log.write(logging.WARNING, "full", "%s events wait to be sent already; one is dropped.", MAX_WAITING)
