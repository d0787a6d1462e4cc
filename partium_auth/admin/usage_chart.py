"""The chart of a key's use in the last 30 days."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils import timezone

from partium_auth.host.local_time import local_date
from partium_auth.models import ApiKey, ApiKeyUsage
from partium_auth.models.key_usage import SHOWN_DAYS

HEIGHT = 90
BAR, GAP = 8, 3


@dataclass(frozen=True)
class Bar:
    """One day: its counts, and the bars in pixels. Failures stand on top of searches."""

    day: dt.date
    searches: int
    failures: int
    x: int
    searches_height: int
    failures_height: int

    @property
    def searches_y(self) -> int:
        return HEIGHT - self.searches_height

    @property
    def failures_y(self) -> int:
        return HEIGHT - self.searches_height - self.failures_height


@dataclass(frozen=True)
class Usage:
    """The chart, as the template draws it."""

    bars: list[Bar]
    searches: int
    failures: int
    most: int
    top: int
    since: dt.date
    width: int = SHOWN_DAYS * (BAR + GAP)
    height: int = HEIGHT
    bar: int = BAR

    @property
    def half(self) -> int:
        return self.top // 2

    @property
    def axis(self) -> list[dt.date]:
        return [self.bars[n].day for n in (0, len(self.bars) // 2, -1)]


def usage_of(key: ApiKey) -> Usage:
    """Return the chart of a key's use; one query."""
    first = local_date(timezone.now()) - dt.timedelta(days=SHOWN_DAYS - 1)
    counted = {row.day: row for row in ApiKeyUsage.objects.recent().filter(api_key=key)}
    days = [first + dt.timedelta(days=n) for n in range(SHOWN_DAYS)]
    counts = [(row.searches, row.failures) if (row := counted.get(day)) else (0, 0) for day in days]
    most = max((sum(pair) for pair in counts), default=0)
    step = 10 ** (len(str(most)) - 1)
    top = next(step * n for n in (2, 4, 6, 8, 10) if step * n >= most)  # even, so that its half is a whole number
    bars = [
        Bar(
            day,
            searches,
            failures,
            n * (BAR + GAP),
            _pixels(searches, top),
            _pixels(failures, top),
        )
        for n, (day, (searches, failures)) in enumerate(zip(days, counts, strict=True))
    ]
    since = max(first, local_date(key.created_at))
    return Usage(bars, sum(pair[0] for pair in counts), sum(pair[1] for pair in counts), most, top, since)


def _pixels(count: int, top: int) -> int:
    # At least 2 pixels, so that one failure among thousands is visible.
    return max(2, round(count / top * HEIGHT)) if count else 0
