"""CPU time of a request, of several kinds, side by side: rounds of each in turn, so that a busy machine is as hard on all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.core.handlers.wsgi import WSGIHandler

from benchmarks import others, settings
from benchmarks.people import Browser, handler, log_in
from partium_auth.partium.token_response import TokenResponse

A_DAY = 86_400


@dataclass
class Kind:
    """One kind of request, and what its rounds took."""

    name: str
    aim: float | None
    browsers: list[Browser]
    seconds: list[float]
    elapsed: list[float] = field(default_factory=list)

    def run(self, requests: int) -> None:
        """Measure one round."""
        browsers = [self.browsers[n % len(self.browsers)] for n in range(requests)]
        started_at, elapsed_at = time.process_time(), time.perf_counter()
        for browser in browsers:
            browser.get()
        self.seconds.append((time.process_time() - started_at) / requests)
        self.elapsed.append((time.perf_counter() - elapsed_at) / requests)


def measure(rounds: int, requests: int, sessions: int, say: Callable[[str], None]) -> None:
    """Print the table.

    Args:
        rounds: how many of each kind; the median counts.
        sessions: how many different people's.
    """
    people = [log_in(f"person-{n}", TokenResponse("a" * 43, "r" * 43, A_DAY))[0] for n in range(sessions)]
    others.store_tokens()
    bare, full = handler(settings.BARE_MIDDLEWARE), handler(settings.PARTIUM_MIDDLEWARE)

    def kind(name: str, aim: float | None, path: str, app: WSGIHandler = full) -> Kind:
        return Kind(name, aim, [Browser(app, path, key) for key in people], [])

    kinds = [
        kind("bare logged-in request", None, "/untouched/", bare),
        kind("token not touched", 1.01, "/untouched/"),
        kind("token read, one query", 1.20, "/token/"),
        kind("  to compare: one SELECT 1", None, "/one_select/", bare),
        kind("  to compare: one .get() of a row", None, "/one_row/", bare),
        *(kind(f"  {name}", None, f"/{view.__name__}/", bare) for name, view in others.VIEWS.items()),
    ]
    for one in kinds:
        one.run(max(requests, 2 * sessions))
        one.seconds.clear()
        one.elapsed.clear()
    gc.collect()
    for number in range(rounds):
        # Each kind is first, second, … equally often: the one after another may find the machine's caches warm.
        for position in range(len(kinds)):
            kinds[(number + position) % len(kinds)].run(requests)
        gc.collect()
    say(f"{'CPU per request':32} {'median':>9} {'ratio':>7} {'aim':>7} {'elapsed':>11} {'ratio':>7}")
    base = kinds[0].seconds
    for one in kinds:
        median = statistics.median(one.seconds)
        ratio = statistics.median(mine / bare for mine, bare in zip(one.seconds, base, strict=True))
        aim = "" if one.aim is None else f"≤ {one.aim:.2f}"
        elapsed = statistics.median(one.elapsed)
        slower = statistics.median(mine / bare for mine, bare in zip(one.elapsed, kinds[0].elapsed, strict=True))
        say(f"{one.name:32} {median * 1e6:6.1f} µs {ratio:7.3f} {aim:>7} {elapsed * 1e6:8.1f} µs {slower:7.3f}")
