"""Revoking logins, as an operator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db import transaction

from partium_auth import policy
from partium_auth.models import AuditEvent, Grant
from partium_auth.models.database import database_alias
from partium_auth.services.audit import record
from partium_auth.tokens import grants

if TYPE_CHECKING:
    import uuid

    from partium_auth.policy import Actor


def revoke_grants(grant_ids: Iterable[uuid.UUID], *, actor: Actor) -> int:
    """Revoke the grants of logins, and log out their sessions. Returns how many were still open; one event per person records it.

    An API key's grant is left alone: it ends with its key (``services.keys.revoke_key``), which would otherwise be shown as
    serving and never serve again.

    Args:
        grant_ids: primary keys.
        actor: an operator; None: the system.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    policy.require_operator(actor)
    with transaction.atomic(using=database_alias()):
        logins = Grant.objects.filter(pk__in=list(grant_ids), api_key=None)
        users = get_user_model()._base_manager.using(database_alias())
        for person in users.filter(pk__in=logins.filter(revoked_at=None).values("user")):
            record(AuditEvent.Action.GRANTS_REVOKED, actor=actor, person=person)
        return grants.revoke(logins, delete_sessions=True)
