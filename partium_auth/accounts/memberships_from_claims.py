"""What a login's claims grant and withdraw: memberships, roles, and ``is_staff`` and ``is_superuser`` where settings say so."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db import transaction

from partium_auth import policy
from partium_auth.accounts import claims as claims_
from partium_auth.conf import conf
from partium_auth.models import AuditEvent, EmailDomain, Identity, Membership, Organization, Origin, Role
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.oidc.provider import Provider
from partium_auth.policy import SessionActor
from partium_auth.services.audit import record
from partium_auth.services.members import accept_invitations, set_claimed_memberships

logger = logging.getLogger("partium_auth.login")


def believed_claims(provider: Provider, claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims that count for accounts and invitations: an organization's provider is believed for its own domains only.

    Otherwise one customer's provider could claim the address, the user name and the invitations of a person who has not
    logged in yet.
    """
    if provider.is_site_wide:
        return dict(claims)
    domain = claims_.verified_email(claims).rpartition("@")[2].lower()
    domains = EmailDomain.objects.filter(provider__slug=provider.slug).values_list("domain", flat=True)
    if domain and domain in set(domains):
        return dict(claims)
    return {name: value for name, value in claims.items() if name not in {"email", "email_verified"}}


def follow_claims(
    identity: Identity,
    provider: Provider,
    claims: Mapping[str, Any],
    believed: Mapping[str, Any],
    *,
    address: str | None,
) -> tuple[list[Organization], bool]:
    """Accept invitations, and make memberships, roles and privileges what the claims say.

    ``believed`` is what :func:`believed_claims` has left of the claims; ``address`` is the IP address of the login.

    Returns:
        The active organizations that the person belongs to now, joined longest ago first; and whether an invitation was accepted.
    """
    user = identity.user
    memberships = _memberships(user)
    known = {row.organization_id: row.organization for row in memberships}
    owner = None
    if provider.organization_id is not None:
        owner = known.get(provider.organization_id) or Organization.objects.get(pk=provider.organization_id)
    # First what the claims withdraw: a right that has ended accepts no invitation.
    for name in (conf.organizations_claim, conf.roles_claim):
        if why := claims_.why_unknown(claims, name):
            logger.warning(
                "The claim %r of a login through %s %s. It must be a list of strings, so it grants and withdraws nothing.",
                name,
                provider.slug,
                why,
            )
    claimed = _claimed_by(identity, memberships)
    if claims_.is_missing(claims, conf.roles_claim) and any(row.role == Role.DEVELOPER for row in claimed):
        logger.warning(
            "A login through %s makes a developer a member: the claim %r (PARTIUM_ROLES_CLAIM) is missing.",
            provider.slug,
            conf.roles_claim,
        )
    roles = _claimed_roles(owner, claims, provider.slug, known.values(), claimed)
    memberships = set_claimed_memberships(identity, roles, memberships)
    email = claims_.verified_email(believed)
    has_joined = bool(email and accept_invitations(SessionActor(user, None, address=address), email, only=owner))
    if has_joined:
        memberships = _memberships(user)
    if not memberships:
        seen = "is missing" if claims_.is_missing(claims, conf.organizations_claim) else "names none that this site has"
        logger.warning(
            "A login through %s opens no organization: the claim %r (PARTIUM_ORGANIZATIONS_CLAIM) %s.",
            provider.slug,
            conf.organizations_claim,
            claims_.why_unknown(claims, conf.organizations_claim) or seen,
        )
    if owner is None:
        _set_privileges(user, claims)
    return _active(memberships), has_joined


def follow_refresh(identity: Identity, provider: Provider, claims: Mapping[str, Any]) -> None:
    """Make memberships, roles and privileges what the ID token of a refresh says; a claim that it lacks changes nothing.

    A login may have had more claims, from userinfo.
    """
    memberships = _memberships(identity.user)
    known = {row.organization_id: row.organization for row in memberships}
    owner = known.get(provider.organization_id) if provider.organization_id is not None else None
    if owner is None and not provider.is_site_wide:
        return  # an administrator has removed the person from the provider's organization
    missing = [name for name in (conf.organizations_claim, conf.roles_claim) if claims_.is_missing(claims, name)]
    claims = {**claims, **dict.fromkeys(missing, claims_.UNKNOWN)}
    claimed = _claimed_by(identity, memberships)
    roles = _claimed_roles(owner, claims, provider.slug, known.values(), claimed)
    set_claimed_memberships(identity, roles, memberships)
    if provider.is_site_wide:
        _set_privileges(identity.user, claims)


def withdraw(identity: Identity, provider: Provider) -> None:
    """Withdraw what earlier claims gave: the site's ``PARTIUM_CLAIMS`` refuses the person now."""
    set_claimed_memberships(identity, {})
    if provider.is_site_wide:
        _set_privileges(identity.user, {})


def follow_password_login(identity: Identity, username: str, *, address: str | None) -> tuple[list[Organization], bool]:
    """The same for a Partium user name, which makes no claims: ``PARTIUM_PASSWORD_ORGANIZATION`` and invitations count."""
    memberships = _memberships(identity.user)
    roles = {}
    if conf.password_organization is not None:
        known = [row.organization for row in memberships]
        roles = dict.fromkeys(_named([conf.password_organization], known), str(Role.MEMBER))
        if not roles:
            logger.warning("PARTIUM_PASSWORD_ORGANIZATION names an organization that does not exist.")
    memberships = set_claimed_memberships(identity, roles, memberships)
    joining = SessionActor(identity.user, None, address=address)
    has_joined = bool(accept_invitations(joining, username, exactly=True))
    if has_joined:
        memberships = _memberships(identity.user)
    return _active(memberships), has_joined


def _memberships(user: Any) -> list[Membership]:
    return list(policy.memberships_by_joining(user))


def _claimed_by(identity: Identity, memberships: Iterable[Membership]) -> list[Membership]:
    return [row for row in memberships if row.origin == Origin.CLAIMS and row.identity_id == identity.pk]


def _active(memberships: Iterable[Membership]) -> list[Organization]:
    return list(dict.fromkeys(row.organization for row in memberships if row.organization.is_active))


def _named(org_ids: Collection[str], known: Iterable[Organization]) -> list[Organization]:
    """Return the organizations with these ids, and ask the database only for those that are not known already."""
    found = [row for row in dict.fromkeys(known) if row.org_id in org_ids]
    missing = set(org_ids) - {row.org_id for row in found}
    if missing:
        # Compare again in Python: a database's collation may treat other letters as equal.
        found += [row for row in Organization.objects.filter(org_id__in=missing) if row.org_id in missing]
    return found


def _claimed_roles(
    owner: Organization | None,
    claims: Mapping[str, Any],
    slug: str,
    known: Iterable[Organization],
    claimed: Collection[Membership],
) -> dict[Organization, str]:
    """Return the memberships that claims give. An organization's own provider speaks for that organization and for no other.

    Where the claims are unknown, these are what earlier claims of the same identity have given.
    """
    if owner is not None:
        return {owner: _role_in(owner, claims, claimed)}
    org_ids = claims_.names(claims, conf.organizations_claim)
    if org_ids is None:
        return {row.organization: _role_in(row.organization, claims, claimed) for row in claimed}
    found = _named(org_ids, known)
    if len(found) < len(org_ids):
        unknown = [org_id for org_id in org_ids if org_id not in {row.org_id for row in found}]
        logger.info(
            "%d organizations in the claims of a login through %s are not known here: %s.",
            len(unknown),
            slug,
            # escaped and cut: "/acme" explains itself
            ", ".join(ascii(org_id[:60]) for org_id in unknown[:5]),
        )
    return {row: _role_in(row, claims, claimed) for row in found}


def _role_in(organization: Organization, claims: Mapping[str, Any], claimed: Iterable[Membership]) -> str:
    roles = claims_.names(claims, conf.roles_claim)
    if roles is None:
        return next((row.role for row in claimed if row.organization == organization), Role.MEMBER)
    wanted = {name for role in conf.developer_roles for name in (role, f"{organization.org_id}:{role}")}
    return Role.DEVELOPER if wanted.intersection(roles) else Role.MEMBER


def _set_privileges(user: Any, claims: Mapping[str, Any]) -> None:
    """Set ``is_staff`` and ``is_superuser``, where a setting names the roles that give and take them."""
    if not conf.staff_roles and not conf.superuser_roles:
        return
    roles = claims_.names(claims, conf.roles_claim)
    if roles is None:
        return
    changed: dict[str, list[bool]] = {}
    for attribute, giving in (("is_staff", conf.staff_roles), ("is_superuser", conf.superuser_roles)):
        wanted = not set(giving).isdisjoint(roles)
        if giving and hasattr(user, attribute) and getattr(user, attribute) != wanted:
            setattr(user, attribute, wanted)
            changed[attribute] = [not wanted, wanted]
            logger.warning("%s of user %s is now %s, by the roles of a login.", attribute, user.pk, wanted)
    if changed:
        with transaction.atomic(using=database_alias()):
            user.save(update_fields=list(changed))
            record(
                AuditEvent.Action.PRIVILEGES_CHANGED,
                actor=None,
                person=user,
                detail=EventDetail.CHANGED,
                parameters={"changes": changed},
            )
