"""One call and its deadline: a thread shuts the sockets of overdue calls down."""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable

from partium_auth.host.per_process import PerProcess


class Stop(BaseException):
    """Ends a call from inside of urllib3, which catches and retries exceptions, but no BaseException."""


class Call:
    """What one call may still do and what has become of it."""

    def __init__(
        self,
        *,
        endpoint: str,
        total_seconds: float,
        connect_seconds: float,
        read_seconds: float,
        idle_seconds: float,
        before_send: Callable[[], object] | None,
    ) -> None:
        self.endpoint = endpoint
        self.total_seconds = total_seconds
        self.connect_seconds = connect_seconds
        self.read_seconds = read_seconds
        self.idle_seconds = idle_seconds
        self.before_send = before_send
        self.deadline = time.monotonic() + total_seconds
        self.sent = False
        self.reused = False
        self.stale = False
        self.aborted: Exception | None = None
        self.expired = False
        self.finished = False
        self.descriptor: int | None = None  # a duplicate of the socket's; see Watchdog

    def seconds_to_connect(self) -> float:
        """For the next step of connecting."""
        seconds = min(self.connect_seconds, self.deadline - time.monotonic())
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def leave(self) -> None:
        """The connection is there and the request goes out now, unless there is a reason why it may not."""
        if self.before_send is not None:
            try:
                self.before_send()
            except Exception as e:
                self.aborted = e
                raise Stop from e
        if self.expired or time.monotonic() >= self.deadline:
            raise Stop
        self.sent = True


class Watchdog:
    """Shuts the sockets of overdue calls down, from one daemon thread per process, started with the first call.

    It holds a duplicate of a socket's descriptor for the time of the call: wrapping a socket in TLS detaches the
    original, and a number whose socket was closed may meanwhile belong to somebody else's.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def watch(self, call: Call) -> None:
        """Watch a call until :meth:`finish`."""
        with self._changed:
            heapq.heappush(self._calls, (call.deadline, next(self._numbers), call))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="partium_auth deadlines", daemon=True)
                self._thread.start()
            elif self._calls[0][2] is call:
                self._changed.notify()

    def hold(self, call: Call, sock: socket.socket) -> None:
        """This is the socket to shut down; it replaces an earlier one."""
        with self._changed:
            self._let_go(call)
            if call.expired:
                raise Stop
            call.descriptor = socket.dup(sock.fileno())

    def finish(self, call: Call) -> bool:
        """Let go of the call's socket. Returns whether the deadline had passed before."""
        with self._changed:
            call.finished = True
            call.before_send = None
            self._let_go(call)
            return call.expired

    def _let_go(self, call: Call) -> None:
        # Forgotten first: a child that is forked in between may not close a number that is somebody else's by then.
        descriptor, call.descriptor = call.descriptor, None
        if descriptor is not None:
            socket.close(descriptor)

    def _run(self) -> None:
        with self._changed:
            while True:
                while self._calls and (self._calls[0][2].finished or self._calls[0][0] <= time.monotonic()):
                    self._expire(heapq.heappop(self._calls)[2])
                self._changed.wait(self._calls[0][0] - time.monotonic() if self._calls else None)

    def _expire(self, call: Call) -> None:
        if call.finished:
            return
        call.expired = True
        if call.descriptor is not None:
            descriptor, call.descriptor = call.descriptor, None
            try:
                with socket.socket(fileno=descriptor) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster


#: In a forked child the watching thread, the calls and maybe the holder of the lock stayed in the parent.
watchdog = PerProcess(Watchdog)

#: The calling thread's call: urllib3 has no way to hand it through to a connection.
current = threading.local()


def current_call() -> Call:
    call: Call = current.call
    return call
