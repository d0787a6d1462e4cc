"""Memberships and invitations: the only code that changes them.

Every process notices at its next token read: the models replace their organization's version (``models.versions``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from partium_auth import policy
from partium_auth.models import AuditEvent, Identity, Invitation, Membership, Organization, Origin, Role
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.models.texts import canonical_email
from partium_auth.services.audit import record
from partium_auth.services.organizations import lock

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from partium_auth.policy import Actor, SessionActor, User

    _Person = User | SessionActor

_DEMOTED = (Role.DEVELOPER, Role.MEMBER)
INVITATION_LASTS = dt.timedelta(days=14)


def add_member(
    organization: Organization, user: AbstractBaseUser, *, actor: Actor, role: str = Role.MEMBER
) -> Membership:
    """Add a person to an organization, or change the role of a member.

    Args:
        organization, user: which organization, and who.
        actor: an operator: developers invite by e-mail address instead, so that they do not see the host's users.
        role: one of ``Role``.

    Raises:
        PermissionDenied: the actor is not an operator.
        ValidationError: no such role.
    """
    policy.require_operator(actor)
    with transaction.atomic(using=database_alias()):
        lock(organization)
        theirs = Membership.objects.using(database_alias()).filter(organization=organization, user_id=user.pk)
        developers = theirs.filter(role=Role.DEVELOPER)
        was_developer = developers.exists()
        membership = _give(organization, user, _role(role), actor=actor)
        if was_developer and not developers.exists():
            _withdraw_of(user, [organization], actor=actor)
        return membership


def remove_member(organization: Organization, user: AbstractBaseUser, *, actor: Actor) -> int:
    """Delete a person's memberships of an organization, whatever their origin; return how many rows that were.

    The open invitations that the person has made there, and those for the person's addresses, are withdrawn.

    A membership from claims is created again at the next login, if the claims still say so.

    Args:
        organization, user: which organization, and who.
        actor: an operator or, where the site allows it, a developer of the organization.

    Raises:
        PermissionDenied: the actor may not manage the organization's members.
    """
    with transaction.atomic(using=database_alias()):
        lock(organization)
        _permit(actor, organization)  # under the lock: the actor may be removed at this moment
        theirs = Membership.objects.filter(organization=organization, user_id=user.pk)
        removed = _remove(theirs, user, actor=actor)
        _withdraw_of(user, [organization], actor=actor)
    return removed


def invite(
    organization: Organization,
    email: str,
    *,
    actor: Actor,
    role: str = Role.MEMBER,
    valid_for: dt.timedelta = INVITATION_LASTS,
) -> Invitation:
    """Invite the person who next logs in with this verified e-mail address or Partium user name; extend an open invitation.

    No mail is sent.

    Args:
        organization: which organization.
        email: the person's.
        actor: an operator or, where the site allows it, a developer of the organization.
        role: one of ``Role``.
        valid_for: how long the invitation is open.

    Raises:
        PermissionDenied: the actor may not manage the organization's members.
        FreshLoginRequired: the actor has to log in again first.
        ValidationError: not an e-mail address, no such role, or a time that is not positive.
    """
    _permit(actor, organization)
    policy.require_fresh_login(actor)
    typed = clean_invited(email, actor=actor)
    invited = canonical_email(typed)
    if valid_for <= dt.timedelta(0):
        raise ValidationError(_("An invitation has to be open for some time."))
    now = timezone.now()
    inviter = None if actor is None else actor.pk
    with transaction.atomic(using=database_alias()):
        # Two invitations at once end as one.
        lock(organization)
        _permit(actor, organization)
        rows = Invitation.objects.using(database_alias()).select_related("organization")
        candidates = rows.filter(organization=organization, email=invited, accepted_at=None)
        invitation = next((row for row in candidates if row.email == invited), None)
        if invitation is None:
            invitation = Invitation(organization=organization, email=invited)
        invitation.role, invitation.name = _role(role), typed
        invitation.expires_at = now + valid_for
        invitation.invited_by_id = inviter
        invitation.save()
        _record_invitation(AuditEvent.Action.INVITATION_MADE, invitation, actor=actor)
    return invitation


def clean_invited(email: str, *, actor: Actor) -> str:
    """Return an address that the actor may invite, as it was typed.

    Raises:
        ValidationError: not an e-mail address, one that normalization would change, or the actor's own.
    """
    typed, address = email.strip(), canonical_email(email)
    if typed and not address:
        raise ValidationError(
            _("This address has characters that look like others or are invisible. Type it, do not paste it.")
        )
    validate_email(address)
    if actor is not None and address in addresses_of(actor.pk):
        raise ValidationError(_("This is your own address. Somebody else has to invite you."))
    return typed


def member_known_as(organization: Organization, email: str) -> Membership | None:
    """Return the membership of a person who has this address, a developer's first; None: no member has it."""
    address = canonical_email(email)
    by_account = reduce(or_, (Q(**{f"user__{column}__iexact": address}) for column in naming_columns()))
    logins = Identity.objects.filter(subject__iexact=address).values("user")
    invited = Invitation.objects.filter(email=address).exclude(accepted_by=None).values("accepted_by")
    rows = Membership.objects.filter(organization=organization).order_by("role")
    found = rows.filter(by_account | Q(user__in=logins) | Q(user__in=invited)).select_related("user")
    return next((row for row in found if address in addresses_of(row.user_id)), None)


def withdraw_invitation(invitation: Invitation, *, actor: Actor) -> None:
    """Delete an invitation; a membership that came of it stays.

    Args:
        invitation: open, accepted or expired.
        actor: an operator or, where the site allows it, a developer of the organization.

    Raises:
        PermissionDenied: the actor may not manage the organization's members.
    """
    _permit(actor, invitation.organization)
    with transaction.atomic(using=database_alias()):
        _delete_invitation(invitation, actor=actor)


def leave_organization(organization: Organization, *, actor: Actor) -> None:
    """Delete the actor's own membership of an organization, and withdraw invitations as :func:`remove_member` does.

    A membership from claims stays: the next login would create it again.

    Raises:
        PermissionDenied: the actor is the system, which is no member.
    """
    if actor is None:
        raise PermissionDenied
    with transaction.atomic(using=database_alias()):
        lock(organization)
        own: dict[str, Any] = {"organization": organization, "user_id": actor.pk, "origin": Origin.ADMIN}
        _remove(Membership.objects.filter(**own), actor, actor=actor)
        _withdraw_of(actor, [organization], actor=actor)


def decline_invitation(invitation: Invitation, *, actor: Actor) -> None:
    """Decline an invitation that the actor's login has accepted: it is shown as declined, and the membership is deleted.

    Raises:
        PermissionDenied: somebody else has accepted it, or nobody.
    """
    if actor is None or invitation.accepted_by_id != actor.pk:
        raise PermissionDenied
    with transaction.atomic(using=database_alias()):
        leave_organization(invitation.organization, actor=actor)
        declined = Invitation.objects.filter(pk=invitation.pk, declined_at=None).update(declined_at=timezone.now())
        if declined:
            _record_invitation(AuditEvent.Action.INVITATION_DECLINED, invitation, actor=actor, person=actor)


def accept_invitations(
    user: AbstractBaseUser | SessionActor, verified: str, *, only: Organization | None = None, exactly: bool = False
) -> list[Membership]:
    """Turn the open invitations for an e-mail address into memberships. Only a login calls this.

    An invitation is worth what its inviter may do now: where they may not invite to the organization any more, it is ignored.

    Args:
        user: who has just logged in; a ``SessionActor`` knows from where.
        verified: the address that the identity provider has verified (``email_verified`` is JSON true), or the Partium
            user name.
        only: the organization that the provider belongs to: it cannot open any other. None for a site-wide provider.
        exactly: upper and lower case count, because Partium's user names are exact: as the invitation was typed, or all lower case.

    Returns the memberships that came of it. A role is never lowered.
    """
    address = canonical_email(verified)
    if not address:
        return []
    now = timezone.now()
    candidates = Invitation.objects.filter(
        email=address, accepted_at=None, expires_at__gt=now, organization__is_active=True
    )
    if only is not None:
        candidates = candidates.filter(organization=only)
    if not any(row.email == address for row in candidates.using(database_alias())):
        return []
    given = []
    with transaction.atomic(using=database_alias()):
        # The lock that invite() begins with, before the invitations are read again: otherwise each could wait for the
        # other, and an invitation be opened again, or accepted with the role that it had.
        inviting = candidates.order_by().values("organization")
        if not Organization.objects.select_for_update().filter(pk__in=inviting).order_by("pk"):
            return []
        for invitation in candidates.using(database_alias()).select_related("organization", "invited_by"):
            # Compare again in Python: MariaDB's collation treats é and e as equal, and those are two people.
            if invitation.email != address or (exactly and verified not in {invitation.email, invitation.name}):
                continue
            inviter = invitation.invited_by
            if inviter is not None and (
                inviter.pk == user.pk or not policy.may_manage_members(inviter, invitation.organization)
            ):
                continue
            # Check again for a database without row locks: SQLite, unless its transactions are IMMEDIATE.
            accepted = Invitation.objects.filter(pk=invitation.pk, accepted_at=None).update(
                accepted_at=now, accepted_by=user.pk
            )
            if accepted:
                _record_invitation(AuditEvent.Action.INVITATION_ACCEPTED, invitation, actor=user, person=user)
                given.append(_give(invitation.organization, user, invitation.role, lower=False, actor=user))
    return given


def set_claimed_memberships(
    identity: Identity,
    roles: Mapping[Organization, str],
    memberships: Sequence[Membership] | None = None,
    *,
    actor: Actor = None,
) -> list[Membership]:
    """Make a person's memberships from claims exactly these. Called by logins, and where an identity is taken from a person.

    Memberships given by an administrator, and those from another identity's claims that are not named here, stay.

    Args:
        identity: whose claims these are.
        roles: organization → one of ``Role``; the caller has checked which ones the provider may speak for.
        memberships: all that the person has, with their organizations, where the caller has just read them.
        actor: an operator who takes the identity away; None: the claims say so.

    Returns:
        The person's memberships afterwards, those that are new at the end.

    Raises:
        ValidationError: no such role.
        IntegrityError: another login of the same person has created one of them at this moment. Call again.
    """
    wanted = {organization: _role(role) for organization, role in roles.items()}
    if memberships is None:
        rows = Membership.objects.using(database_alias()).filter(user_id=identity.user_id)
        memberships = list(rows.select_related("organization"))
    claimed = {row.organization: row for row in memberships if row.origin == Origin.CLAIMS}
    ended = [row.pk for of, row in claimed.items() if row.identity_id == identity.pk and of not in wanted]
    changed = {
        organization: role
        for organization, role in wanted.items()
        if (row := claimed.get(organization)) is None or (row.role, row.identity_id) != (role, identity.pk)
    }
    if not ended and not changed:
        return list(memberships)
    created = []
    with transaction.atomic(using=database_alias(), savepoint=False):
        Membership.objects.filter(pk__in=ended).delete()
        lost = [of for of, row in claimed.items() if row.pk in ended or (row.role, changed.get(of)) == _DEMOTED]
        for organization, role in changed.items():
            key: dict[str, Any] = {"user_id": identity.user_id, "organization": organization, "origin": Origin.CLAIMS}
            values = {"role": role, "identity": identity}
            before = claimed.get(organization)
            if before is None:
                created.append(Membership(**key, **values))
                created[-1].save(force_insert=True)
                _record(AuditEvent.Action.MEMBER_ADDED, created[-1], identity.user, actor=actor)
                continue
            membership, _created = Membership.objects.update_or_create(**key, defaults=values)
            if before.role != role:
                _record(AuditEvent.Action.ROLE_CHANGED, membership, identity.user, actor=actor, role_before=before.role)
        for row in memberships:
            if row.pk in ended:
                _record(AuditEvent.Action.MEMBER_REMOVED, row, identity.user, actor=actor)
        _withdraw_of(identity.user, lost, actor=actor)
    return [row for row in memberships if row.pk not in ended] + created


def record_end_of_account(user: AbstractBaseUser) -> None:
    """Record which memberships and open invitations end with an account that is about to be deleted."""
    theirs = Membership.objects.using(database_alias()).filter(user_id=user.pk)
    for membership in theirs.select_related("organization"):
        _record(AuditEvent.Action.MEMBER_REMOVED, membership, user, actor=None)
    made = Invitation.objects.using(database_alias()).filter(invited_by=user.pk, accepted_at=None)
    for invitation in made.select_related("organization"):
        _record_invitation(AuditEvent.Action.INVITATION_WITHDRAWN, invitation, actor=None)


def _withdraw_of(user: _Person, organizations: Sequence[Organization], *, actor: Actor) -> None:
    """Delete the open invitations that a person has made in these organizations, and those for the person's addresses."""
    if organizations:
        open_ones = Invitation.objects.filter(organization__in=organizations, accepted_at=None)
        theirs = open_ones.filter(Q(invited_by=user.pk) | Q(email__in=addresses_of(user.pk)))
        for invitation in theirs.using(database_alias()).select_related("organization"):
            _delete_invitation(invitation, actor=actor)


def _delete_invitation(invitation: Invitation, *, actor: Actor) -> None:
    if invitation.accepted_at is None:
        _record_invitation(AuditEvent.Action.INVITATION_WITHDRAWN, invitation, actor=actor)
    invitation.delete()


def naming_columns() -> set[str]:
    """Return the columns of the site's user model that people are known by: user name, and e-mail address if it has one."""
    model = get_user_model()
    return {model.USERNAME_FIELD, model.get_email_field_name()} & {column.name for column in model._meta.fields}


def addresses_of(user_pk: Any) -> set[str]:
    """Return every address that is known as a person's: of the account, of Partium logins, of accepted invitations."""
    alias = database_alias()
    account = get_user_model()._base_manager.using(alias).filter(pk=user_pk).values_list(*naming_columns())
    known = [str(value) for row in account for value in row]
    known += Identity.objects.using(alias).filter(user_id=user_pk).values_list("subject", flat=True)
    known += Invitation.objects.using(alias).filter(accepted_by=user_pk).values_list("email", flat=True)
    return {address for address in map(canonical_email, known) if "@" in address}


def _permit(actor: Actor, organization: Organization) -> None:
    if not policy.may_manage_members(actor, organization):
        raise PermissionDenied


def _remove(theirs: QuerySet[Membership], user: _Person, *, actor: Actor) -> int:
    removed = list(theirs.using(database_alias()).select_related("organization"))
    Membership.objects.filter(pk__in=[row.pk for row in removed]).delete()
    for membership in removed:
        _record(AuditEvent.Action.MEMBER_REMOVED, membership, user, actor=actor)
    return len(removed)


def _give(organization: Organization, user: _Person, role: str, *, actor: Actor, lower: bool = True) -> Membership:
    key: dict[str, Any] = {"user_id": user.pk, "organization": organization, "origin": Origin.ADMIN}
    with transaction.atomic(using=database_alias()):
        # Locked: it could be removed just now, and there would be nothing to change.
        membership, created = Membership.objects.select_for_update().get_or_create(**key, defaults={"role": role})
        membership.organization = organization
        if created:
            _record(AuditEvent.Action.MEMBER_ADDED, membership, user, actor=actor)
        elif membership.role != role and (lower or role == Role.DEVELOPER):
            before, membership.role = membership.role, role
            membership.save(update_fields=["role"])
            _record(AuditEvent.Action.ROLE_CHANGED, membership, user, actor=actor, role_before=before)
    return membership


def _record(
    action: AuditEvent.Action, membership: Membership, user: _Person, *, actor: Actor, role_before: str = ""
) -> None:
    parameters = {"role": membership.role, "origin": membership.origin}
    record(
        action,
        actor=actor,
        organization=membership.organization,
        person=user,
        detail=EventDetail.ROLE_CHANGED if role_before else EventDetail.MEMBERSHIP,
        parameters={**parameters, "role_before": role_before} if role_before else parameters,
    )


def _record_invitation(
    action: AuditEvent.Action, invitation: Invitation, *, actor: Actor, person: _Person | None = None
) -> None:
    record(
        action,
        actor=actor,
        organization=invitation.organization,
        person=person,
        person_name=invitation.email,
        detail=EventDetail.ROLE,
        parameters={"role": invitation.role},
    )


def _role(role: str) -> str:
    if role not in Role.values:
        raise ValidationError(_("There is no such role."))
    return role
