"""Who has just logged in: finds or makes the person, and brings rights up to date with the claims, in one transaction."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from partium_auth.accounts import claims as claims_
from partium_auth.conf import conf
from partium_auth.models import EmailDomain, Identity, Membership, Organization, Role
from partium_auth.models.database import database_alias
from partium_auth.models.identities import identity_digest
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider
from partium_auth.services.members import (
    accept_invitations,
    normalize_email,
    set_claimed_memberships,
)

logger = logging.getLogger("partium_auth.login")

_T = TypeVar("_T")
_LONGEST_EMAIL = 254
_USERNAME = re.compile(r"[\w.@+-]{1,150}")


@dataclass
class VerifiedLogin:
    """A login that a provider has vouched for. Only our own callback makes one; the backend acts on nothing else.

    It holds no token: Django hands it to the receivers of ``user_login_failed``.

    Args:
        provider: who vouches.
        claims: verified.
        identity: who it is, once the backend has found or made the person.
        refusal: why the backend did not let the person in.
    """

    provider: Provider
    claims: Mapping[str, Any] = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)
    refusal: Refused | None = None

    @property
    def issuer(self) -> str:
        return str(self.claims["iss"])

    @property
    def subject(self) -> str:
        return str(self.claims["sub"])


class Accounts(Protocol):
    """The base library's hooks, which a site may have overridden on its backend."""

    def verify_claims(self, claims: Any) -> Any: ...

    def filter_users_by_claims(self, claims: Any) -> Iterable[Any]: ...

    def create_user(self, claims: Any) -> Any: ...

    def update_user(self, user: Any, claims: Any) -> Any: ...


def record_login(login: VerifiedLogin, accounts: Accounts) -> Any:
    """Return the user of a verified login, with memberships and roles as the claims say now. Sets ``login.identity``.

    Args:
        login: what the provider vouches for.
        accounts: how a person without an identity is found or made.

    Raises:
        Refused: this person is not let in; nothing was changed.
    """
    return _once_more_on_conflict(lambda: _record_login(login, accounts))


def record_password_login(username: str) -> Identity:
    """Return the identity of somebody who logged in with a Partium user name and password; ``.user`` is the person.

    Args:
        username: exactly as Partium took it.

    Raises:
        Refused: this person is not let in; nothing was changed.
    """
    return _once_more_on_conflict(lambda: _record_password_login(username))


def users_for(login: VerifiedLogin) -> QuerySet[Any]:
    """Return the one user that a login belongs to, or none.

    By issuer and subject; and for a first login by verified e-mail address, where ``PARTIUM_LINK_BY_VERIFIED_EMAIL``
    allows it: only through a site-wide provider, only to an account that is unprivileged, the only one with the
    address, and not anybody's at another provider.

    Raises:
        Refused: the address belongs to an account that this login may not have.
    """
    users = get_user_model()._default_manager
    identity = _find(login.issuer, login.subject)
    if identity is not None:
        return users.filter(pk=identity.user_id)
    same = _users_with_email(login.claims.get("email"))
    if not login.provider.is_site_wide:
        # What an organization's provider says about e-mail addresses is nothing that the site relies on: whoever comes
        # from there gets an account of their own. Only a privileged person's look-alike is refused.
        same = [user for user in same if _is_privileged(user)]
    if not same:
        return users.none()
    if any(_is_privileged(user) for user in same):
        raise Refused("email", "the address of a privileged account is never linked.")
    if not conf.link_by_verified_email or not login.provider.is_site_wide:
        raise Refused("email", "an account has this address; PARTIUM_LINK_BY_VERIFIED_EMAIL would connect it.")
    if not claims_.verified_email(login.claims):
        raise Refused("email_verified", "an account has this address, and the provider does not vouch for it.")
    if len(same) > 1:
        raise Refused("email", "several accounts have this address.")
    if Identity.objects.filter(user_id=same[0].pk).exists():
        raise Refused("email", "the account with this address is somebody's at a provider already.")
    return users.filter(pk=same[0].pk)


def new_username(issuer: str, subject: str, wanted: str) -> str:
    """Return a user name for a new account: the wanted one if it is free and a user name, else one made of the identity.

    Where the site's user names are e-mail addresses, the latter is in a domain that nobody has (RFC 2606).
    """
    model = get_user_model()
    by_email = are_usernames_emails()
    is_name = 0 < len(wanted) <= _LONGEST_EMAIL and (by_email or _USERNAME.fullmatch(wanted) is not None)
    if is_name and not model._default_manager.filter(**{f"{model.USERNAME_FIELD}__iexact": wanted}).exists():
        return wanted
    made = f"p-{identity_digest(issuer, subject)[:30]}"
    return f"{made}@users.invalid" if by_email else made


def are_usernames_emails() -> bool:
    """Tell whether the site's user model has e-mail addresses for user names."""
    model = get_user_model()
    return bool(model.get_email_field_name() == model.USERNAME_FIELD)


def new_user(username: str, email: str = "") -> Any:
    """Return a new user without a password, made by the manager of the site's user model.

    Args:
        username: what its ``USERNAME_FIELD`` gets.
        email: left out where the model has no such field, or has it for the user name.
    """
    model = get_user_model()
    manager: Any = model._default_manager
    name = model.get_email_field_name()
    takes_email = any(field.name == name for field in model._meta.get_fields()) and not are_usernames_emails()
    fields = {name: email if len(email) <= _LONGEST_EMAIL else ""} if takes_email else {}
    return manager.create_user(username, password=None, **fields)


def set_names(user: Any, claims: Mapping[str, Any]) -> list[str]:
    """Set a person's first and last name from the claims, where the user model has these fields; return the fields that changed.

    Where a provider sends a whole ``name`` only, its first word becomes the first name and the rest the last name, so that
    ``get_full_name()`` is the name again; one that has been divided otherwise on this site stays as it is.
    """
    names = {"first_name": claims.get("given_name"), "last_name": claims.get("family_name")}
    whole = claims.get("name")
    if not any(names.values()) and isinstance(whole, str) and whole.strip():
        words = whole.split()
        if words == f"{getattr(user, 'first_name', '')} {getattr(user, 'last_name', '')}".split():
            return []
        names = {"first_name": words[0], "last_name": " ".join(words[1:])}
    changed = []
    for column in user._meta.concrete_fields:
        value = names.get(column.name)
        if isinstance(value, str) and getattr(user, column.name) != value[: column.max_length]:
            setattr(user, column.name, value[: column.max_length])
            changed.append(column.name)
    return changed


def _once_more_on_conflict(record: Callable[[], _T]) -> _T:
    # Two first logins of one person at the same moment: the second one finds what the first one has made.
    for is_last in (False, True):
        try:
            with transaction.atomic(using=database_alias()):
                return record()
        except IntegrityError:
            if is_last:
                break
    raise Refused("account", "the account cannot be stored: a unique value is taken.")


def _record_login(login: VerifiedLogin, accounts: Accounts) -> Any:
    provider, claims = login.provider, dict(login.claims)
    if not accounts.verify_claims(claims):
        raise Refused("claims", "verify_claims() does not accept them.")
    believed = _believed(provider, claims)
    identity = _find(login.issuer, login.subject)
    if identity is not None:
        user = accounts.update_user(_active(identity.user), believed)
    else:
        found = list(accounts.filter_users_by_claims(claims)[:2])  # type: ignore[index]  # a query set, or a list
        if len(found) > 1:
            raise Refused("account", "several accounts fit.")
        if found and not provider.is_site_wide:
            raise Refused("account", "an organization's provider is never linked to an account.")
        if found:
            user = accounts.update_user(_active(found[0]), believed)
        else:
            user = _created(lambda: accounts.create_user(believed))
    if user is None:
        raise Refused("account", "a hook of the backend returned nobody.")
    login.identity = identity = _store_identity(identity, login.issuer, login.subject, user)
    email = claims_.verified_email(believed)
    owner = Organization.objects.get(pk=provider.organization_id) if provider.organization_id else None
    if email:
        accept_invitations(user, email, only=owner)
    roles = _claimed_roles(owner, claims, provider.slug)
    set_claimed_memberships(identity, roles)
    if not roles and not Membership.objects.filter(user_id=user.pk).exists():
        is_missing = claims_.read(claims, conf.organizations_claim) is claims_.MISSING
        logger.warning(
            "A login through %s opens no organization: the claim %r (PARTIUM_ORGANIZATIONS_CLAIM) %s.",
            provider.slug,
            conf.organizations_claim,
            "is missing" if is_missing else "names none that this site has",
        )
    if owner is None:
        _set_privileges(user, claims)
    return user


def _believed(provider: Provider, claims: dict[str, Any]) -> dict[str, Any]:
    """The claims that count for accounts and invitations: an organization's provider gives e-mail addresses in its own domains only.

    Otherwise one customer's provider could take the address, and with it the user name, of anybody who has not been here
    yet, and keep them out; and its people the invitation of somebody from outside.
    """
    if provider.is_site_wide:
        return claims
    domain = claims_.verified_email(claims).rpartition("@")[2].lower()
    domains = EmailDomain.objects.filter(provider__slug=provider.slug).values_list("domain", flat=True)
    if domain and domain in set(domains):
        return claims
    return {name: value for name, value in claims.items() if name not in {"email", "email_verified"}}


def _record_password_login(username: str) -> Identity:
    issuer = conf.api_url
    identity = _find(issuer, username)
    if identity is not None:
        user = _active(identity.user)
    else:
        # Partium vouches for a name, not for an e-mail address.
        wanted = "" if are_usernames_emails() else username
        user = _created(lambda: new_user(new_username(issuer, username, wanted)))
    identity = _store_identity(identity, issuer, username, user)
    roles = {}
    if conf.password_organization is not None:
        found = Organization.objects.named(conf.password_organization)
        roles = {row: Role.MEMBER for row in found if row.org_id == conf.password_organization}
        if not roles:
            logger.warning("PARTIUM_PASSWORD_ORGANIZATION names an organization that does not exist.")
    accept_invitations(user, username)
    set_claimed_memberships(identity, roles)
    return identity


def _find(issuer: str, subject: str) -> Identity | None:
    return Identity.objects.select_related("user").filter(digest=identity_digest(issuer, subject)).first()


def _store_identity(identity: Identity | None, issuer: str, subject: str, user: Any) -> Identity:
    if identity is None:
        identity = Identity(issuer=issuer, subject=subject, digest=identity_digest(issuer, subject))
    identity.user = user
    identity.last_login_at = timezone.now()
    identity.save()
    return identity


def _created(create: Callable[[], Any]) -> Any:
    if not getattr(settings, "OIDC_CREATE_USER", True):
        raise Refused("unknown_person", "there is no account, and OIDC_CREATE_USER is False.")
    return create()


def _active(user: Any) -> Any:
    if not getattr(user, "is_active", True):
        raise Refused("inactive", "the account is deactivated.")
    return user


def _users_with_email(email: object) -> list[Any]:
    model = get_user_model()
    name = model.get_email_field_name()
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return []
    if not isinstance(email, str) or not email.strip():
        return []
    # Compared once more: a database's collation may take other letters for these.
    return [
        user
        for user in model._default_manager.filter(**{f"{name}__iexact": email.strip()})
        if normalize_email(getattr(user, name)) == normalize_email(email)
    ]


def _is_privileged(user: Any) -> bool:
    return bool(getattr(user, "is_staff", False) or getattr(user, "is_superuser", False))


def _claimed_roles(owner: Organization | None, claims: Mapping[str, Any], slug: str) -> dict[Organization, str]:
    """The memberships that claims give. An organization's own provider speaks for that organization and for no other."""
    roles = set(claims_.names(claims, conf.roles_claim))

    def role_in(organization: Organization) -> str:
        wanted = {name for role in conf.developer_roles for name in (role, f"{organization.org_id}:{role}")}
        return Role.DEVELOPER if roles & wanted else Role.MEMBER

    if owner is not None:
        return {owner: role_in(owner)}
    org_ids = claims_.names(claims, conf.organizations_claim)
    found = [row for row in Organization.objects.filter(org_id__in=org_ids) if row.org_id in org_ids]
    unknown = len(org_ids) - len(found)
    if unknown:
        logger.info("%d organizations in the claims of a login through %s are not known here.", unknown, slug)
    return {row: role_in(row) for row in found}


def _set_privileges(user: Any, claims: Mapping[str, Any]) -> None:
    """``is_staff`` and ``is_superuser``, where a setting names the roles that give and take them."""
    roles = set(claims_.names(claims, conf.roles_claim))
    changed = []
    for attribute, giving in (("is_staff", conf.staff_roles), ("is_superuser", conf.superuser_roles)):
        wanted = bool(roles.intersection(giving))
        if giving and hasattr(user, attribute) and getattr(user, attribute) != wanted:
            setattr(user, attribute, wanted)
            changed.append(attribute)
            logger.warning("%s of user %s is now %s, by the roles of a login.", attribute, user.pk, wanted)
    if changed:
        user.save(update_fields=changed)
