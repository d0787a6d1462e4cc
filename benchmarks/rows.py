"""What takes longer with many grants: a token read, clearing, counting encryption keys, and the admin's list of grants."""

from __future__ import annotations

import datetime as dt
import functools
import os
import random
import secrets
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client, override_settings
from django.urls import path, reverse
from django.utils import timezone

from benchmarks.people import log_in
from partium_auth.fields import seal
from partium_auth.models import Grant, Organization
from partium_auth.partium.token_response import TokenResponse
from partium_auth.services import encryption_keys
from partium_auth.tokens import access, cleanup, grants

SESSION_DAYS = 14
"""How long a session lives. Grants were last refreshed at any time since then, so nearly all of them may be idle."""

urlpatterns = [path("admin/", admin.site.urls)]


@override_settings(ROOT_URLCONF="benchmarks.rows")
def measure(number: int, say: Callable[[str], None]) -> None:
    """Print the table.

    Args:
        number: grants to compare a thousand with.
    """
    own_key, grant = log_in("rows", TokenResponse("a" * 43, "r" * 43, 86_400))
    operator = get_user_model().objects.create_user("rows-operator", is_superuser=True, is_staff=True)
    client = Client()
    client.force_login(operator)
    place = grant.user_id, grant.pk, Organization.objects.values_list("pk", flat=True)[0]
    page = reverse("admin:partium_auth_grant_changelist")
    pages = (page, f"{page}?p=2", f"{page}?kind__exact=api_key", f"{page}?kind__exact=password")
    there = 0
    for wanted in (1000, number):
        add_copies(grant, wanted - there)
        there = wanted
        say(f"{wanted:,} grants, each with a living session")
        read = statistics.median(_seconds(lambda: access.read(*place)) for _ in range(500))
        say(f"  {'full read of what a session may use':42} {read * 1e6:8.0f} µs")
        _tell(say, "count of secrets by encryption key", encryption_keys.counts_by_key)
        for url in pages:
            elapsed = min(_seconds(functools.partial(_get, client, url)) for _ in range(5))
            say(f"  {url:42} {elapsed * 1e3:8.0f} ms")
        _tell(say, "clear, nothing dead", _clear)
        some = list(Grant.objects.exclude(pk=grant.pk).values_list("pk", flat=True)[: wanted // 100])
        for start in range(0, len(some), 1000):
            Grant.objects.filter(pk__in=some[start : start + 1000]).update(revoked_at=timezone.now())
        _tell(say, "clear, 1 % revoked", _clear)
        there -= len(some)
        Session.objects.filter(session_key__startswith="ab").exclude(pk=own_key).delete()
        before = Grant.objects.count()
        _tell(say, "clear, 1 of 256 sessions deleted", _clear)
        there -= before - Grant.objects.count()
        if size := _bytes(there):
            say(f"  {'bytes per grant, with indexes':42} {size:8,.0f}")


def _tell(say: Callable[[str], None], what: str, action: Callable[[], object]) -> None:
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # the peak begins anew
    memory, own, servers = _megabytes("VmRSS"), time.process_time(), _server_cpu()
    elapsed = _seconds(action)
    own, servers = time.process_time() - own, _server_cpu() - servers
    memory = _megabytes("VmHWM") - memory
    say(f"  {what:42} {elapsed:8.2f} s; CPU {own:.2f} s, PostgreSQL's {servers:.2f} s; memory +{memory:.0f} MB")


def _megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def _server_cpu() -> float:
    """Return the CPU seconds of this connection's server process, on this machine."""
    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (process_id,) = cursor.fetchone()
    values = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _seconds(action: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    action()
    return time.perf_counter() - started_at


def _get(client: Any, url: str) -> None:
    if client.get(url).status_code != 200:
        raise RuntimeError(f"{url} did not answer with a page.")


def _clear() -> None:
    cleanup.clear(older_than=dt.timedelta(days=30))


def add_copies(grant: Grant, number: int) -> None:
    """Copy a grant that many times, each with an id and a session of its own."""
    quote = connection.ops.quote_name
    pk = Grant._meta.pk
    own = {
        "id": str(pk.db_type(connection)),
        "session_key": "text",
        "session_key_digest": "varchar(32)",
        "refreshed_at": str(Grant._meta.get_field("refreshed_at").db_type(connection)),
        "plain": "varchar(40)",
    }
    kept = [str(field.column) for field in Grant._meta.fields if field.column not in own]
    table, sessions = quote(Grant._meta.db_table), quote(Session._meta.db_table)
    mine, theirs = ", ".join(list(own)[:-1]), ", ".join(kept)
    prepare = Grant._meta.get_field("refreshed_at").get_db_prep_value
    now, made = timezone.now(), Grant()
    with connection.cursor() as cursor:
        declared = ", ".join(f"{name} {kind}" for name, kind in own.items())
        cursor.execute(f"CREATE TEMPORARY TABLE added ({declared})")
        for start in range(0, number, 1000):
            rows: list[Any] = []
            for _ in range(min(1000, number - start)):
                made.pk = uuid.uuid4()
                key = secrets.token_hex(16)
                refreshed_at = now - dt.timedelta(days=SESSION_DAYS * random.random())
                rows += [pk.get_db_prep_value(made.pk, connection), seal(made, "session_key", key).text]
                rows += [grants.session_key_digest(key), prepare(refreshed_at, connection), key]
            cursor.execute(f"INSERT INTO added VALUES {', '.join(['(%s, %s, %s, %s, %s)'] * (len(rows) // 5))}", rows)
        columns = ", ".join(f"added.{name}" for name in list(own)[:-1])
        others = ", ".join(f"g.{name}" for name in kept)
        cursor.execute(
            f"INSERT INTO {table} ({mine}, {theirs}) SELECT {columns}, {others} FROM added, {table} g WHERE g.id = %s",
            [pk.get_db_prep_value(grant.pk, connection)],
        )
        cursor.execute(
            f"INSERT INTO {sessions} (session_key, session_data, expire_date) SELECT plain, %s, %s FROM added",
            [secrets.token_urlsafe(180), prepare(now + dt.timedelta(days=SESSION_DAYS), connection)],
        )
        cursor.execute("DROP TABLE added")
        cursor.execute("ANALYZE TABLE " + table if connection.vendor == "mysql" else "ANALYZE")


def _bytes(number: int) -> float | None:
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [Grant._meta.db_table])
        return float(cursor.fetchone()[0]) / number
