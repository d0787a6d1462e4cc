"""Keys in use: what the tokens' room says about them by signal is written down here."""

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
from partium_auth.host.local_time import local_day
from partium_auth.models import ApiKey, ApiKeyEvent, ApiKeyUsage
from partium_auth.models.database import database_alias
from partium_auth.models.key_events import EventDetail
from partium_auth.models.keys import REJECTION_REMEMBERED
from partium_auth.services.key_events import changed, record

logger = logging.getLogger("partium_auth.keys")

_OUTAGE = dt.timedelta(minutes=10)
# Rejections this close to each other are one outage, and one event in the history.

_KEPT = dt.timedelta(days=90)
# Counts of the days before are removed: the picture shows 30 days.


def record_rejection(api_key_id: uuid.UUID, status: int = 401) -> None:
    """Remember that Partium did not accept a key in use: it is left alone for 60 s, and another one serves.

    The first rejection of an outage is an event in the key's history; those that follow it are not.

    Args:
        api_key_id: primary key of the key.
        status: what Partium answered, 401 or 403.
    """
    now = timezone.now()
    rows = ApiKey.objects.using(database_alias()).filter(pk=api_key_id)
    with transaction.atomic(using=database_alias()):
        # Of many processes that meet the same rejection one gets a row here, and writes the event.
        first = rows.filter(Q(rejected_at=None) | Q(rejected_at__lte=now - _OUTAGE)).update(rejected_at=now)
        if not first:
            again = rows.filter(rejected_at__lte=now - REJECTION_REMEMBERED).update(rejected_at=now)
            if again:
                changed(rows.values_list("organization_id", flat=True).get())
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
        changed(key.organization_id)
    logger.warning("Partium answered %s to the API key %s (%s).", status, key.pk, key.organization.org_id)


def count_exchange(api_key_id: uuid.UUID, ok: bool) -> None:
    """Count an exchange of a key, or a failure, for the picture of its use.

    Args:
        api_key_id: primary key of the key.
        ok: whether an access token came back.
    """
    now = timezone.now()
    using = database_alias()
    day = local_day(now)
    column = "exchanges" if ok else "failures"
    rows = ApiKeyUsage.objects.using(using).filter(api_key_id=api_key_id, day=day)
    # UPDATE first: it is what happens all day. The unique index decides who makes the day's row.
    if not rows.update(**{column: F(column) + 1}):
        try:
            with transaction.atomic(using=using):
                usage = ApiKeyUsage.objects.using(using)
                usage.create(api_key_id=api_key_id, day=day, **{column: 1})
                usage.filter(api_key_id=api_key_id, day__lt=day - _KEPT).delete()  # once a day, by the unique index
        except IntegrityError:
            rows.update(**{column: F(column) + 1})
    if ok:
        _used(api_key_id, now)


def record_direct_use(api_key_id: uuid.UUID) -> None:
    """Remember that Partium accepted a key that was sent to it as it is. After the caller's transaction, if there is one.

    Within it, the key would stay locked until the transaction ends, and everybody else's searches wait for that.

    Args:
        api_key_id: primary key of the key.
    """
    connection = connections[database_alias()]
    # A script that commits by hand has no moment after its transaction: its searches do not show.
    if connection.in_atomic_block or connection.get_autocommit():
        connection.on_commit(partial(_used, api_key_id, timezone.now()), robust=True)


def _used(api_key_id: uuid.UUID, now: dt.datetime) -> None:
    rows = ApiKey.objects.using(database_alias()).filter(pk=api_key_id)
    rows.update(last_used_at=now, rejected_at=None)


def connect_signals() -> None:
    """Have what the tokens' room says about keys written down. Called by the app's ``ready()``."""
    signals.key_rejected.connect(_on_rejected, sender=ApiKey, dispatch_uid="partium_auth.record_rejection")
    signals.key_exchanged.connect(_on_exchanged, sender=ApiKey, dispatch_uid="partium_auth.count_exchange")


def _on_rejected(*, key_id: uuid.UUID, status: int, **_kwargs: Any) -> None:
    record_rejection(key_id, status)


def _on_exchanged(*, key_id: uuid.UUID, ok: bool, **_kwargs: Any) -> None:
    count_exchange(key_id, ok)
