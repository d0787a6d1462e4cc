"""While an upstream fails, one caller at a time in the whole fleet asks it again, until it answers.

All processes share the row (:class:`~partium_auth.models.Outage`); its times are compared with the database's clock. A process
remembers for a second what it read, so that callers are rejected without a query. While the upstream works there is no row,
and a refresh costs one look-up by primary key.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import IntegrityError, transaction
from django.db.models import F

from partium_auth.exceptions import (
    RateLimited,
    ServiceUnavailable,
    TokenUnavailable,
    UnexpectedResponse,
    UpstreamError,
)
from partium_auth.host.per_process import PerProcess
from partium_auth.models import Outage
from partium_auth.models.database import database_alias
from partium_auth.oidc.errors import RegistrationRefused
from partium_auth.tokens import windows
from partium_auth.tokens.state import Now

logger = logging.getLogger("partium_auth.tokens")

LOOK_SECONDS = 1.0
"""How often one process looks whether an outage is over."""
LONGEST_PAUSE_SECONDS = 2.0
"""The longest time between two probes, unless the upstream itself asks for more with ``Retry-After``."""
UNEXPLAINED_FAILURES = 3
"""So many refused requests in a row that name no reason are taken for an outage: a gateway answers in the upstream's place."""


class UpstreamFails(UpstreamError):
    """Nothing was sent: the upstream fails, and it is not this caller's turn to try it."""

    def __init__(self, upstream: str, retry_after: int) -> None:
        super().__init__(f"{upstream} does not answer at the moment.", retry_after=retry_after, sent=False)


@dataclass
class _Known:
    """What this process knows of a failing upstream."""

    since: float
    look_at: float = 0.0
    retry_at: float = 0.0
    rejected_callers: int = 0


class _Memory:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.failing: dict[str, _Known] = {}
        self.unexplained: dict[str, int] = {}
        self.misconfigured: set[str] = set()


class Outages:
    """What this process knows of failing upstreams, and how it tells the others.

    Args:
        elapsed: seconds that never run backwards.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._memory = PerProcess(_Memory)

    def seconds_to_wait(self, upstream: str) -> int:
        """Return for how many seconds a caller has to wait before it asks an upstream; 0: ask now. Costs no query.

        While an upstream fails, one caller of this process a second is let through, to look whether the outage is over.
        """
        memory = self._memory()
        if upstream not in memory.failing:
            return 0
        with memory.lock:
            known = memory.failing.get(upstream)
            if known is None:
                return 0
            now = self._elapsed()
            if now >= known.look_at:
                known.look_at = now + LOOK_SECONDS
                return 0
            known.rejected_callers += 1
            return max(1, math.ceil(known.retry_at - now))

    def require_turn_if_failing(self, upstream: str) -> None:
        """Like :meth:`require_turn`, but without a query unless this process knows of an outage. Called before a login.

        Raises:
            UpstreamFails: it fails, and another caller of the fleet probes it, or the next probe is not due.
        """
        if seconds := self.seconds_to_wait(upstream):
            raise UpstreamFails(upstream, seconds)
        if upstream in self._memory().failing:
            self.require_turn(upstream)

    def require_turn(self, upstream: str) -> None:
        """Raise unless this caller may send a request to the upstream now.

        Raises:
            UpstreamFails: it fails, and another caller of the fleet probes it, or the next probe is not due.
        """
        rows = Outage.objects.using(database_alias()).filter(pk=upstream)
        row = rows.values_list("next_probe_at", Now()).first()
        if row is None:
            self._forget(upstream)
            return
        next_probe_at, now = row
        # A compare-and-swap: whoever moves the next probe is the one who probes.
        due = rows.filter(next_probe_at=next_probe_at, next_probe_at__lte=Now())
        if due.update(next_probe_at=_in(LONGEST_PAUSE_SECONDS)):
            self._remember(upstream, LONGEST_PAUSE_SECONDS)
            return
        seconds = max(LOOK_SECONDS, (next_probe_at - now).total_seconds())
        self._remember(upstream, seconds)
        raise UpstreamFails(upstream, math.ceil(seconds))

    def give_back_turn(self, upstream: str) -> None:
        """Let somebody else probe at once: whoever had the turn has sent nothing. Does nothing where no outage is known."""
        if upstream in self._memory().failing:
            Outage.objects.using(database_alias()).filter(pk=upstream).update(next_probe_at=_in(0.0))
            self._remember(upstream, 0.0)

    def failed(self, upstream: str, error: UpstreamError) -> bool:
        """Note a failure that says nothing about one credential. Returns whether it is the upstream's.

        Args:
            upstream: which.
            error: what came of the request.
        """
        if isinstance(error, UpstreamFails):
            return True
        memory = self._memory()
        if not _is_outage(error):
            with memory.lock:
                if isinstance(error, RegistrationRefused) and upstream not in memory.misconfigured:
                    memory.misconfigured.add(upstream)
                    logger.error("No login of %s can be refreshed; their refresh tokens are kept. %s", upstream, error)
                memory.unexplained[upstream] = memory.unexplained.get(upstream, 0) + 1
                if memory.unexplained[upstream] < UNEXPLAINED_FAILURES:
                    return False
        rows = Outage.objects.using(database_alias()).filter(pk=upstream)
        failures = rows.values_list("failures", flat=True).first() or 0
        seconds = float(error.retry_after or min(LONGEST_PAUSE_SECONDS, windows.backoff_seconds(failures)))
        if not rows.update(next_probe_at=_in(seconds), failures=F("failures") + 1):
            try:
                with transaction.atomic(using=database_alias()):
                    Outage.objects.using(database_alias()).create(
                        pk=upstream, since=Now(), failures=1, next_probe_at=_in(seconds)
                    )
            except IntegrityError:  # another process noted it at the same moment
                pass
            else:
                logger.warning(
                    "%s fails since now: %s, status %s. One caller tries again every %g s at most; tokens that are still "
                    "valid are served.",
                    upstream,
                    type(error).__name__,
                    error.status,
                    LONGEST_PAUSE_SECONDS,
                )
        self._remember(upstream, seconds)
        return True

    def succeeded(self, upstream: str) -> None:
        """Note an answer that only a working upstream gives: a token, or the refusal of one credential.

        Where the database cannot be asked, the row stays; the next caller finds it there, and probes.
        """
        memory = self._memory()
        memory.unexplained.pop(upstream, None)
        memory.misconfigured.discard(upstream)
        if upstream not in memory.failing:
            return
        rows = Outage.objects.using(database_alias()).filter(pk=upstream)
        try:
            row = rows.values_list("since", Now()).first()
            if row is not None and rows.delete()[0]:
                logger.warning("%s is back after %d s.", upstream, (row[1] - row[0]).total_seconds())
        except AnyDatabaseError as error:
            logger.warning("%s is back, but the database could not be told: %s", upstream, type(error).__name__)
        self._forget(upstream)

    def explain(self, upstream: str, error: TokenUnavailable) -> None:
        """Note on an error whose failure it is: the visitor is told about the provider, or about Partium."""
        error.upstream, error.is_misconfigured = upstream, upstream in self._memory().misconfigured

    def forget(self) -> None:
        """Forget what this process knows; for tests."""
        memory = self._memory()
        with memory.lock:
            memory.failing.clear()
            memory.unexplained.clear()
            memory.misconfigured.clear()

    def _remember(self, upstream: str, seconds: float) -> None:
        memory = self._memory()
        now = self._elapsed()
        with memory.lock:
            known = memory.failing.setdefault(upstream, _Known(since=now))
            known.retry_at = now + seconds
            known.look_at = now + min(seconds, LOOK_SECONDS)

    def _forget(self, upstream: str) -> None:
        memory = self._memory()
        with memory.lock:
            known = memory.failing.pop(upstream, None)
        if known is not None and known.rejected_callers:
            logger.info(
                "%s: %d callers of this process got no token in %d s.",
                upstream,
                known.rejected_callers,
                self._elapsed() - known.since,
            )


def _in(seconds: float) -> Any:
    return Now() + dt.timedelta(seconds=seconds)


def _is_outage(error: UpstreamError) -> bool:
    """Tell whether an error is about everybody who asks this upstream, whatever they ask."""
    if isinstance(error, RateLimited | ServiceUnavailable) or error.status is None or error.status in {408, 429}:
        return True
    return error.status >= 500 or (isinstance(error, UnexpectedResponse) and error.status < 400)
