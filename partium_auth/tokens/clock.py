"""The wall clock, kept from running backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

_MAX_CORRECTION_SECONDS = 300.0
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed_clock() -> float:
    """Seconds that also pass while the machine is suspended, where the system has such a clock."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class SteadyClock:
    """Seconds since the epoch. When the wall clock is set back, this one goes on for up to five minutes of difference.

    A token's age is measured with it: a clock that steps back by a minute would otherwise make every token seem a minute
    younger than it is. A step of more than five minutes is followed, and tokens then seem to come from the future.
    """

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed_clock) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._last = (wall(), elapsed())

    def __call__(self) -> float:
        wall, elapsed = self._wall(), self._elapsed()
        last_wall, last_elapsed = self._last
        steady = last_wall + (elapsed - last_elapsed)
        if wall < steady <= wall + _MAX_CORRECTION_SECONDS:
            return steady
        self._last = (wall, elapsed)
        return wall
