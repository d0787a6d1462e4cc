"""The wall clock, kept from running backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

_MAX_CORRECTION_SECONDS = 300.0
# Of the time that passes. A token seems younger by that, a fifth of what the unusable window is.
_CATCH_UP_SHARE = 0.005
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed_clock() -> float:
    """Seconds that also pass while the machine is suspended, where the system has such a clock."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class SteadyClock:
    """Seconds since the epoch. When the wall clock is set back by up to five minutes, this one goes on, a little slower.

    A token's age is measured with it: a clock that steps back by a minute would otherwise make every token seem a minute
    younger than it is. The two come together within a day, or a process that began while the clock was ahead would stay
    ahead of the others. A step of more than five minutes is followed, and tokens then seem to come from the future.
    """

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed_clock) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._last = (wall(), elapsed())

    def __call__(self) -> float:
        wall, elapsed = self._wall(), self._elapsed()
        last, last_elapsed = self._last
        passed = elapsed - last_elapsed
        steady = last + passed
        now = wall
        if wall < steady <= wall + _MAX_CORRECTION_SECONDS:
            now = max(wall, steady - passed * _CATCH_UP_SHARE)
        self._last = (now, elapsed)
        return now
