"""How many threads of the site may be held by an upstream at once: ``PARTIUM_MAX_WAITING`` in a process.

Without the setting it is three quarters of the threads that have served requests in this process and still live, so that there
is always one for pages that need no upstream. Servers do not tell how many threads they have, and start them when they are needed.

Callers that wait for a token and logins take a place first. Searches and all other calls take one when they turn out to be slow:
a busy site whose upstream answers quickly has nobody turned away.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from asgiref.sync import SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from partium_auth.conf import conf
from partium_auth.exceptions import UpstreamError
from partium_auth.host.per_process import PerProcess

ASYNC_FACTOR = 50
"""So many times as many callers may wait that hold no thread of a server: they wait on the event loop, or Django made a thread
for their request alone (ASGI)."""
FEWEST = 2
"""So many may wait where fewer threads were seen."""
SLOW_SECONDS = 2.0
"""A call that lasts longer takes a place. One for which there is no place may last so long."""
SLOW_HOST_SECONDS = 5.0
"""For so long after a slow call, a call to the same host for which there is no place is not made."""


class TooManyCalls(UpstreamError):
    """Nothing was sent: the upstream is slow, and holds as many of this process's threads as it may."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} answers slowly, and as many requests of this process as PARTIUM_MAX_WAITING allows wait for it already.",
            retry_after=2,
            sent=False,
        )


class _Mark:
    """Lives as long as the thread that it belongs to."""


class WaitingCallers:
    """Counts the threads that serve requests, and the callers that wait, in one process. Logins wait for an upstream, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_thread = threading.local()
        self._marks: weakref.WeakSet[_Mark] = weakref.WeakSet()
        self._waiting = {True: 0, False: 0}
        self._calls: dict[object, tuple[str, float]] = {}  # by threads of the server: whom they ask, and since when
        self._slow_until: dict[str, float] = {}  # by host

    def note_thread(self) -> None:
        """Note that the calling thread serves requests."""
        self._of_thread.serves_requests = True
        self._count_thread()

    def _count_thread(self) -> None:
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
            self._count_thread()
        with self._lock:
            limit = self.limit if holds_thread else ASYNC_FACTOR * (conf.max_waiting or FEWEST)
            has_room = self._waiting[holds_thread] + (len(self._slow_hosts()) if holds_thread else 0) < limit
            self._waiting[holds_thread] += has_room
            self._of_thread.has_place = holds_thread and has_room
            return has_room

    def give_back(self, *, holds_thread: bool) -> None:
        """Count a caller no more."""
        self._of_thread.has_place = False
        with self._lock:
            self._waiting[holds_thread] -= 1

    @contextmanager
    def call(self, host: str, seconds: float) -> Iterator[float]:
        """Count a call to an upstream while it lasts; return how many seconds it may take.

        Only in a thread that serves requests and has no place yet: nobody else keeps a page waiting.

        Args:
            host: whom it asks.
            seconds: how many it would like to take.

        Raises:
            TooManyCalls: there is no place, and the host is slow.
        """
        of_thread = self._of_thread.__dict__
        if not of_thread.get("serves_requests") or of_thread.get("has_place") or not holds_server_thread():
            yield seconds
            return
        this_call, began_at = object(), time.monotonic()
        with self._lock:
            if self._waiting[True] + len(self._calls) >= self.limit:
                if began_at < self._slow_until.get(host, 0.0) or host in self._slow_hosts():
                    raise TooManyCalls(host)
                seconds = min(seconds, SLOW_SECONDS)
            self._calls[this_call] = host, began_at
        try:
            yield seconds
        finally:
            now = time.monotonic()
            with self._lock:
                del self._calls[this_call]
                if now - began_at >= SLOW_SECONDS:
                    self._slow_until = {name: until for name, until in self._slow_until.items() if until > now}
                    self._slow_until[host] = now + SLOW_HOST_SECONDS

    def _slow_hosts(self) -> list[str]:
        """Return the host of each call that has lasted for long already."""
        now = time.monotonic()
        return [host for host, began_at in self._calls.values() if now - began_at >= SLOW_SECONDS]

    @property
    def total(self) -> int:
        """How many callers wait."""
        return sum(self._waiting.values())

    def forget(self) -> None:
        """Forget which hosts are slow, and which threads serve requests; for tests."""
        self._slow_until = {}
        self._of_thread = threading.local()


def holds_server_thread() -> bool:
    """Whether the calling thread serves other requests, too. Under ASGI, Django makes a thread for each request."""
    return SyncToAsync.thread_sensitive_context.get(None) is None


def has_pool(connection: BaseDatabaseWrapper) -> bool:
    """Whether Django takes the connection from a pool (``OPTIONS["pool"]``)."""
    return bool(connection.settings_dict.get("OPTIONS", {}).get("pool"))


def return_connections_to_pools() -> None:
    """Let others use this thread's pooled connections while it waits: the refresh it waits for needs one of them."""
    for connection in connections.all(initialized_only=True):
        if has_pool(connection) and not connection.in_atomic_block:
            connection.close()


waiting_callers = PerProcess(WaitingCallers)
"""Those of this process."""
