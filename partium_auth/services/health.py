"""What the overview says of keys: stored, so that it need not look at all of them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save

from partium_auth.models import ApiKey, DuplicateKey, KeyHealth
from partium_auth.models.database import database_alias
from partium_auth.models.health import COLUMNS, Moments, moments


def remake(organization_id: uuid.UUID, using: str | None = None) -> None:
    """Make an organization's :class:`KeyHealth` anew, in the transaction in which a key of it has just been changed.

    Args:
        organization_id: primary key of the organization.
        using: the database; None: where keys are written.
    """
    using = using or database_alias()
    rows = KeyHealth.objects.using(using)
    with transaction.atomic(using=using):
        # The lock first, the keys in a later statement: whoever waited here sees what the other one changed.
        rows.select_for_update().get_or_create(organization_id=organization_id)
        keys = ApiKey.objects.using(using).filter(organization=organization_id).order_by()
        rows.filter(pk=organization_id).update(**moments(keys.values_list(*COLUMNS)))


def stale() -> list[uuid.UUID]:
    """Return the organizations whose stored health is not what their keys say.

    There are none, unless keys were written past the services and Django's signals: by ``update()``, ``bulk_create()``,
    a fixture of keys alone, or SQL.
    """
    using = database_alias()
    names = tuple(moments(()))
    stored = {pk: tuple(values) for pk, *values in KeyHealth.objects.using(using).values_list("pk", *names)}
    keyless = tuple(moments(()).values())
    actual = {pk: tuple(found.values()) for pk, found in _actual(using)}
    return [pk for pk in stored.keys() | actual.keys() if stored.get(pk, keyless) != actual.get(pk, keyless)]


def unnoticed() -> list[str]:
    """Return the fingerprints of keys that several organizations have and that :class:`DuplicateKey` does not name.

    As with :func:`stale`, of keys that were written past the services.
    """
    using = database_alias()
    found = ApiKey.objects.using(using).of_several_organizations()
    return sorted(set(found) - set(DuplicateKey.objects.using(using).values_list("pk", flat=True)))


def notice(fingerprints: Iterable[str]) -> None:
    """Have the overview name the organizations that have these keys."""
    rows = [DuplicateKey(fingerprint=fingerprint) for fingerprint in fingerprints]
    DuplicateKey.objects.using(database_alias()).bulk_create(rows, ignore_conflicts=True)


def _actual(using: str) -> Iterator[tuple[uuid.UUID, Moments]]:
    rows: Any = ApiKey.objects.using(using).order_by("organization").values_list("organization", *COLUMNS)
    for organization_id, keys in itertools.groupby(rows.iterator(), key=lambda row: row[0]):
        yield organization_id, moments(key[1:] for key in keys)


def _changed(instance: ApiKey, using: str, raw: bool = False, **kwargs: object) -> None:
    # A fixture brings its own rows, and its organizations may come after its keys.
    if not raw:
        remake(instance.organization_id, using)


def connect_signals() -> None:
    """Hear of keys that are saved and deleted, by a site's own code too; ``update()`` tells nobody. Called by the app's ``ready()``."""
    post_save.connect(_changed, sender=ApiKey, dispatch_uid="partium_auth.health")
    post_delete.connect(_changed, sender=ApiKey, dispatch_uid="partium_auth.health")
