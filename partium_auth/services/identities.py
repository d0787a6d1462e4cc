"""Connecting identities to people by hand, for operators: a client was registered anew, or somebody has two accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from partium_auth import policy
from partium_auth.models import AuditEvent, Grant, Identity
from partium_auth.models.database import database_alias
from partium_auth.services.audit import record
from partium_auth.services.members import set_claimed_memberships
from partium_auth.tokens import grants

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from partium_auth.policy import Actor


def connect_identity(identity: Identity, user: AbstractBaseUser, *, actor: Actor) -> Identity:
    """Give an identity to another person, who logs in with it from now on; its logins and memberships from claims end.

    Args:
        identity: a subject at an issuer.
        user: whose it becomes.
        actor: an operator; None: the system.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    policy.require_operator(actor)
    with transaction.atomic(using=database_alias()):
        stored = Identity.objects.select_for_update().select_related("user").get(pk=identity.pk)
        if stored.user_id == user.pk:
            return stored
        _end_logins(stored, actor)
        record(AuditEvent.Action.IDENTITY_DISCONNECTED, actor=actor, person=stored.user)
        stored.user_id = user.pk
        stored.save(update_fields=["user"])
        record(AuditEvent.Action.IDENTITY_CONNECTED, actor=actor, person=user)
        return stored


def disconnect_identity(identity: Identity, *, actor: Actor) -> None:
    """Delete an identity; its logins and memberships from claims end. The next login with it is a first login.

    Args:
        identity: a subject at an issuer.
        actor: an operator; None: the system.

    Raises:
        PermissionDenied: the actor is not an operator.
    """
    policy.require_operator(actor)
    with transaction.atomic(using=database_alias()):
        _end_logins(identity, actor)
        record(AuditEvent.Action.IDENTITY_DISCONNECTED, actor=actor, person=identity.user)
        identity.delete()


def _end_logins(identity: Identity, actor: Actor) -> None:
    """End the logins, and the memberships that their claims have given: the person's next claims are another identity's."""
    grants.revoke(Grant.objects.filter(identity=identity), delete_sessions=True)
    set_claimed_memberships(identity, {}, actor=actor)
