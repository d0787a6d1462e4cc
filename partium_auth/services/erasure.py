"""Forgetting people: retention of events and invitations."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from partium_auth import policy
from partium_auth.models import AuditEvent, Invitation
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.services import audit

if TYPE_CHECKING:
    from partium_auth.policy import Actor


def clear_events(*, older_than_days: int, actor: Actor) -> tuple[int, int]:
    """Delete old events and erase the addresses of invitations that ended long ago. One event records it.

    Args:
        older_than_days: the age in days from which an event is deleted; at least 1.
        actor: an operator; None: the system.

    Returns:
        How many events were deleted, and how many invitations have lost their address.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    if not policy.may_manage_organizations(actor):
        raise PermissionDenied
    moment = timezone.now() - dt.timedelta(days=older_than_days)
    with transaction.atomic(using=database_alias()):
        events = audit.delete_before(moment)
        invitations = _ended_before(moment).exclude(email="").update(email="", name="")
        if events or invitations:
            audit.record(
                AuditEvent.Action.EVENTS_CLEARED,
                actor=actor,
                address=None,
                detail=EventDetail.CLEARED,
                parameters={"days": older_than_days, "events": events, "invitations": invitations},
            )
    return events, invitations


def _ended_before(moment: dt.datetime) -> QuerySet[Invitation]:
    return Invitation.objects.using(database_alias()).filter(
        Q(accepted_at__lt=moment) | Q(accepted_at=None, expires_at__lt=moment)
    )
