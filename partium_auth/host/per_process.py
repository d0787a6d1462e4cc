"""What belongs to one process: threads and locks do not survive a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that every process makes for itself when it first asks.

    A server's master may have used the app before it forked its workers. What it made there is left alone in the child:
    its threads are gone, and one of them may have held a lock. Told by the process id, since not every server that
    forks (uWSGI) runs Python's own hooks for it.

    Args:
        make: makes the value. Two threads may both be first; one value is kept.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def __call__(self) -> T:
        pid = os.getpid()
        value = self._values.get(pid)
        return self._values.setdefault(pid, self._make()) if value is None else value
