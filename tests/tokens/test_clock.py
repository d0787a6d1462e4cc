"""Clocks that differ, jump and step back, and upstreams that take their time: never a token that has expired."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partium_auth.exceptions import TokenUnavailable
from partium_auth.models import Grant
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import access, sources
from partium_auth.tokens.clock import SteadyClock
from partium_auth.tokens.manager import TokenManager
from partium_auth.tokens.windows import CLOCK_TOLERANCE_SECONDS, Window, window
from tests.tokens.conftest import MovableClock, age, eventually, read

MakeGrant = Callable[[], Grant]
database = pytest.mark.django_db(transaction=True)


class Hands:
    """A wall clock that is set, and the time that really passes."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.elapsed = 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.elapsed)


def test_a_steady_clock_goes_with_the_wall_clock_and_not_back_with_it() -> None:
    # Provided by "steady" in SteadyClock.__call__().
    hands = Hands()
    clock = hands.clock()
    hands.pass_(10)
    assert clock() == 1_000_010
    hands.wall -= 60
    assert clock() == 1_000_010
    hands.pass_(5)
    assert clock() == pytest.approx(1_000_015, abs=0.1)
    hands.wall += 100  # set right again, and further
    assert clock() == hands.wall
    hands.wall -= 3600  # too much to be a correction: what it was before was wrong
    assert clock() == hands.wall


def test_a_clock_that_began_ahead_comes_back_to_the_others_within_a_day() -> None:
    # Provided by _CATCH_UP_SHARE: what it issues would seem to come from the future for ever, and be renewed by everybody.
    hands = Hands()
    hands.wall += 200
    clock = hands.clock()
    hands.wall -= 200
    before = clock()
    assert before == hands.wall + 200
    for _ in range(24):
        hands.pass_(3600)
        # Meanwhile nothing seems much younger than it is: the unusable window is 2.5 % of a lifetime.
        assert clock() - before >= 3600 * 0.99
        before = clock()
    assert clock() == hands.wall


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-300, 0)), max_size=20))
def test_a_steady_clock_never_runs_backwards_for_small_corrections(steps: list[tuple[float, float]]) -> None:
    hands = Hands()
    clock = hands.clock()
    before, back = clock(), 0.0
    for passed, set_back in steps:
        hands.pass_(passed)
        if back + set_back > -299:
            back += set_back
            hands.wall += set_back
        now = clock()
        assert now >= before + 0.99 * passed - 1e-6
        before = now


@given(
    lifetime=st.just(400.0) | st.floats(400, 30 * 86400),
    expired_for=st.floats(0.001, 30),
    skew=st.floats(-CLOCK_TOLERANCE_SECONDS, CLOCK_TOLERANCE_SECONDS),
)
def test_a_machine_whose_clock_is_ten_seconds_off_serves_nothing_that_has_expired(
    lifetime: float, expired_for: float, skew: float
) -> None:
    # Provided by the unusable window: from 400 s of lifetime it is as wide as the clocks may differ.
    assert window(lifetime, lifetime + expired_for + skew) is Window.UNUSABLE


@database
def test_the_upstreams_clock_does_not_matter(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    for offset_seconds in (-3600, -10, 10, 3600):
        partium_sandbox.settings(clock_offset_seconds=offset_seconds, token_format="jwt")
        grant = password_grant()
        assert token_manager.obtain(read(grant)).generation == 1
        assert token_manager.obtain(age(grant, 0)).generation == 2


@database
def test_a_token_is_as_old_as_its_request_not_as_its_answer(
    clock: MovableClock, token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Provided by issued_at in Refresher.renew(), which is taken before sources.exchange().
    grant = password_grant()
    seen = age(grant, 30)
    sent_at = clock()
    with partium_sandbox.hang("refresh") as hang:
        waiting = threading.Thread(target=token_manager.obtain, args=(seen,))
        waiting.start()
        hang.wait_until_met()
        clock.advance(7)
    waiting.join(30)
    eventually(lambda: read(grant).generation == 2)
    grant.refresh_from_db()
    assert grant.issued_at is not None
    assert grant.issued_at < sent_at + 3


@pytest.fixture
def slow(clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have every exchange take so many seconds."""
    exchange = sources.exchange

    def take(seconds: float) -> None:
        def slowly(*args: object) -> object:
            tokens = exchange(*args)  # type: ignore[arg-type]
            clock.advance(seconds)
            return tokens

        monkeypatch.setattr(sources, "exchange", slowly)

    return take


@database
def test_an_answer_that_takes_longer_than_its_token_lives_is_not_served(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    slow: Callable[[float], None],
) -> None:
    slow(7)
    grant = password_grant()
    partium_sandbox.settings(lifetime_seconds=8)
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    assert partium_sandbox.count(endpoint="refresh") == 1


@database
def test_an_answer_that_takes_most_of_its_tokens_life_is_served_and_not_asked_for_again(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    slow: Callable[[float], None],
) -> None:
    # Provided by "waited" in TokenManager._course().
    slow(27.5)
    grant = password_grant()
    partium_sandbox.settings(lifetime_seconds=30)
    assert token_manager.obtain(age(grant, 0)).generation == 2
    assert partium_sandbox.count(endpoint="refresh") == 1


@database
def test_a_clock_that_is_set_back_by_hours_has_every_token_renewed(
    clock: MovableClock, token_manager: TokenManager, password_grant: MakeGrant
) -> None:
    # Provided by CLOCK_TOLERANCE_SECONDS in windows.window(): a token from the future is of unknown age.
    grant = password_grant()
    clock.advance(-3600)
    assert token_manager.obtain(read(grant)).generation == 2
    assert token_manager.obtain(read(grant)).generation == 2


@pytest.mark.parametrize(
    ("end", "minutes"),
    [("2026-10-25 03:10", 75), ("2026-10-25 02:50", -5), ("2026-03-29 03:10", None)],
    ids=["after the hour that comes twice", "in it", "after the hour that is left out"],
)
def test_a_keys_end_without_use_tz_is_right_in_the_nights_when_the_clocks_change(end: str, minutes: int | None) -> None:
    # Provided by the comparison of moments, not of local times, in access._seconds_to().
    vienna = ZoneInfo("Europe/Vienna")
    now = dt.datetime(2026, 10, 25, 0, 55, tzinfo=dt.UTC)  # 02:55 for the first time
    if minutes is None:
        now, minutes = dt.datetime(2026, 3, 29, 0, 55, tzinfo=dt.UTC), 15  # 01:55
    assert access._seconds_to(end, vienna, now) == 60 * minutes
