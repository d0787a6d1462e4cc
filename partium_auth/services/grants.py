"""Ending grants by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db import router, transaction

from partium_auth import policy
from partium_auth.models import Grant
from partium_auth.tokens import grants

if TYPE_CHECKING:
    import uuid

    from partium_auth.policy import Actor


def revoke_grants(grant_ids: Iterable[uuid.UUID], *, actor: Actor) -> int:
    """Revoke grants and log out their sessions: no process hands out a token of theirs any more. Returns how many were still open.

    Args:
        grant_ids: primary keys.
        actor: an operator; None: the system. Revoking a key revokes its grant: ``services.revoke_key``.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    if not policy.is_operator(actor):
        raise PermissionDenied
    database = router.db_for_write(Grant)
    with transaction.atomic(using=database):
        return grants.revoke(Grant.objects.using(database).filter(pk__in=list(grant_ids)), delete_sessions=True)
