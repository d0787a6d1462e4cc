"""How many callers of a process may wait for a token at once: ``PARTIUM_MAX_WAITING``."""

from __future__ import annotations

import threading

from partium_auth.conf import conf

ASYNC_FACTOR = 50
"""So many times as many async callers may wait: they wait on the event loop and hold no thread."""


class WaitingCallers:
    """Counts the callers of one process that wait for a token."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._async = 0

    def take(self, *, is_async: bool) -> bool:
        """Count a caller, if there is room for it; return whether there is."""
        with self._lock:
            if is_async:
                has_room = self._async < ASYNC_FACTOR * conf.max_waiting
                self._async += has_room
            else:
                has_room = self._threads < conf.max_waiting
                self._threads += has_room
            return has_room

    def give_back(self, *, is_async: bool) -> None:
        """Count a caller no more."""
        with self._lock:
            if is_async:
                self._async -= 1
            else:
                self._threads -= 1

    @property
    def total(self) -> int:
        """How many callers wait."""
        return self._threads + self._async
