"""SessionAccess a token and clearing grants with few rows and with many."""

from __future__ import annotations

import datetime as dt
import statistics
import time
from collections.abc import Callable

from django.db import connection

from benchmarks.people import log_in
from partium_auth.models import Grant, Organization
from partium_auth.partium.token_response import TokenResponse
from partium_auth.tokens import access, cleanup

_SERIES = {
    "postgresql": ("generate_series(1, {number}) AS n", "gen_random_uuid()"),
    "sqlite": (
        "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {number}) SELECT n FROM s)",
        "lower(hex(randomblob(16)))",
    ),
}


def measure(number: int, say: Callable[[str], None]) -> None:
    """Print the table.

    Args:
        number: grants to compare a thousand with.
        say: prints a line.
    """
    if connection.vendor not in _SERIES:
        say(f"Many rows are made on PostgreSQL and SQLite only, not on {connection.vendor}.")
        return
    _, grant = log_in("rows", TokenResponse("a" * 43, "r" * 43, 86_400))
    say(f"{'grants':>10} {'read':>10} {'clear, nothing dead':>21} {'clear, 1 % revoked':>20} {'bytes per grant':>17}")
    place = grant.user_id, grant.pk, Organization.objects.values_list("pk", flat=True)[0]
    there = 0
    for wanted in (1000, number):
        _add(grant, wanted - there)
        there = wanted
        read = statistics.median(_seconds(lambda: access.read(*place)) for _ in range(500))
        nothing = _seconds(_clear)
        Grant.objects.filter(pk__in=Grant.objects.exclude(pk=grant.pk).values("pk")[: wanted // 100]).update(
            revoked_at=dt.datetime.now(tz=dt.UTC)
        )
        there -= wanted // 100
        some = _seconds(_clear)
        say(f"{wanted:10,} {read * 1e6:7.0f} µs {nothing:19.2f} s {some:18.2f} s {_bytes(wanted):>17}")


def _seconds(action: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    action()
    return time.perf_counter() - started_at


def _clear() -> None:
    cleanup.clear(older_than=dt.timedelta(days=30))


def _add(grant: Grant, number: int) -> None:
    """Copy a grant that many times, under ids of their own."""
    series, new_id = _SERIES[connection.vendor]
    names = [field.column for field in Grant._meta.fields if field.column and field.column != "id"]
    columns = ", ".join(connection.ops.quote_name(name) for name in names)
    table = connection.ops.quote_name(Grant._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (id, {columns}) SELECT {new_id}, {columns} FROM {table} g, {series.format(number=number)} "
            "WHERE g.id = %s",
            [Grant._meta.pk.get_db_prep_value(grant.pk, connection)],
        )
        cursor.execute("ANALYZE")


def _bytes(number: int) -> str:
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [Grant._meta.db_table])
        return f"{cursor.fetchone()[0] / number:,.0f}"
