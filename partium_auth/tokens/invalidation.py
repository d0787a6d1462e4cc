"""What readers have cached, and how to make them ask the database again.

With ``PARTIUM_CACHE`` a session's token (sealed) is read from the cache together with the *tombstones* of everything it
depends on. A tombstone does not mean "no": it means that what was cached before it, or shortly after, is not trusted.
So a revocation takes effect on the next read of every process, a reader that was slow to fill the cache cannot bring
anything back, and a lost tombstone or a lost cache costs a query.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from partium_auth.conf import conf

logger = logging.getLogger("partium_auth.tokens")

ENTRY_SECONDS = 600
"""The longest that anything is cached."""
TOMBSTONE_SECONDS = 900
"""Tombstones outlive every entry they can be about."""
DISTRUST_SECONDS = 30.0
"""Entries made less than this after a tombstone are not trusted: machines' clocks differ, and a slow reader may fill late."""


def _cache() -> BaseCache | None:
    return caches[conf.cache] if conf.cache else None


def _tombstone(kind: str, value: object) -> str:
    return f"partium_auth:tombstone:{kind}:{value}"


def _entry(user_pk: object, grant_id: object, organization_id: object) -> str:
    return f"partium_auth:entry:{user_pk}:{grant_id}:{organization_id}"


def cached(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> Any:
    """Return what :func:`store` kept for this session, or None. One round trip; a cache that fails is no cache."""
    cache = _cache()
    if cache is None:
        return None
    key = _entry(user_pk, grant_id, organization_id)
    tombstones = (
        _tombstone("user", user_pk),
        _tombstone("grant", grant_id),
        _tombstone("organization", organization_id),
    )
    try:
        found = cache.get_many((key, *tombstones))
    except Exception as error:  # noqa: BLE001  # whatever a cache backend raises
        logger.warning("PARTIUM_CACHE cannot be read (%s); asking the database.", type(error).__name__)
        return None
    entry = found.pop(key, None)
    if not isinstance(entry, tuple) or len(entry) != 2:
        return None
    made_at, value = entry
    if any(made_at < at + DISTRUST_SECONDS for at in found.values()):
        return None
    return value


def store(
    user_pk: object,
    grant_id: uuid.UUID | None,
    organization_id: uuid.UUID,
    value: Any,
    *,
    made_at: float,
    seconds: float,
) -> None:
    """Keep what a session reads.

    Args:
        value: holds no secret in the clear.
        made_at: seconds since the epoch, from before the database was asked.
        seconds: how long it may be used.
    """
    cache = _cache()
    if cache is None or seconds < 1:
        return
    try:
        cache.set(_entry(user_pk, grant_id, organization_id), (made_at, value), min(int(seconds), ENTRY_SECONDS))
    except Exception as error:  # noqa: BLE001  # whatever a cache backend raises
        logger.warning("PARTIUM_CACHE cannot be written (%s).", type(error).__name__)


def distrust_user(user_pk: object) -> None:
    """Something changed for a person: memberships, or the account itself."""
    _bury([_tombstone("user", user_pk)])


def distrust_organization(organization_id: object) -> None:
    """Something changed for an organization: its keys, its token source, its provider, or whether it is active."""
    _bury([_tombstone("organization", organization_id)])


def distrust_grants(grant_ids: Iterable[uuid.UUID]) -> None:
    """Grants were revoked."""
    _bury([_tombstone("grant", grant_id) for grant_id in grant_ids])


def _bury(keys: list[str]) -> None:
    cache = _cache()
    if cache is None or not keys:
        return
    now = time.time()
    try:
        cache.set_many(dict.fromkeys(keys, now), TOMBSTONE_SECONDS)
    except Exception as error:  # noqa: BLE001  # whatever a cache backend raises
        logger.error(
            "PARTIUM_CACHE cannot be written (%s): a revocation reaches other processes only after up to %s s.",
            type(error).__name__,
            ENTRY_SECONDS,
        )
