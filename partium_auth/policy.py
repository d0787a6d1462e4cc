"""Who may see and change what. Admin, commands and services ask here; no other module decides it.

Superusers may do everything. Developers may manage the API keys of their organizations, and the members if the settings say
so. Inactive, anonymous and all other people may do nothing. The actor ``None`` is the system itself.

Which organizations a *session* may open depends on membership alone, for superusers too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from django.db.models import Exists, OuterRef, QuerySet

from partium_auth.conf import conf
from partium_auth.models import (
    ApiKey,
    ApiKeyEvent,
    Grant,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Role,
)

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.db.models import Model

    from partium_auth.models.organizations import OrganizationQuerySet

    User = AbstractBaseUser | AnonymousUser
    Actor = User | None

    M = TypeVar("M", bound=Model)


def _is_active(user: User) -> TypeGuard[AbstractBaseUser]:
    # A site's user model may lack attributes of Django's.
    return bool(user.is_authenticated and getattr(user, "is_active", False) and user.pk is not None)


def is_operator(user: Actor) -> bool:
    """Tell whether somebody may do everything: an active superuser, or the system itself (None)."""
    return user is None or (_is_active(user) and bool(getattr(user, "is_superuser", False)))


# -- sessions -----------------------------------------------------------------------------------------


def organizations_of(user: User) -> OrganizationQuerySet:
    """Return the active organizations that a person is a member of, each once."""
    return _joined(user)


def memberships_by_joining(user: User) -> QuerySet[Membership]:
    """Return a person's memberships with their organizations, active or not, the oldest first.

    A session opens the first active one by default. Accepting an invitation creates a membership without asking the person,
    so a new membership must not change the default.
    """
    if not _is_active(user):
        return Membership.objects.none()
    found = Membership.objects.filter(user_id=user.pk).select_related("organization")
    return found.order_by("created_at", "organization__display_name", "organization__org_id")


def may_open(user: User, organization: Organization) -> bool:
    """Tell whether a person's session may open an organization: it is active, and the person is a member."""
    return organization.pk is not None and _joined(user).filter(pk=organization.pk).exists()


def _joined(user: User, **which: Any) -> OrganizationQuerySet:
    if not _is_active(user):
        return Organization.objects.none()
    # EXISTS instead of a join: a person has one membership per origin, and DISTINCT would break further filters.
    memberships = Membership.objects.filter(user_id=user.pk, organization_id=OuterRef("pk"), **which)
    return Organization.objects.filter(Exists(memberships), is_active=True)


# -- administration -----------------------------------------------------------------------------------------------------


def developer_organizations(user: Actor) -> OrganizationQuerySet:
    """Return the organizations whose keys somebody may manage: for developers their active ones, for operators all."""
    if is_operator(user):
        return Organization.objects.all()
    assert user is not None  # noqa: S101  (for the type checker: None is an operator)
    return _joined(user, role=Role.DEVELOPER)


def may_manage_keys(user: Actor, organization: Organization) -> bool:
    """Tell whether somebody may see, add, verify, rotate and revoke an organization's keys."""
    return is_operator(user) or developer_organizations(user).filter(pk=organization.pk).exists()


def may_manage_members(user: Actor, organization: Organization) -> bool:
    """Tell whether somebody may invite people to an organization and remove members.

    Developers may if ``PARTIUM_DEVELOPERS_MANAGE_MEMBERS`` is set.
    """
    return is_operator(user) or (conf.developers_manage_members and may_manage_keys(user, organization))


def may_manage_organizations(user: Actor) -> bool:
    """Tell whether somebody may create and change organizations, identity providers and grants, and see all of them."""
    return is_operator(user)


def member_organizations(user: Actor) -> OrganizationQuerySet:
    """Return the organizations whose members somebody may manage."""
    if is_operator(user) or conf.developers_manage_members:
        return developer_organizations(user)
    return Organization.objects.none()


def may_enter_key_site(user: Actor) -> bool:
    """Tell whether somebody may enter ``key_site``: operators, and the developers of at least one organization."""
    return is_operator(user) or developer_organizations(user).exists()


def visible_organizations(user: Actor) -> OrganizationQuerySet:
    """Return the organizations that somebody may see in the admin."""
    return developer_organizations(user)


def visible_keys(user: Actor) -> QuerySet[ApiKey]:
    """Return the API keys that somebody may see."""
    return _of_organizations(ApiKey.objects.all(), user, developer_organizations(user))


def visible_events(user: Actor) -> QuerySet[ApiKeyEvent]:
    """Return the key events that somebody may see."""
    return _of_organizations(ApiKeyEvent.objects.all(), user, developer_organizations(user))


def visible_members(user: Actor) -> QuerySet[Membership]:
    """Return the memberships that somebody may see."""
    return _of_organizations(Membership.objects.all(), user, member_organizations(user))


def visible_invitations(user: Actor) -> QuerySet[Invitation]:
    """Return the invitations that somebody may see."""
    return _of_organizations(Invitation.objects.all(), user, member_organizations(user))


def visible_providers(user: Actor) -> QuerySet[IdentityProvider]:
    """Return the identity providers that somebody may see: operators all, others none. The server fetches their URLs."""
    return IdentityProvider.objects.all() if is_operator(user) else IdentityProvider.objects.none()


def visible_grants(user: Actor) -> QuerySet[Grant]:
    """Return the grants that somebody may see: operators all, others none."""
    return Grant.objects.all() if is_operator(user) else Grant.objects.none()


def _of_organizations(rows: QuerySet[M], user: Actor, organizations: QuerySet[Organization]) -> QuerySet[M]:
    # Some databases reject ORDER BY in a subquery.
    return rows if is_operator(user) else rows.filter(organization__in=organizations.order_by().values("pk"))
