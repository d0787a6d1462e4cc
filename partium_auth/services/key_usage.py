"""How keys are used: counts and rejections, as ``tokens`` reports them by signals."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from functools import partial
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import F, Q
from django.utils import timezone

from partium_auth import signals
from partium_auth.host.local_time import local_date
from partium_auth.models import ApiKey, ApiKeyEvent, ApiKeyUsage
from partium_auth.models.database import database_alias
from partium_auth.models.key_events import EventDetail
from partium_auth.models.keys import REJECTION_REMEMBERED
from partium_auth.services.key_events import record

logger = logging.getLogger("partium_auth.keys")

# Rejections this close to each other are one event in the history.
_ONE_OUTAGE = dt.timedelta(minutes=10)

# Older counts are deleted; the chart shows 30 days.
_COUNTS_STORED = dt.timedelta(days=90)


def record_rejection(api_key_id: uuid.UUID, status: int = 401) -> None:
    """Record that Partium rejected a key in use: it is not used for 60 s, another key of the organization is.

    The first rejection is an event in the key's history; those that follow within ten minutes are not.

    Args:
        api_key_id: primary key of the key.
        status: what Partium answered, 401 or 403.
    """
    now = timezone.now()
    rows = ApiKey.objects.using(database_alias()).filter(pk=api_key_id)
    with transaction.atomic(using=database_alias()):
        # Of several processes that see the same rejection, one updates the row and records the event.
        first = rows.filter(Q(rejected_at=None) | Q(rejected_at__lte=now - _ONE_OUTAGE)).update(rejected_at=now)
        if not first:
            rows.filter(rejected_at__lte=now - REJECTION_REMEMBERED).update(rejected_at=now)
            return
        key = rows.select_related("organization").defer("secret").get()
        record(
            ApiKeyEvent.Action.REJECTED,
            key=key,
            detail=EventDetail.REJECTED_IN_USE,
            parameters={"status": status},
            actor=None,
            address=None,
        )
    logger.warning("Partium answered %s to the API key %s (%s).", status, key.pk, key.organization.org_id)


def count_exchange(api_key_id: uuid.UUID, ok: bool) -> None:
    """Count an exchange of a key, or a failure, for the chart of its use.

    Args:
        api_key_id: primary key of the key.
        ok: whether an access token came back.
    """
    now = timezone.now()
    using = database_alias()
    day = local_date(now)
    column = "exchanges" if ok else "failures"
    rows = ApiKeyUsage.objects.using(using).filter(api_key_id=api_key_id, day=day)
    # UPDATE first, the usual case. The unique constraint decides which process inserts the row of the day.
    if not rows.update(**{column: F(column) + 1}):
        try:
            with transaction.atomic(using=using):
                usage = ApiKeyUsage.objects.using(using)
                usage.create(api_key_id=api_key_id, day=day, **{column: 1})
                usage.filter(
                    api_key_id=api_key_id, day__lt=day - _COUNTS_STORED
                ).delete()  # once a day, by the unique index
        except IntegrityError:
            rows.update(**{column: F(column) + 1})
    if ok:
        _record_use(api_key_id, now)


def record_direct_use(api_key_id: uuid.UUID) -> None:
    """Record that Partium accepted a key that was sent without an exchange. Written after the caller's transaction.

    Inside it, the row would stay locked until the transaction ends, and other searches would wait for it.

    Args:
        api_key_id: primary key of the key.
    """
    connection = connections[database_alias()]
    # Without autocommit there is no hook after the transaction: such searches are not recorded.
    if connection.in_atomic_block or connection.get_autocommit():
        connection.on_commit(partial(_record_use, api_key_id, timezone.now()), robust=True)


def _record_use(api_key_id: uuid.UUID, now: dt.datetime) -> None:
    rows = ApiKey.objects.using(database_alias()).filter(pk=api_key_id)
    # Clearing the rejection replaces the organization's version, which what happens all day must not.
    if not rows.filter(rejected_at=None).update(last_used_at=now):
        rows.update(last_used_at=now, rejected_at=None)


def connect_signals() -> None:
    """Record what ``tokens`` reports about keys. Called by the app's ``ready()``."""
    signals.key_rejected.connect(_on_rejected, sender=ApiKey, dispatch_uid="partium_auth.record_rejection")
    signals.key_exchanged.connect(_on_exchanged, sender=ApiKey, dispatch_uid="partium_auth.count_exchange")


def _on_rejected(*, key_id: uuid.UUID, status: int, **_kwargs: Any) -> None:
    record_rejection(key_id, status)


def _on_exchanged(*, key_id: uuid.UUID, ok: bool, **_kwargs: Any) -> None:
    count_exchange(key_id, ok)
