"""The windows of an access token's life, as pure functions: no clock, no I/O, no Django.

A token of lifetime L is *fresh*, then *advisory* (serve it, refresh in the background), then *mandatory* (wait briefly for the
refresh; if it fails, serve the old token), then *unusable* (not served any more, though it has not quite expired).
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

CLOCK_TOLERANCE_SECONDS = 60.0
"""A token that seems to come from the future by up to this counts as issued now; beyond that it is refreshed."""

_ALL_BITS = 2**128 - 1
_GOLDEN = 0x9E3779B97F4A7C15F39CC0605CEDC835  # 2**128 divided by the golden ratio


class Window(enum.StrEnum):
    """Where in its life a token is."""

    FRESH = "fresh"
    ADVISORY = "advisory"
    MANDATORY = "mandatory"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How much has to be left of a token, in seconds, for each window to begin."""

    advisory_seconds: float
    mandatory_seconds: float
    unusable_seconds: float


@lru_cache(maxsize=4096)
def thresholds(lifetime_seconds: float, jitter: float = 0.0) -> Thresholds:
    """Return the thresholds for a lifetime: 40, 10 and 2.5 % of it, at most 900, 300 and 30 s, the last at least 2 s.

    Args:
        lifetime_seconds: how long the token lives in all.
        jitter: 0.0–1.0; shortens the fresh window's threshold by up to 10 % of the lifetime, at most 60 s, so that tokens
            that were issued together are not refreshed together.
    """
    unusable = max(2.0, min(0.025 * lifetime_seconds, 30.0))
    mandatory = max(unusable, min(0.1 * lifetime_seconds, 300.0))
    advisory = min(0.4 * lifetime_seconds, 900.0) - jitter * min(0.1 * lifetime_seconds, 60.0)
    return Thresholds(max(mandatory, advisory), mandatory, unusable)


def window(lifetime_seconds: float, age_seconds: float, jitter: float = 0.0) -> Window:
    """Return the window a token is in.

    Args:
        lifetime_seconds: how long the token lives in all.
        age_seconds: time since just before it was asked for. A little less than zero is another machine's clock; much
            less means that a clock was set back, and the token's true age is unknown: it is not served.
        jitter: see :func:`thresholds`.
    """
    if age_seconds < -CLOCK_TOLERANCE_SECONDS:
        return Window.UNUSABLE
    left = lifetime_seconds - max(0.0, age_seconds)
    limits = thresholds(lifetime_seconds, jitter)
    if left <= limits.unusable_seconds:
        return Window.UNUSABLE
    if left <= limits.mandatory_seconds:
        return Window.MANDATORY
    if left <= limits.advisory_seconds:
        return Window.ADVISORY
    return Window.FRESH


def jitter_of(grant_id: int, generation: int) -> float:
    """Return a grant's jitter for one generation, 0.0–1.0: the same in every process, spread evenly over grants.

    Args:
        grant_id: the 128 bits of its UUID, which are random.
        generation: each one moves on by the golden ratio, so that a grant's jitter is another one every time.
    """
    return (grant_id + generation * _GOLDEN & _ALL_BITS) / _ALL_BITS


def backoff_seconds(failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Return a random wait after this many failures in a row: from 0.5 s to 1, 2, 4 … 30 s.

    Args:
        failures: before this one.
        uniform: draws a number between two.
    """
    return uniform(0.5, min(30.0, 2.0 ** min(failures, 5)))
