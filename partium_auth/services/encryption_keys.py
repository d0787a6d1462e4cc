"""Seals all secrets anew after a change of ``PARTIUM_ENCRYPTION_KEYS``: resumable, in batches, while the site runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from operator import or_
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections, models, router, transaction
from django.db.models import Count, Func, Q
from django.db.models.functions import Left
from django.db.models.lookups import Exact

from partium_auth import policy
from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError
from partium_auth.fields import Sealed, SealedField, seal, sealed_with
from partium_auth.models.database import database_alias
from partium_auth.models.versions import replace_versions
from partium_auth.sealed import encryption

if TYPE_CHECKING:
    from partium_auth.policy import Actor

BATCH = 100


@dataclass
class Resealed:
    """The progress of a run.

    Args:
        resealed: values sealed anew by this run.
        failed: values that do not open, as ``model primary-key field``. They are not changed.
    """

    resealed: int = 0
    failed: list[str] = field(default_factory=list)


def sealed_fields() -> list[tuple[type[models.Model], list[str]]]:
    """Return every model with sealed fields, and their names; also the models of other apps."""
    found = []
    for model in apps.get_models():
        names = [f.attname for f in model._meta.concrete_fields if isinstance(f, SealedField)]
        if names and not model._meta.proxy and model._meta.managed:
            found.append((model, names))
    return found


def counts_by_key() -> Counter[str]:
    """Count the sealed values in the database by the id of their encryption key; ``""``: values that are not sealed.

    The database counts those of the configured keys, in one pass over each table, by how they begin; nothing is decrypted. A
    key of ``PARTIUM_ENCRYPTION_KEYS`` that is not counted here can be removed.

    Raises:
        EncryptionError: no usable key is configured.
    """
    encryption.current_encryption_key_id()  # raises
    configured = [entry.partition(":")[0] for entry in conf.encryption_keys]
    counts: Counter[str] = Counter()
    for model, names in sealed_fields():
        known, others = _count_configured(model, names, configured)
        counts += _count_every(model, names) if others else known
    return counts


def _count_configured(model: type[models.Model], names: list[str], configured: list[str]) -> tuple[Counter[str], int]:
    """Count the values of each configured key, and all others together. Much quicker than :func:`_count_every`."""
    rows, in_hex = _rows(model)
    asked = {f"{n}_all": Count(name) for n, name in enumerate(names)}
    for n, name in enumerate(names):
        for k, key_id in enumerate(configured):
            asked[f"{n}_{k}"] = Count("pk", filter=_sealed_with(name, key_id, in_hex=in_hex))
    found = rows.aggregate(**asked)
    numbers = {key_id: sum(found[f"{n}_{k}"] for n in range(len(names))) for k, key_id in enumerate(configured)}
    return Counter(numbers), sum(found[f"{n}_all"] for n in range(len(names))) - sum(numbers.values())


def opens(key_id: str) -> bool:
    """Tell whether a configured key opens a value that is sealed with a key of its id; True where there is none."""
    for model, names in sealed_fields():
        rows, in_hex = _rows(model)
        for name in names:
            columns = "pk", name, *sealed_with(model, name)
            for row in rows.filter(_sealed_with(name, key_id, in_hex=in_hex)).only(*columns)[:1]:
                try:
                    getattr(row, name).plain()
                except EncryptionError:
                    return False
                return True
    return True


def _sealed_with(name: str, key_id: str, *, in_hex: bool) -> Q:
    start = f"{encryption.VERSION}.{key_id}."
    beginning: Any = Left(name, len(start))
    if in_hex:
        return Q(Exact(Func(beginning, function="HEX"), start.encode().hex().upper()))
    return Q(Exact(beginning, start))


def _count_every(model: type[models.Model], names: list[str]) -> Counter[str]:
    """Count the values of every key, configured or not. Reads them all: slow, and needed only where a key is missing."""
    rows, _in_hex = _rows(model)
    values = chain.from_iterable(rows.values_list(*names).iterator(chunk_size=1000))
    return Counter(value.encryption_key_id for value in values if value is not None)


def _rows(model: type[models.Model]) -> tuple[models.QuerySet[Any], bool]:
    """Return all rows, and whether text is compared in hexadecimal: most collations of MariaDB take "a" and "A" for the same.

    The base manager also returns rows that a default manager hides: without their key their secrets would be lost.
    """
    using = router.db_for_write(model)
    return model._base_manager.using(using).order_by(), connections[using].vendor == "mysql"


def reseal(*, actor: Actor, batch_size: int = BATCH, progress: Callable[[Resealed], None] | None = None) -> Resealed:
    """Seal every secret that is sealed with another key with the first key of ``PARTIUM_ENCRYPTION_KEYS``.

    Each row is locked, read again and written, one batch per transaction, so the site may write tokens meanwhile. After an
    interruption, the next run skips what is done.

    Args:
        actor: an operator; None: the system.
        batch_size: rows that one transaction locks.
        progress: called after every batch.

    Raises:
        PermissionDenied: the actor is not an operator.
        EncryptionError: no usable key is configured.
    """
    policy.require_operator(actor)
    current = encryption.current_encryption_key_id()
    result = Resealed()
    for model, names in sealed_fields():
        rows, in_hex = _rows(model)
        others = [Q(**{f"{name}__isnull": False}) & ~_sealed_with(name, current, in_hex=in_hex) for name in names]
        # From batch to batch by primary key: what does not open is not read again.
        todo, after = rows.filter(reduce(or_, others)).order_by("pk"), Q()
        while batch := list(todo.filter(after).values_list("pk", flat=True)[:batch_size]):
            _reseal_rows(model, names, batch, current, result)
            after = Q(pk__gt=batch[-1])
            if progress:
                progress(result)
    # What processes remember of sessions holds tokens that the old key sealed, and that key may be taken away now.
    replace_versions(None, using=database_alias())
    return result


def _reseal_rows(model: type[models.Model], names: list[str], pks: list[Any], current: str, result: Resealed) -> None:
    using = router.db_for_write(model)
    manager = model._base_manager.using(using)
    bound = {other for name in names for other in sealed_with(model, name)}
    with transaction.atomic(using=using):
        for row in manager.select_for_update().filter(pk__in=pks).order_by("pk").only("pk", *names, *bound):
            changes = {}
            for name in names:
                value = getattr(row, name)
                if not isinstance(value, Sealed) or value.encryption_key_id == current:
                    continue
                try:
                    changes[name] = seal(row, name, value.plain())
                except EncryptionError:
                    result.failed.append(f"{model._meta.label} {row.pk} {name}")
            if changes:
                manager.filter(pk=row.pk).update(**changes)
                result.resealed += len(changes)
