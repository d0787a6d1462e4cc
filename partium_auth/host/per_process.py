"""Values that belong to one process, because threads and locks do not survive a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that every process makes for itself on first use.

    A server may fork its workers after the app was used. A child must not use its parent's value: the threads are gone, and
    one of them may have held a lock. The process id is compared, because uWSGI forks without running Python's fork hooks.

    Args:
        make: makes the value. If two threads call it at once, both get the same one of the two values.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def __call__(self) -> T:
        pid = os.getpid()
        value = self._values.get(pid)
        return self._values.setdefault(pid, self._make()) if value is None else value
