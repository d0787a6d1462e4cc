"""Forgetting people: retention of events and invitations, and erasure of one person."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.signals import pre_delete
from django.utils import timezone

from partium_auth import policy
from partium_auth.models import AuditEvent, Grant, Invitation
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.services import audit
from partium_auth.services.members import addresses_of, record_end_of_account
from partium_auth.tokens import grants

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from partium_auth.policy import Actor


EVENTS_AT_ONCE = 10_000


def clear_events(*, older_than_days: int, actor: Actor) -> tuple[int, int]:
    """Delete old events and erase the addresses of invitations that ended long ago.

    Each transaction deletes at most :data:`EVENTS_AT_ONCE`, and records in an event how many.

    Args:
        older_than_days: the age in days from which an event is deleted; at least 1.
        actor: an operator; None: the system.

    Returns:
        How many events were deleted, and how many invitations have lost their address.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    policy.require_operator(actor)
    moment = timezone.now() - dt.timedelta(days=older_than_days)
    events = invitations = 0
    while True:
        with transaction.atomic(using=database_alias()):
            deleted = audit.delete_before(moment, at_most=EVENTS_AT_ONCE)
            # All at once, with the first events.
            erased = 0 if events else _ended_before(moment).exclude(email="").update(email="", name="")
            if deleted or erased:
                audit.record(
                    AuditEvent.Action.EVENTS_CLEARED,
                    actor=actor,
                    detail=EventDetail.CLEARED,
                    parameters={"days": older_than_days, "events": deleted, "invitations": erased},
                )
        events, invitations = events + deleted, invitations + erased
        if deleted < EVENTS_AT_ONCE:
            return events, invitations


def erase_person(person: AbstractBaseUser, *, actor: Actor) -> int:
    """Erase a person's names and addresses in events and in invitations that have ended. One event records it.

    The events stay, and so does the person's primary key in them. The account, its memberships and open invitations stay,
    too: an account's address may be unverified, and then the invitation is somebody else's. Deleting the account calls this.

    Args:
        person: whose names and addresses.
        actor: an operator; None: the system.

    Returns:
        In how many events and invitations something was erased.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    policy.require_operator(actor)
    addresses = addresses_of(person.pk)
    theirs = Q(accepted_by=person.pk) | Q(email__in=addresses)
    with transaction.atomic(using=database_alias()):
        erased = audit.erase_names(person, addresses)
        erased += _ended_before(timezone.now()).filter(theirs).exclude(email="").update(email="", name="")
        if erased:
            audit.record(
                AuditEvent.Action.PERSON_ERASED,
                actor=None if actor == person else actor,
                person=person,
                person_name=None,
            )
    return erased


def connect_signals() -> None:
    """Erase a person whose account is deleted, and end their logins. Called by ``ready()``."""
    user_model = get_user_model()
    for model in apps.get_models():
        if model._meta.concrete_model is user_model:  # Django sends the signal for a proxy model, where that is deleted
            pre_delete.connect(_account_deleted, sender=model, dispatch_uid="partium_auth.erasure")


def _account_deleted(instance: AbstractBaseUser, **kwargs: object) -> None:
    grants.revoke(Grant.objects.filter(user=instance.pk))
    record_end_of_account(instance)
    # Before the deletion, which removes the identities and invitations that tell the person's addresses.
    erase_person(instance, actor=None)


def _ended_before(moment: dt.datetime) -> QuerySet[Invitation]:
    return Invitation.objects.using(database_alias()).filter(
        Q(accepted_at__lt=moment) | Q(accepted_at=None, expires_at__lt=moment)
    )
