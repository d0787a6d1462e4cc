"""How many callers of a process may hold a thread of the site while they wait for an upstream: ``PARTIUM_MAX_WAITING``.

Without the setting it is three quarters of the threads that have served requests in this process and still live, so that there
is always one for pages that need no token. Servers do not tell how many threads they have, and start them when they are needed.
"""

from __future__ import annotations

import threading
import weakref

from asgiref.sync import SyncToAsync

from partium_auth.conf import conf

ASYNC_FACTOR = 50
"""So many times as many callers may wait that hold no thread of a server: they wait on the event loop, or Django made a thread
for their request alone (ASGI)."""
FEWEST = 2
"""So many may wait where fewer threads were seen."""


class _Mark:
    """Lives as long as the thread that it belongs to."""


class WaitingCallers:
    """Counts the threads that serve requests, and the callers that wait, in one process. Logins wait for an upstream, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_thread = threading.local()
        self._marks: weakref.WeakSet[_Mark] = weakref.WeakSet()
        self._waiting = {True: 0, False: 0}

    def note_thread(self) -> None:
        """Note that the calling thread serves requests."""
        if not hasattr(self._of_thread, "mark"):
            with self._lock:
                self._of_thread.mark = mark = _Mark()
                self._marks.add(mark)

    @property
    def limit(self) -> int:
        """How many may hold a thread at once."""
        if conf.max_waiting is not None:
            return conf.max_waiting
        seen = len(self._marks)
        return max(FEWEST, seen - max(1, seen // 4))

    def take(self, *, holds_thread: bool) -> bool:
        """Count a caller, if there is room for it; return whether there is."""
        if holds_thread:
            self.note_thread()
        with self._lock:
            limit = self.limit if holds_thread else ASYNC_FACTOR * (conf.max_waiting or FEWEST)
            has_room = self._waiting[holds_thread] < limit
            self._waiting[holds_thread] += has_room
            return has_room

    def give_back(self, *, holds_thread: bool) -> None:
        """Count a caller no more."""
        with self._lock:
            self._waiting[holds_thread] -= 1

    @property
    def total(self) -> int:
        """How many callers wait."""
        return sum(self._waiting.values())


def holds_server_thread() -> bool:
    """Whether the calling thread serves other requests, too. Under ASGI, Django makes a thread for each request."""
    return SyncToAsync.thread_sensitive_context.get(None) is None
