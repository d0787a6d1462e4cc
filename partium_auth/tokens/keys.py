"""Which API keys of an organization serve now, for every reader: sessions, and clients without a request."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import models
from django.utils import timezone

from partium_auth.exceptions import KeyRejected, NoUsableKey
from partium_auth.models import ApiKey, Organization
from partium_auth.models.database import database_alias
from partium_auth.models.keys import REJECTION_REMEMBERED, ApiKeyQuerySet, Usability
from partium_auth.tokens import state
from partium_auth.tokens.state import GrantState
from partium_auth.tokens.statements import Parameter, Statement, compiled


class UsableKeys(NamedTuple):
    """The keys of an organization at one moment.

    Args:
        candidates: grants of the keys that may serve, the first one first; one that Partium has just refused comes last, because
            its access token may still be good.
        refused: Partium refuses a key that has not ended.
        until: when a key ends or may be tried again, in seconds since the epoch.
    """

    candidates: tuple[GrantState, ...] = ()
    refused: bool = False
    until: float = math.inf


def read(organization_id: uuid.UUID) -> UsableKeys:
    """Read the keys of an organization that may serve, with their grants."""
    alias, now = database_alias(), timezone.now()
    rows = _statement(alias).run(alias, organization=organization_id, now=now)
    usability = {pk: value for pk, value, *_ends in rows if value != Usability.REFUSED}
    # Where raw SQL has moved a key here from another organization, that organization's access token is not served.
    candidates = [
        seen if seen.bound_to == str(organization_id) else seen._replace(token=None)
        for seen in (state.read_keys(list(usability)) if usability else [])
    ]
    return UsableKeys(
        candidates=tuple(
            # A key that was just rejected is not sent again, but its access token may still be good.
            seen if usability[seen.grant_id] == Usability.USABLE else seen._replace(rejected=True, waiting=True)
            for seen in candidates
        ),
        refused=any(value != Usability.USABLE for _pk, value, *_ends in rows),
        until=min((moment for row in rows for moment in _changes(now, *row[2:])), default=math.inf),
    )


def _changes(
    now: dt.datetime, expires_at: dt.datetime | None, retires_at: dt.datetime | None, rejected_at: dt.datetime | None
) -> list[float]:
    retry_at = None if rejected_at is None else rejected_at + REJECTION_REMEMBERED
    return [at.timestamp() for at in (expires_at, retires_at, retry_at) if at is not None and at > now]


def in_order(organization_id: uuid.UUID) -> list[ApiKey]:
    """Return an organization's keys that have not ended, the one that should serve first; each has its ``usability``."""
    return list(_rows(database_alias(), organization_id, timezone.now()))


def _rows(alias: str, organization_id: Any, now: Any) -> ApiKeyQuerySet:
    keys = ApiKey.objects.using(alias).in_serving_order(now)
    return keys.filter(organization_id=organization_id, organization__is_active=True)


@lru_cache(maxsize=8)
def _statement(alias: str) -> Statement:
    rows = _rows(alias, Parameter("organization", Organization._meta.pk), Parameter("now", models.DateTimeField()))
    columns = ("pk", "usability", "expires_at", "retires_at", "rejected_at")
    return compiled(rows.values_list(*columns), alias)


def no_usable_key(*, refused: bool) -> NoUsableKey | KeyRejected:
    """Return what to raise where no key serves.

    Args:
        refused: there is a key, and Partium refuses it.
    """
    if refused:
        return KeyRejected("Partium does not accept the API key. Verify it, or add another one, in the key admin.")
    return NoUsableKey("The organization has no usable API key. Add one in the key admin.")
