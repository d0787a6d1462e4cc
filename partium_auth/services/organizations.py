"""Organizations: the only code that adds and changes them. Operators do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from partium_auth import policy
from partium_auth.models import AuditEvent, IdentityProvider, Organization
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.services.audit import record

if TYPE_CHECKING:
    from partium_auth.policy import Actor


def add_organization(
    org_id: str,
    *,
    actor: Actor,
    display_name: str = "",
    token_source: str = Organization.TokenSource.USER,
    required_provider: IdentityProvider | None = None,
) -> Organization:
    """Create an organization.

    Args:
        org_id: Partium's id, such as ``acme``; it cannot be changed afterwards.
        actor: an operator.
        display_name: what people see; empty: the id.
        token_source: one of ``Organization.TokenSource``.
        required_provider: only sessions that logged in through it may open the organization.

    Raises:
        PermissionDenied: the actor is not an operator.
        ValidationError: the id is taken or empty, or a value is not one of the choices.
    """
    policy.require_operator(actor)
    organization = Organization(
        org_id=org_id.strip(),
        display_name=display_name.strip(),
        token_source=token_source,
        required_provider=required_provider,
    )
    organization.full_clean()
    with transaction.atomic(using=database_alias()):
        organization.save(force_insert=True)
        record(AuditEvent.Action.ORGANIZATION_ADDED, actor=actor, organization=organization)
    return organization


def change_organization(organization: Organization, *, actor: Actor, **changes: Any) -> Organization:
    """Change an organization's ``display_name``, ``token_source``, ``required_provider`` or ``is_active``.

    Takes effect on the next token read in every process.

    Args:
        organization: which one.
        actor: an operator.
        changes: new values by field.

    Raises:
        PermissionDenied: the actor is not an operator.
        ValidationError: a value is not acceptable.
        TypeError: another field than those four.
    """
    policy.require_operator(actor)
    unknown = changes.keys() - {"display_name", "token_source", "required_provider", "is_active"}
    if unknown:
        raise TypeError(f"Of an organization these cannot be changed: {', '.join(sorted(unknown))}.")
    for name, value in changes.items():
        setattr(organization, name, value)
    organization.full_clean(exclude=["org_id"])
    with transaction.atomic(using=database_alias()):
        before = lock(organization)
        organization.save(update_fields=list(changes))
        changed = {name: [_shown(before, name), _shown(organization, name)] for name in changes}
        changed = {name: values for name, values in changed.items() if values[0] != values[1]}
        if changed:
            record(
                AuditEvent.Action.ORGANIZATION_CHANGED,
                actor=actor,
                organization=organization,
                detail=EventDetail.CHANGED,
                parameters={"changes": changed},
            )
    return organization


def lock(organization: Organization) -> Organization:
    """Lock an organization's row, and return it as stored. Whoever changes its members or keys locks it first.

    Each change replaces the organization's version: two that had locked other rows before could wait for each other.
    """
    return Organization.objects.select_for_update().get(pk=organization.pk)


def _shown(organization: Organization, name: str) -> object:
    value = getattr(organization, name)
    return value.slug if isinstance(value, IdentityProvider) else value
