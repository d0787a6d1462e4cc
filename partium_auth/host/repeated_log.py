"""Log lines that come with every request while something is wrong: the first one, and then one a minute with their number."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from partium_auth.host.per_process import PerProcess

INTERVAL_SECONDS = 60.0
_REMEMBERED = 200


class _Lines:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.next_at: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()


class RepeatedLog:
    """Writes a line at most once in :data:`INTERVAL_SECONDS` in one process.

    Args:
        logger: writes the lines.
        clock: seconds that never run backwards.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lines = PerProcess(_Lines)

    def write(self, level: int, key: Hashable, message: str, *args: object) -> None:
        """Write a line, or count it; lines with the same key are counted together."""
        lines, now = self._lines(), self._clock()
        with lines.lock:
            next_at, left_out = lines.next_at.pop(key, (now, 0))
            is_due = now >= next_at
            lines.next_at[key] = (now + INTERVAL_SECONDS, 0) if is_due else (next_at, left_out + 1)
            if len(lines.next_at) > _REMEMBERED:
                lines.next_at.popitem(last=False)
        if is_due:
            self._logger.log(level, message, *args)
            if left_out:
                self._logger.log(level, "The line before stands for %d more since the last such line.", left_out)

    def forget(self) -> None:
        """Write the next line of each kind; for tests."""
        self._lines().next_at.clear()
