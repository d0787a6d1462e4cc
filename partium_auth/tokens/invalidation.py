"""What readers have cached, and how to make them ask the database again.

With ``PARTIUM_CACHE`` what a session may use (its token sealed) is read from the cache together with the *stamps* of all
that it depends on: the person, the organization, the site's identity providers. A stamp is a random number. Whoever
changes one of these replaces its stamp after the commit, and an entry that was made under another stamp, or under one
that is gone, is not trusted. So a revocation takes effect on the next read of every process; a reader that was slow to
fill the cache cannot bring anything back, because it read the stamps before it asked the database, and keeps nothing that
its own transaction may yet undo, or has from before the revocation; no clock is compared;
and a cache that forgets anything costs a query, never a token that should have ended.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from partium_auth.conf import conf
from partium_auth.models import ApiKey, Grant, IdentityProvider, Membership, Organization

logger = logging.getLogger("partium_auth.tokens")

ENTRY_SECONDS = 600
"""The longest that anything is cached."""
STAMP_SECONDS = 24 * 3600
"""How long a stamp is kept; what was made under it is not trusted afterwards."""

_PREFIX = "partium_auth:4:"  # counted up when what is cached gets another form
_PROVIDERS = f"{_PREFIX}providers"


def _person(user_pk: object) -> str:
    return f"{_PREFIX}user:{user_pk}"


def _organization(organization_id: object) -> str:
    return f"{_PREFIX}organization:{organization_id}"


def _cache() -> BaseCache | None:
    alias = conf.cache
    return caches[alias] if alias else None


@dataclass(frozen=True, slots=True)
class Slot:
    """One session's place in the cache, as it was before the database was asked.

    Attributes:
        value: what is there and can be trusted, or None.
    """

    value: Any
    _key: str = ""
    _stamps: tuple[Any, ...] | None = None

    def store(self, value: Any, seconds: float) -> None:
        """Keep what the database said after this slot was looked at.

        Args:
            value: holds no secret in the clear.
            seconds: how long it may be used.
        """
        cache = _cache() if self._stamps is not None and seconds >= 1 else None
        if cache is None:
            return
        try:
            cache.set(self._key, (self._stamps, value), min(int(seconds), ENTRY_SECONDS))
        except Exception as error:  # noqa: BLE001  # whatever a cache backend raises
            logger.warning("PARTIUM_CACHE cannot be written (%s).", type(error).__name__)


NO_CACHE = Slot(None)


def look(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> Slot:
    """Return a session's place in the cache: one round trip where there is something to trust. A cache that fails is no cache.

    Args:
        user_pk: who is logged in.
        grant_id: what the session names.
        organization_id: the active organization.
    """
    cache = _cache()
    if cache is None:
        return NO_CACHE
    key = f"{_PREFIX}entry:{user_pk}:{grant_id}:{organization_id}"
    stamp_keys = (_person(user_pk), _organization(organization_id), _PROVIDERS)
    try:
        found = cache.get_many((key, *stamp_keys))
        entry = found.get(key)
        stamps = tuple(found.get(stamp_key) for stamp_key in stamp_keys)
        if None not in stamps:
            if isinstance(entry, tuple) and len(entry) == 2 and entry[0] == stamps:
                return Slot(entry[1], key, stamps)
        else:
            stamps = tuple(
                _stamp(cache, name) if stamp is None else stamp for name, stamp in zip(stamp_keys, stamps, strict=True)
            )
    except Exception as error:  # noqa: BLE001  # whatever a cache backend raises
        logger.warning("PARTIUM_CACHE cannot be read (%s); asking the database.", type(error).__name__)
        return NO_CACHE
    return Slot(None, key, stamps if None not in stamps else None)


def _stamp(cache: BaseCache, stamp_key: str) -> Any:
    stamp = secrets.randbits(62)
    return stamp if cache.add(stamp_key, stamp, STAMP_SECONDS) else cache.get(stamp_key)


def distrust_user(user_pk: object) -> None:
    """Something changed for a person: memberships, a grant, or the account itself. Call it after the commit."""
    _restamp([_person(user_pk)])


def distrust_organization(organization_id: object) -> None:
    """Something changed for an organization: its keys, token source, provider, or whether it is active. Call it after the commit."""
    _restamp([_organization(organization_id)])


def distrust_grants(grants: Iterable[Grant]) -> None:
    """Grants were revoked or renewed. Call it after the commit.

    Args:
        grants: with their ``api_key`` loaded, where they have one.
    """
    _restamp(
        {_organization(g.api_key.organization_id) if g.api_key is not None else _person(g.user_id) for g in grants}
    )


def distrust_everything() -> None:
    """An identity provider changed, or everything was sealed anew. Call it after the commit."""
    _restamp([_PROVIDERS])


def _restamp(stamp_keys: Iterable[str]) -> None:
    cache = _cache()
    stamps = {stamp_key: secrets.randbits(62) for stamp_key in stamp_keys}
    if cache is None or not stamps:
        return
    try:
        # Memcached's backends raise nothing: they return the keys that they could not write.
        problem = "keys were not taken" if cache.set_many(stamps, STAMP_SECONDS) else ""
    except Exception as error:  # noqa: BLE001  # whatever a cache backend raises
        problem = type(error).__name__
    if problem:
        logger.error(
            "PARTIUM_CACHE cannot be written (%s): a revocation reaches other processes only after up to %s s.",
            problem,
            ENTRY_SECONDS,
        )


def _changed(sender: Any, instance: Any, using: str, **kwargs: object) -> None:
    """Whoever saves or deletes one of these, a service or a site's own code, need not think of the cache."""
    if isinstance(instance, Membership):
        distrust = partial(distrust_user, instance.user_id)
    elif isinstance(instance, IdentityProvider):
        distrust = partial(distrust_everything)
    else:
        distrust = partial(distrust_organization, instance.organization_id if sender is ApiKey else instance.pk)
    transaction.on_commit(distrust, using=using)


def connect_signals() -> None:
    """Hear of what is saved and deleted. Called by the app's ``ready()``."""
    for model in (ApiKey, IdentityProvider, Membership, Organization):
        post_save.connect(_changed, sender=model, dispatch_uid="partium_auth.invalidation")
        post_delete.connect(_changed, sender=model, dispatch_uid="partium_auth.invalidation")
