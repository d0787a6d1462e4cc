"""Who may see and change what. Admin, commands and services ask here; no other module decides it.

Superusers may do everything. Developers may manage the API keys of their organizations, and the members if the settings say
so. Inactive, anonymous and all other people may do nothing. The actor ``None`` is the system itself.

A person who acts in a session (:class:`SessionActor`) may do this only in the organizations that the session's login may open:
:func:`require_permitted` is that rule, for access tokens and for administration. Superusers are exempt in administration, so
that they can repair a provider that nobody can log in through. A command's ``--as USER`` has no session.

Which organizations a session may open depends on membership and login alone, for superusers too.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, Union

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Q, QuerySet

from partium_auth.conf import conf
from partium_auth.exceptions import FreshLoginRequired, LoginRequired, NoOrganization, PartiumError
from partium_auth.models import (
    ApiKey,
    AuditEvent,
    Grant,
    Identity,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Role,
)
from partium_auth.models.audit_events import NOT_OF_PEOPLE
from partium_auth.models.database import database_alias
from partium_auth.tokens.access import read_login
from partium_auth.tokens.manager import token_manager

if TYPE_CHECKING:
    import uuid

    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.db.models import Model

    from partium_auth.models.organizations import OrganizationQuerySet
    from partium_auth.tokens.access import OwnGrant, SessionAccess

    User = AbstractBaseUser | AnonymousUser
    Actor = Union[User, "SessionActor", None]  # noqa: UP007  # SessionActor is defined below

    M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class SessionActor:
    """A person who acts in a session.

    Args:
        user: who is logged in.
        grant_id: the grant that the session names; None: it logged in through another backend.
        logged_in_at: when it last did so, by the database's clock in seconds since the epoch; None: not known.
        address: the IP address that the request came from, for the events.
    """

    user: User
    grant_id: uuid.UUID | None
    logged_in_at: float | None = None
    address: str | None = None

    @property
    def pk(self) -> Any:
        """The person's primary key."""
        return self.user.pk

    def get_username(self) -> str:
        """Return the person's user name."""
        return self.user.get_username()

    @cached_property
    def open_to_login(self) -> list[uuid.UUID]:
        """The primary keys of the person's organizations that the login may open as a developer's. What writes asks anew."""
        return [pk for pk, refusal in _refusals(self, _as_developer(self)) if refusal is None]


def _is_active(user: User) -> TypeGuard[AbstractBaseUser]:
    # A site's user model may lack attributes of Django's.
    return bool(user.is_authenticated and getattr(user, "is_active", False) and user.pk is not None)


def is_operator(user: Actor) -> bool:
    """Tell whether somebody may do everything: an active superuser, or the system itself (None)."""
    person = _person(user)
    return person is None or (_is_active(person) and bool(getattr(person, "is_superuser", False)))


def require_operator(actor: Actor) -> None:
    """Raise PermissionDenied unless somebody may do everything: organizations, providers, identities, logins, erasure."""
    if not is_operator(actor):
        raise PermissionDenied


def _person(user: Actor) -> User | None:
    return user.user if isinstance(user, SessionActor) else user


# -- sessions -----------------------------------------------------------------------------------------


def organizations_of(user: User, **membership: Any) -> OrganizationQuerySet:
    """Return the active organizations that a person is a member of, each once; ``membership`` says with which ``role``."""
    if not _is_active(user):
        return Organization.objects.none()
    # EXISTS instead of a join: a person has one membership per origin, and DISTINCT would break further filters.
    memberships = Membership.objects.filter(user_id=user.pk, organization_id=OuterRef("pk"), **membership)
    return Organization.objects.filter(Exists(memberships), is_active=True)


def memberships_by_joining(user: User) -> QuerySet[Membership]:
    """Return a person's memberships with their organizations, active or not, the oldest first.

    A session opens the first active one by default. Accepting an invitation creates a membership without asking the person,
    so a new membership must not change the default.
    """
    if not _is_active(user):
        return Membership.objects.none()
    found = Membership.objects.using(database_alias()).filter(user_id=user.pk).select_related("organization")
    return found.order_by("created_at", "organization__display_name", "organization__org_id")


def require_permitted(access: SessionAccess, *, now: float) -> None:
    """Raise unless a session's login may use an organization.

    Args:
        access: what was read of the session and the organization.
        now: seconds since the epoch.

    Raises:
        LoginRequired: the login was ended, is too old, or was made at another provider than the organization requires.
        NoOrganization: the login's provider belongs to another organization.
    """
    _require_permitted(access.own, access.names_grant, access.organization_id, access.required_provider, now)


def _require_permitted(
    own: OwnGrant | None, names_grant: bool, organization_id: uuid.UUID, required_provider: str | None, now: float
) -> None:
    if own is None:
        if names_grant:
            raise LoginRequired("This login has been ended.")
        if required_provider is not None:
            raise _wrong_provider(required_provider)
        return
    if own.state.revoked:
        raise LoginRequired("This login has been ended.")
    if not own.provider_active:
        raise LoginRequired("The identity provider of this login is not active any more.")
    if own.provider_organization_id not in (None, organization_id):
        raise NoOrganization("A login through an organization's own identity provider opens that one only.")
    if required_provider is not None and required_provider != own.state.provider:
        raise _wrong_provider(required_provider)
    require_recent_login(own.authenticated_at, own.state.provider, now=now)


def require_recent_login(authenticated_at: float | None, provider: str, *, now: float) -> None:
    """Raise LoginRequired where a login is older than ``PARTIUM_REAUTHENTICATE_AFTER`` allows.

    Args:
        authenticated_at: when it was made; seconds since the epoch.
        provider: slug of its identity provider, where the next login is.
        now: seconds since the epoch.
    """
    limit_seconds = conf.reauthenticate_after_seconds
    if limit_seconds is not None and now - (authenticated_at or 0) > limit_seconds:
        raise LoginRequired("This login is older than PARTIUM_REAUTHENTICATE_AFTER allows.", provider=provider)


def _wrong_provider(required: str) -> LoginRequired:
    return LoginRequired("The organization requires a login through its identity provider.", provider=required)


def require_fresh_login(actor: Actor) -> dt.datetime | None:
    """Return until when somebody may add, rotate and revoke keys and invite people without another login.

    ``PARTIUM_FRESH_LOGIN_MINUTES`` asks for it. None: no login is asked for. Operators are exempt, and so is who acts without a
    session.

    Raises:
        FreshLoginRequired: the person proved who they are too long ago, or it is not known when.
    """
    minutes = conf.fresh_login_minutes
    if minutes is None or not isinstance(actor, SessionActor) or is_operator(actor):
        return None
    rows = Grant.objects.using(database_alias()).filter(user_id=actor.pk)
    own = actor.grant_id and rows.filter(pk=actor.grant_id).values_list("provider", "auth_time").first()
    provider, auth_time = own or ("", None)
    until = max(auth_time or 0, actor.logged_in_at or 0) + minutes * 60
    if until < token_manager.clock():
        text = f"The login is older than {minutes} minutes (PARTIUM_FRESH_LOGIN_MINUTES), or its time is not known."
        raise FreshLoginRequired(text, provider=provider, of_the_site=actor.grant_id is None)
    return dt.datetime.fromtimestamp(until, dt.UTC)


# -- administration -----------------------------------------------------------------------------------------------------


def developer_organizations(user: Actor) -> OrganizationQuerySet:
    """Return the organizations whose keys somebody manages: operators all, developers the active ones that the login opens."""
    if is_operator(user):
        return Organization.objects.all()
    found = _as_developer(user)
    if isinstance(user, SessionActor):
        found = found.filter(pk__in=user.open_to_login)
    return found


def why_closed(user: Actor) -> LoginRequired | None:
    """Return why a developer's login opens none of their organizations, where another login would; None: it opens one."""
    if is_operator(user) or not isinstance(user, SessionActor):
        return None
    refusals = [refusal for _pk, refusal in _refusals(user, _as_developer(user))]
    return None if None in refusals else next((one for one in refusals if isinstance(one, LoginRequired)), None)


def _as_developer(user: Actor) -> OrganizationQuerySet:
    person = _person(user)
    assert person is not None  # noqa: S101  (for the type checker: None is an operator)
    # The account may have been deactivated since the request began.
    return organizations_of(person, role=Role.DEVELOPER, **active_people("user__"))


def _refusals(actor: SessionActor, organizations: OrganizationQuerySet) -> list[tuple[uuid.UUID, PartiumError | None]]:
    """Return each organization's primary key, and why the session's login may not open it, or None."""
    rows = list(organizations.order_by().values_list("pk", "required_provider__slug"))
    own = read_login(actor.pk, actor.grant_id) if rows and actor.grant_id is not None else None
    now, found = token_manager.clock(), list[tuple[Any, PartiumError | None]]()
    for pk, required_provider in rows:
        refusal: PartiumError | None = None
        try:
            _require_permitted(own, actor.grant_id is not None, pk, required_provider, now)
        except (LoginRequired, NoOrganization) as error:
            refusal = error
        found.append((pk, refusal))
    return found


def may_manage_keys(user: Actor, organization: Organization) -> bool:
    """Tell whether somebody may see, add, verify, rotate and revoke an organization's keys."""
    if is_operator(user):
        return True
    found = _as_developer(user).using(database_alias()).filter(pk=organization.pk)
    if isinstance(user, SessionActor):
        return any(refusal is None for _pk, refusal in _refusals(user, found))
    return found.exists()


def may_manage_members(user: Actor, organization: Organization) -> bool:
    """Tell whether somebody may invite people to an organization and remove members.

    Developers may if ``PARTIUM_DEVELOPERS_MANAGE_MEMBERS`` is set.
    """
    return is_operator(user) or (conf.developers_manage_members and may_manage_keys(user, organization))


def member_organizations(user: Actor) -> OrganizationQuerySet:
    """Return the organizations whose members somebody may manage."""
    return developer_organizations(user) if _sees_people(user) else Organization.objects.none()


def has_developer(organization: Organization, *, besides: Any = None) -> bool:
    """Tell whether an organization has a developer whose account is active, or none but the site's operators can manage it.

    ``besides`` is the primary key of a person who does not count.
    """
    rows = Organization.objects.using(database_alias()).filter(pk=organization.pk)
    return not rows.filter(lacks_developer(besides)).exists()


def lacks_developer(besides: Any = None) -> Q:
    """Return the condition for organizations without a developer, not counting the person with the primary key ``besides``."""
    rows = Membership.objects.filter(organization_id=OuterRef("pk"), role=Role.DEVELOPER, **active_people("user__"))
    return ~Q(Exists(rows.exclude(user_id=besides)))


def active_people(prefix: str = "") -> dict[str, bool]:
    """Return the lookup of people whose account is active; empty where the site's user model has no such column.

    ``prefix`` is that of the column, such as ``user__``.
    """
    columns = {column.name for column in get_user_model()._meta.concrete_fields}
    return {f"{prefix}is_active": True} if "is_active" in columns else {}


def may_enter_key_site(user: Actor) -> bool:
    """Tell whether somebody may enter ``key_site``: operators, and the developers of at least one organization."""
    return is_operator(user) or developer_organizations(user).exists()


def visible_keys(user: Actor) -> QuerySet[ApiKey]:
    """Return the API keys that somebody may see."""
    return _of_organizations(ApiKey.objects.all(), user, developer_organizations(user))


def visible_events(user: Actor) -> QuerySet[AuditEvent]:
    """Return the events that somebody may see: operators all, developers those of their organizations.

    Those that manage no members see what happened to keys and to the organization itself.
    """
    events = AuditEvent.objects.all() if _sees_people(user) else AuditEvent.objects.filter(action__in=NOT_OF_PEOPLE)
    return _of_organizations(events, user, developer_organizations(user))


def visible_members(user: Actor) -> QuerySet[Membership]:
    """Return the memberships that somebody may see."""
    return _of_organizations(Membership.objects.all(), user, member_organizations(user))


def visible_invitations(user: Actor) -> QuerySet[Invitation]:
    """Return the invitations that somebody may see."""
    return _of_organizations(Invitation.objects.all(), user, member_organizations(user))


def visible_providers(user: Actor) -> QuerySet[IdentityProvider]:
    """Return the identity providers that somebody may see: operators all, others none. The server fetches their URLs."""
    return IdentityProvider.objects.all() if is_operator(user) else IdentityProvider.objects.none()


def visible_identities(user: Actor) -> QuerySet[Identity]:
    """Return the identities that somebody may see: operators all, others none."""
    return Identity.objects.all() if is_operator(user) else Identity.objects.none()


def visible_grants(user: Actor) -> QuerySet[Grant]:
    """Return the grants that somebody may see: operators all, others none."""
    return Grant.objects.all() if is_operator(user) else Grant.objects.none()


def _sees_people(user: Actor) -> bool:
    return is_operator(user) or conf.developers_manage_members


def _of_organizations(rows: QuerySet[M], user: Actor, organizations: QuerySet[Organization]) -> QuerySet[M]:
    # Some databases reject ORDER BY in a subquery.
    return rows if is_operator(user) else rows.filter(organization__in=organizations.order_by().values("pk"))
