"""How keys are used: counts and rejections, as ``tokens`` reports them by signals."""

from __future__ import annotations

import atexit
import datetime as dt
import logging
import threading
import time
import uuid
from functools import partial
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import F
from django.utils import timezone

from partium_auth import signals
from partium_auth.conf import conf
from partium_auth.host.local_time import local_date
from partium_auth.host.per_process import PerProcess
from partium_auth.models import ApiKey, ApiKeyUsage, AuditEvent
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.models.keys import REJECTION_REMEMBERED
from partium_auth.services.audit import record

logger = logging.getLogger("partium_auth.keys")

# Rejections this close to each other are one event in the history.
_ONE_OUTAGE = dt.timedelta(minutes=10)

# Older counts are deleted; the chart shows 30 days.
_COUNTS_STORED = dt.timedelta(days=90)

WRITE_SECONDS = 60.0


def record_rejection(*, key_id: uuid.UUID, status: int = 401, **_kwargs: Any) -> None:
    """Record that Partium rejected a key in use: it is not used for 60 s, another key of the organization is.

    The first rejection is an event in the key's history; those that follow within ten minutes are not.
    """
    now = timezone.now()
    rows = ApiKey.objects.using(database_alias()).filter(pk=key_id)
    with transaction.atomic(using=database_alias()):
        # Of several processes that see the same rejection, one updates the row and records the event.
        was_well = rows.filter(rejected_at=None).update(rejected_at=now)
        if not was_well and not rows.filter(rejected_at__lte=now - _ONE_OUTAGE).update(rejected_at=now):
            rows.filter(rejected_at__lte=now - REJECTION_REMEMBERED).update(rejected_at=now)
            return
        key = rows.select_related("organization").defer("secret").get()
        record(
            AuditEvent.Action.KEY_REJECTED,
            key=key,
            detail=EventDetail.REJECTED_IN_USE,
            parameters={"status": status} if was_well else {"status": status, "again": True},
            actor=None,
        )
    logger.warning("Partium answered %s to the API key %s (%s).", status, key.pk, key.organization.org_id)


class _Counts:
    """Searches and failures per key and day that are not written yet."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[tuple[uuid.UUID, dt.date], list[int]] = {}
        self.next_write_at = 0.0
        self.timer: threading.Timer | None = None
        atexit.register(write_counts, quiet=True)  # a job may end within the minute


_counts = PerProcess(_Counts)


def count_use(api_key_id: uuid.UUID, ok: bool) -> None:
    """Count a search with a key, or a failure, in memory; a process writes its counts at most once a minute."""
    state, inline = _counts(), conf.executor == "inline"
    with state.lock:
        state.counts.setdefault((api_key_id, local_date(timezone.now())), [0, 0])[0 if ok else 1] += 1
        is_due = inline and time.monotonic() >= state.next_write_at
        if not inline and state.timer is None:
            state.timer = threading.Timer(WRITE_SECONDS, write_counts, kwargs={"quiet": True})
            state.timer.daemon = True
            state.timer.start()
    if is_due:
        write_counts()


def write_counts(*, quiet: bool = False) -> None:
    """Write this process's counts to the database.

    Args:
        quiet: log an error instead of raising it, and lose the counts.
    """
    state, connection = _counts(), connections[database_alias()]
    # A timer's thread, or asyncio's that sends for asearch(): Django closes no connection there.
    opened_here = connection.connection is None
    with state.lock:
        counts, state.counts, state.timer = state.counts, {}, None
        state.next_write_at = time.monotonic() + WRITE_SECONDS
    try:
        known = set(
            ApiKey.objects.using(database_alias())
            .filter(pk__in={pk for pk, _day in counts})
            .values_list("pk", flat=True)
        )
        for (api_key_id, day), (searches, failures) in counts.items():
            if api_key_id in known:
                _add(api_key_id, day, searches, failures)
    except Exception as error:  # counts are not worth a failure of what runs meanwhile
        if not quiet:
            raise
        logger.info("Counts of key usage were not written: %s", type(error).__name__)
    finally:
        if opened_here:
            connection.close()


def _add(api_key_id: uuid.UUID, day: dt.date, searches: int, failures: int) -> None:
    using = database_alias()
    rows = ApiKeyUsage.objects.using(using).filter(api_key_id=api_key_id, day=day)
    more = {"searches": F("searches") + searches, "failures": F("failures") + failures}
    # UPDATE first, the usual case. The unique constraint decides which process inserts the row of the day.
    if not rows.update(**more):
        try:
            with transaction.atomic(using=using):
                usage = ApiKeyUsage.objects.using(using)
                usage.create(api_key_id=api_key_id, day=day, searches=searches, failures=failures)
                usage.filter(
                    api_key_id=api_key_id, day__lt=day - _COUNTS_STORED
                ).delete()  # once a day, by the unique index
        except IntegrityError:
            rows.update(**more)


def record_exchange(*, key_id: uuid.UUID, ok: bool, **_kwargs: Any) -> None:
    """Record that a key was exchanged for an access token; count it where that failed."""
    if ok:
        _record_use(key_id, timezone.now())
    else:
        count_use(key_id, ok=False)


def record_direct_use(api_key_id: uuid.UUID) -> None:
    """Record that Partium accepted a key that was sent without an exchange. Written after the caller's transaction.

    Inside it, the row would stay locked until the transaction ends, and other searches would wait for it.
    """
    connection = connections[database_alias()]
    # Without autocommit there is no hook after the transaction: such searches are not recorded.
    if connection.in_atomic_block or connection.get_autocommit():
        connection.on_commit(partial(_record_use, api_key_id, timezone.now()), robust=True)


def _record_use(api_key_id: uuid.UUID, now: dt.datetime) -> None:
    rows = ApiKey.objects.using(database_alias()).filter(pk=api_key_id)
    # Clear a rejection only where there is one: that replaces the organization's version, and a use must not.
    if not rows.filter(rejected_at=None).update(last_used_at=now):
        rows.update(last_used_at=now, rejected_at=None)


def connect_signals() -> None:
    """Record what ``tokens`` reports about keys. Called by the app's ``ready()``."""
    signals.key_rejected.connect(record_rejection, sender=ApiKey, dispatch_uid="partium_auth.record_rejection")
    signals.key_exchanged.connect(record_exchange, sender=ApiKey, dispatch_uid="partium_auth.record_exchange")
    signals.upstream_called.connect(_on_called, dispatch_uid="partium_auth.count_use")


def _on_called(*, endpoint: str, key_id: uuid.UUID | None, status: int | None, **_kwargs: Any) -> None:
    if endpoint == "search" and key_id is not None:
        count_use(key_id, ok=status is not None and status < 400)
