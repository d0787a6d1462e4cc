"""The total deadline of a call, kept by its socket.

The time-outs of ``requests`` and ``http.client`` are per system call, so an upstream that sends one byte a second holds a
thread for as long as it likes. Here the time-out is set to what is left of the deadline before every system call.
"""

from __future__ import annotations

import io
import math
import socket
import time
from typing import Any


class Deadline:
    """When a call has to be over, by the monotonic clock."""

    def __init__(self, total_seconds: float) -> None:
        self.total_seconds = total_seconds
        self._end = time.monotonic() + total_seconds

    def left(self, at_most: float = math.inf) -> float:
        """Return how many seconds the next step may take; raises TimeoutError after the deadline."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return min(seconds, at_most)


class DeadlineSocket(io.RawIOBase):
    """The part of a socket that ``http.client`` uses, with one deadline for all of its system calls together.

    Args:
        sock: connected; with TLS where that is wanted. Whoever opened it closes it.
        read_seconds: how long the upstream may stay silent.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline, read_seconds: float) -> None:
        self.deadline = deadline
        self.has_ended = False
        self._sock = sock
        self._read_seconds = read_seconds

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        view = memoryview(data)
        while view:
            self._sock.settimeout(self.deadline.left())
            view = view[self._sock.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what ``http.client`` reads a response from."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self.deadline.left(self._read_seconds))
        count = self._sock.recv_into(buffer)
        self.has_ended = count == 0
        return count

    def close(self) -> None:
        """Do nothing: ``http.client`` closes its socket before it has read the body."""
