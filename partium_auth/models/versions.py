"""``Organization.version``: a random value that is replaced by every change that decides who may use what.

A process remembers what a session may use together with the version it was read with (``tokens.memo``), so a change takes effect
everywhere with its commit. Django's ways to change these models all replace it, in the same transaction: ``save()``, ``delete()``
with its cascades, and ``update()``, ``bulk_create()``, ``bulk_update()`` and ``delete()`` of a query set. Raw SQL must do it
itself, with a new random value: ``UPDATE partium_auth_organization SET version = … WHERE id = …``.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

from django.apps import apps
from django.db import models, router, transaction
from django.db.models.signals import post_delete, post_save

_MOST_IDS = 500  # databases limit the parameters of one statement

M = TypeVar("M", bound="DecidesAccess")


def new_version() -> int:
    """Return a version that no organization ever had. A counter would give a rolled-back value to the next change."""
    return secrets.randbits(63)


def replace_versions(organization_ids: Iterable[uuid.UUID] | None, *, using: str) -> None:
    """Give organizations, or all with None, a new version, in the caller's transaction."""
    rows = apps.get_model("partium_auth", "Organization")._base_manager.using(using)
    ids = None if organization_ids is None else set(organization_ids)
    if ids is not None and len(ids) <= _MOST_IDS:
        rows = rows.filter(pk__in=ids)
    rows.update(version=new_version())


class DecidesAccessQuerySet(models.QuerySet[M]):
    """Query set of a model that decides who may use what; replaces versions like the model's ``save()``."""

    def update(self, **changes: Any) -> int:
        model = self.model
        if model.irrelevant_to_access.issuperset(changes):
            return super().update(**changes)
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            rows, ids = self, None
            if model.organization_field and not {"organization", "organization_id"} & changes.keys():
                ids = set(self.order_by().values_list(model.organization_field, flat=True).distinct())
                if len(ids) <= _MOST_IDS:
                    # A row that is added meanwhile to another organization stays as it is.
                    rows = self.filter(**{f"{model.organization_field}__in": ids})
            changed = super(DecidesAccessQuerySet, rows).update(**changes)
            if changed:
                replace_versions(ids, using=self.db)
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        rows = list(objs)
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            made = super().bulk_create(rows, *args, **kwargs)
            # With update_conflicts, rows of any organization may have been changed.
            known = self.model.organization_field and not (kwargs.get("update_conflicts") or any(args[2:]))
            ids = {getattr(row, self.model.organization_field) for row in rows} if known else None
            replace_versions(ids, using=self.db)
        return made


class DecidesAccess(models.Model):
    """Base of the models whose rows decide who may use what."""

    organization_field: ClassVar[str] = "organization_id"
    """Which column names the organization concerned; empty where a row concerns all of them."""
    irrelevant_to_access: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nobody's access, so that writing them replaces no version."""

    class Meta:
        abstract = True

    def save(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """Save the row and replace the organization's version in one transaction."""
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using, savepoint=False):
            before: set[uuid.UUID] = set()
            if not self._state.adding and self.organization_field == "organization_id":
                row = type(self)._base_manager.using(using).filter(pk=self.pk)
                before = set(row.values_list(self.organization_field, flat=True))
                before.discard(getattr(self, self.organization_field))
            super().save(*args, using=using, **kwargs)
            if before:
                replace_versions(before, using=using)


def _changed(
    sender: Any, instance: Any, using: str, update_fields: Iterable[str] | None = None, **kwargs: object
) -> None:
    if update_fields is not None and sender.irrelevant_to_access.issuperset(update_fields):
        return
    ids = [getattr(instance, sender.organization_field)] if sender.organization_field else None
    replace_versions(ids, using=using)


def connect_signals() -> None:
    """Replace versions for every row that is saved or deleted, by ``loaddata`` and cascades too. Called by ``ready()``."""
    for model in apps.get_app_config("partium_auth").get_models():
        if issubclass(model, DecidesAccess):
            post_save.connect(_changed, sender=model, dispatch_uid="partium_auth.versions")
            post_delete.connect(_changed, sender=model, dispatch_uid="partium_auth.versions")
