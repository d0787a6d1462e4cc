"""How many of the updates of a refresh are HOT on PostgreSQL: ones that write to no index. By ``fillfactor``."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable

from django.db import connection

from benchmarks.people import log_in
from benchmarks.rows import add_copies
from partium_auth.models import Grant
from partium_auth.partium.token_response import TokenResponse
from partium_auth.tokens import lease

ROUNDS = 3


def measure(number: int, say: Callable[[str], None]) -> None:
    """Print the table.

    Args:
        number: of grants; each is refreshed three times, in random order.
        say: prints a line.
    """
    if connection.vendor != "postgresql":
        say("HOT updates are PostgreSQL's.")
        return
    _, grant = log_in("updates", TokenResponse("a" * 43, "r" * 43, 600))
    table = connection.ops.quote_name(Grant._meta.db_table)
    say(f"{number:,} grants, refreshed {ROUNDS} times in random order; an index on refreshed_at, as before, or none")
    say(
        f"{'':16} {'fillfactor':>10} {'updates':>9} {'HOT':>7} {'MB before':>10} {'MB after':>9} {'CPU per refresh':>16}"
    )
    for indexed in (False, True):
        for fillfactor in (100, 90, 70, 50):
            Grant.objects.exclude(pk=grant.pk).delete()
            with connection.cursor() as cursor:
                if indexed:
                    cursor.execute(f"CREATE INDEX bench_refreshed ON {table} (refreshed_at)")
                cursor.execute(f"ALTER TABLE {table} SET (fillfactor = {fillfactor})")
                cursor.execute(f"VACUUM FULL {table}")
            add_copies(grant, number)
            ids = list(Grant.objects.exclude(pk=grant.pk).values_list("pk", flat=True))
            with connection.cursor() as cursor:
                cursor.execute(f"VACUUM ANALYZE {table}")
            size, (updates, hot), started_at = _megabytes(table), _counters(), time.process_time()
            for generation in range(1, ROUNDS + 1):
                random.shuffle(ids)
                for grant_id in ids:
                    _refresh(grant_id, generation)
            seconds = (time.process_time() - started_at) / len(ids) / ROUNDS
            updates, hot = _counters()[0] - updates, _counters()[1] - hot
            name = "index" if indexed else "no index"
            say(
                f"{name:16} {fillfactor:10} {updates:9,} {hot / updates:7.1%} {size:10.1f} {_megabytes(table):9.1f} "
                f"{seconds * 1e6:13.0f} µs"
            )
            with connection.cursor() as cursor:
                cursor.execute("DROP INDEX IF EXISTS bench_refreshed")


def _refresh(grant_id: uuid.UUID, generation: int) -> None:
    """Write what a refresh writes."""
    lease_id = uuid.uuid4()
    grant = Grant(pk=grant_id, kind=Grant.Kind.PASSWORD)
    tokens = TokenResponse("b" * 43, "s" * 43, 600)
    done = (
        lease.take(grant_id, generation, lease_id)
        and lease.mark_sent(grant_id, generation, lease_id)
        and lease.commit(grant, tokens, time.time(), generation=generation)
    )
    if not done:
        raise RuntimeError("The refresh was not written.")


def _counters() -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s", [Grant._meta.db_table]
        )
        updates, hot = cursor.fetchone()
    return int(updates), int(hot)


def _megabytes(table: str) -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [table])
        return float(cursor.fetchone()[0]) / 1024 / 1024
