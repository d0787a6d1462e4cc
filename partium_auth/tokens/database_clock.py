"""The database's clock, as this process knows it: all machines judge the age of a token by it, whatever their own clocks say.

Every read of a grant returns the database's time as well; the difference to this machine's clock is remembered.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.db import connections
from django.db.models import FloatField, Func

from partium_auth.models.database import database_alias

logger = logging.getLogger("partium_auth.tokens")

NEGLIGIBLE_SECONDS = 1.0
"""A smaller difference may be the time that the answer took."""
WARNING_SECONDS = 5.0
"""From this difference on it is worth a warning."""


class SecondsNow(Func):
    """The database's clock in seconds since the epoch, as a float."""

    template = "NULL"  # third-party database backends
    output_field = FloatField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP())::double precision"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(julianday('now') - 2440587.5) * 86400.0", **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"
        return self.as_sql(compiler, connection, template=template, **context)


class DatabaseClock:
    """Seconds since the epoch by the database's clock; by this machine's until the database was asked for the first time."""

    def __init__(self) -> None:
        self._ahead_seconds: float | None = None  # by how much the database's clock is ahead of ours
        self._has_warned = False

    def __call__(self) -> float:
        return self.from_local(time.time())

    def from_local(self, seconds: float) -> float:
        """Return what the database's clock shows when this machine's shows ``seconds``."""
        return seconds + (self._ahead_seconds or 0.0)

    def to_local(self, seconds: float) -> float:
        """Return what this machine's clock shows when the database's shows ``seconds``."""
        return seconds - (self._ahead_seconds or 0.0)

    def note(self, database_seconds: float | None, asked_at: float) -> None:
        """Note what the database's clock shows now.

        Args:
            asked_at: this machine's clock just before it asked.
        """
        now = time.time()
        if database_seconds is None or not 0.0 <= now - asked_at <= NEGLIGIBLE_SECONDS:
            return  # outdated: this process was stopped, or its clock was set, since the database answered
        ahead_seconds = database_seconds - now
        self._ahead_seconds = ahead_seconds if abs(ahead_seconds) > NEGLIGIBLE_SECONDS else 0.0
        is_far_off = abs(ahead_seconds) > WARNING_SECONDS
        if is_far_off and not self._has_warned:
            logger.warning(
                "This machine's clock is %.0f s %s the database's. Tokens are judged by the database's clock; synchronize the "
                "clocks (NTP).",
                abs(ahead_seconds),
                "behind" if ahead_seconds > 0 else "ahead of",
            )
        self._has_warned = is_far_off

    def look(self) -> None:
        """Ask the database what its clock shows, unless this process knows it."""
        if self._ahead_seconds is not None:
            return
        connection, now = connections[database_alias()], SecondsNow()
        compile_for: Any = getattr(now, f"as_{connection.vendor}", now.as_sql)
        sql, _ = compile_for(None, connection)
        asked_at = time.time()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {sql}")
            self.note(cursor.fetchone()[0], asked_at)


database_clock = DatabaseClock()
"""The clock that this process's token manager uses."""
