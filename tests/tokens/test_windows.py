"""The windows of a token's life: pure, so tried with every lifetime and clock there can be."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from partium_auth.tokens.windows import (
    CLOCK_TOLERANCE_SECONDS,
    Window,
    backoff_seconds,
    jitter_of,
    thresholds,
    window,
)

LIFETIMES = st.floats(1, 30 * 86400)
JITTERS = st.floats(0, 1)
ORDER = [Window.FRESH, Window.ADVISORY, Window.MANDATORY, Window.UNUSABLE]


def test_a_token_of_600_seconds_has_the_documented_windows() -> None:
    limits = thresholds(600)
    assert (limits.advisory_seconds, limits.mandatory_seconds, limits.unusable_seconds) == (240, 60, 15)
    assert thresholds(600, jitter=1.0).advisory_seconds == 180
    assert thresholds(60, jitter=1.0).advisory_seconds == 18
    assert thresholds(86_400, jitter=1.0).advisory_seconds == 840
    assert window(600, 0) is Window.FRESH
    assert window(600, 359) is Window.FRESH
    assert window(600, 360) is Window.ADVISORY
    assert window(600, 540) is Window.MANDATORY
    assert window(600, 585) is Window.UNUSABLE


def test_a_short_token_keeps_two_seconds_and_a_long_one_thirty() -> None:
    assert thresholds(30).unusable_seconds == 2
    day = thresholds(86_400)
    assert (day.advisory_seconds, day.mandatory_seconds, day.unusable_seconds) == (900, 300, 30)


@given(LIFETIMES, JITTERS)
def test_the_thresholds_are_in_order(lifetime: float, jitter: float) -> None:
    limits = thresholds(lifetime, jitter)
    assert limits.advisory_seconds >= limits.mandatory_seconds >= limits.unusable_seconds >= 2


@given(LIFETIMES, st.floats(-1e9, 1e9), JITTERS)
def test_what_is_served_has_at_least_two_seconds_left(lifetime: float, age: float, jitter: float) -> None:
    if window(lifetime, age, jitter) is not Window.UNUSABLE:
        assert lifetime - age > 2


@given(LIFETIMES, st.floats(0, 31 * 86400), st.floats(0, 3600), JITTERS)
def test_a_token_never_gets_younger(lifetime: float, age: float, later: float, jitter: float) -> None:
    before, after = window(lifetime, age, jitter), window(lifetime, age + later, jitter)
    assert ORDER.index(after) >= ORDER.index(before)


@given(LIFETIMES, st.floats(CLOCK_TOLERANCE_SECONDS + 0.001, 1e9))
def test_a_token_from_the_future_is_not_served(lifetime: float, ahead: float) -> None:
    assert window(lifetime, -ahead) is Window.UNUSABLE


def test_another_machines_clock_may_be_a_minute_ahead() -> None:
    assert window(600, -60) is Window.FRESH
    assert window(600, -61) is Window.UNUSABLE
    assert window(3, 0) is Window.FRESH
    assert window(2, -10) is Window.UNUSABLE  # but a token has no more to live for it


@given(st.uuids(), st.integers(0, 2**40))
def test_jitter_is_between_zero_and_one_and_always_the_same(grant_id: uuid.UUID, generation: int) -> None:
    assert 0 <= jitter_of(grant_id.int, generation) <= 1
    assert jitter_of(grant_id.int, generation) == jitter_of(grant_id.int, generation)


def test_jitter_spreads_a_thousand_grants_over_fifty_seconds() -> None:
    starts = sorted(thresholds(600, jitter_of(uuid.uuid4().int, 1)).advisory_seconds for _ in range(1000))
    assert starts[-1] - starts[0] >= 50
    assert max(sum(1 for start in starts if low <= start < low + 5) for low in range(180, 240, 5)) < 200


def test_backoff_grows_to_half_a_minute() -> None:
    assert [backoff_seconds(n, max) for n in (0, 1, 4, 5, 10_000)] == [1, 2, 16, 30, 30]
    assert [backoff_seconds(n, min) for n in (0, 10_000)] == [0.5, 0.5]
    assert len({backoff_seconds(5) for _ in range(10)}) > 1
