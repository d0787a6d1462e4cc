"""Whose account a verified login is: found by issuer and subject, or connected or created at a first login."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, PermissionDenied, SuspiciousOperation
from django.db import DataError, IntegrityError, OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from partium_auth.accounts import claims as claims_
from partium_auth.accounts import memberships_from_claims
from partium_auth.accounts.login_events import record_link
from partium_auth.conf import conf
from partium_auth.models import Identity
from partium_auth.models.database import database_alias
from partium_auth.models.identities import identity_digest
from partium_auth.models.texts import canonical_email
from partium_auth.oidc.errors import Refused
from partium_auth.tokens.verified_login import VerifiedLogin

T = TypeVar("T")


class Hooks(Protocol):
    """The base library's hooks, which a site may have overridden on its backend."""

    def verify_claims(self, claims: Any) -> Any: ...

    def filter_users_by_claims(self, claims: Any) -> Iterable[Any]: ...

    def create_user(self, claims: Any) -> Any: ...

    def update_user(self, user: Any, claims: Any) -> Any: ...


def record_login(login: VerifiedLogin, hooks: Hooks) -> Any:
    """Return the user of a verified login, with memberships and roles as the claims say now.

    Args:
        login: gets ``user``, ``identity`` and ``organizations``. With a Partium user name and password it has no provider, and
            Partium vouches for the user name only (``sub``).
        hooks: how a person without an identity is found or created.

    Raises:
        Refused: this person is not let in. Of a first login nothing is stored.
    """
    provider, claims = login.provider, dict(login.claims)
    if not _ask(hooks.verify_claims, claims):
        raise Refused("claims", "verify_claims() does not accept them.")
    believed = claims if provider is None else memberships_from_claims.believed_claims(provider, claims)
    digest = identity_digest(login.issuer, login.subject)

    def first_login() -> Identity:
        with transaction.atomic(using=database_alias()):
            user = _first_user(login, hooks, claims, believed, may_link=provider is None or provider.is_site_wide)
            identity = Identity(issuer=login.issuer, subject=login.subject, digest=digest, user=_somebody(user))
            identity.last_login_at = timezone.now()
            identity.save(force_insert=True)
            _follow(login, identity, claims, believed)
        return identity

    def later_login(identity: Identity) -> Identity:
        # No transaction around this: each step is one, and repeating a step changes nothing.
        identity.user = _somebody(_ask(hooks.update_user, _active(identity.user), believed))
        Identity.objects.filter(pk=identity.pk).update(user=identity.user, last_login_at=timezone.now())
        _follow(login, identity, claims, believed)
        return identity

    def find() -> Identity | None:
        return Identity.objects.using(database_alias()).select_related("user").filter(digest=digest).first()

    def record() -> Identity:
        if (identity := find()) is None:
            try:
                return first_login()
            except Refused:
                # Another login of the same person may have created the account meanwhile, which then has the address.
                if (identity := find()) is None:
                    raise
        return later_login(identity)

    login.identity = retry_on_conflict(record)
    login.user = login.identity.user
    return login.user


def _follow(login: VerifiedLogin, identity: Identity, claims: dict[str, Any], believed: dict[str, Any]) -> None:
    if login.provider is None:
        found = memberships_from_claims.follow_password_login(identity, login.subject, address=login.address)
    else:
        found = memberships_from_claims.follow_claims(identity, login.provider, claims, believed, address=login.address)
    organizations, has_joined = found
    login.organizations = organizations
    login.has_joined = login.has_joined or has_joined  # this step may be repeated


def users_for(login: VerifiedLogin) -> QuerySet[Any]:
    """Return the one user that a first login may be connected with, or none.

    By verified e-mail address, where ``PARTIUM_LINK_BY_VERIFIED_EMAIL`` allows it: only through a site-wide provider, only
    to an account that is unprivileged, the only one with the address, and not anybody's at another provider.

    Raises:
        Refused: the address belongs to an account that this login may not have.
    """
    users = get_user_model()._default_manager
    is_site_wide = login.provider is not None and login.provider.is_site_wide
    # An address that the provider does not vouch for is not compared: it would lock out whose it is.
    same = _users_with_email(claims_.verified_email(login.claims))
    if not is_site_wide:
        # The site does not trust an organization's provider for e-mail addresses, so its people get accounts of their own.
        # Only the address of a privileged account is refused.
        same = [user for user in same if _is_privileged(user)]
    if not same:
        return users.none()
    if any(_is_privileged(user) for user in same):
        raise Refused("email", "the address of a privileged account is never linked.")
    if not conf.link_by_verified_email or not is_site_wide:
        raise Refused("email", "an account has this address; PARTIUM_LINK_BY_VERIFIED_EMAIL would connect it.")
    if len(same) > 1:
        raise Refused("email", "several accounts have this address.")
    if Identity.objects.filter(user_id=same[0].pk).exists():
        raise Refused("email", "the account with this address is somebody's at a provider already.")
    return users.filter(pk=same[0].pk)


def retry_on_conflict(record: Callable[[], T]) -> T:
    """Call again once after an IntegrityError: the second of two simultaneous first logins finds what the first has created.

    Raises:
        Refused: a unique value is still taken, or the database cannot store a value.
    """
    for is_last in (False, True):
        try:
            return record()
        except IntegrityError:
            if is_last:
                break
        except (DataError, OperationalError) as e:
            # MariaDB with utf8mb3 says 1366 of an emoji; other operational errors are the database's own.
            if isinstance(e, OperationalError) and e.args[:1] != (1366,):
                raise
            raise Refused(
                "storage", "the database cannot store a value of the account: too long, or not in its charset."
            ) from None
    raise Refused("account", "the account cannot be stored: a unique value is taken.")


def _ask(hook: Callable[..., Any], *args: Any) -> Any:
    """Call a hook. It may refuse the person by PermissionDenied or SuspiciousOperation, as with the base library."""
    try:
        return hook(*args)
    except (PermissionDenied, SuspiciousOperation) as e:
        # Not its text: it may quote a claim.
        raise Refused("claims", f"{getattr(hook, '__name__', hook)}() raised {type(e).__name__}.") from None


def _first_user(login: VerifiedLogin, hooks: Hooks, claims: Any, believed: Any, *, may_link: bool) -> Any:
    """Return the account of a first login: one that the hooks find for the claims, or a new one."""
    found = list(_ask(hooks.filter_users_by_claims, claims)[:2])  # a query set, or a list
    if len(found) > 1:
        raise Refused("account", "several accounts fit.")
    if found and not may_link:
        raise Refused("account", "an organization's provider is never linked to an account.")
    if found:
        user = _ask(hooks.update_user, _active(found[0]), believed)
        record_link(login, user)
        return user
    if not getattr(settings, "OIDC_CREATE_USER", True):
        raise Refused("unknown_person", "there is no account, and OIDC_CREATE_USER is False.")
    return _ask(hooks.create_user, believed)


def _somebody(user: Any) -> Any:
    if user is None:
        raise Refused("account", "a hook of the backend returned nobody.")
    return user


def _active(user: Any) -> Any:
    if not getattr(user, "is_active", True):
        raise Refused("inactive", "the account is deactivated.")
    return user


def _users_with_email(email: str) -> list[Any]:
    model = get_user_model()
    name = model.get_email_field_name()
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return []
    if not canonical_email(email):
        return []
    # Compare again in Python: a database's collation may treat other letters as equal.
    return [
        user
        for user in model._default_manager.filter(**{f"{name}__iexact": email.strip()})
        if canonical_email(getattr(user, name)) == canonical_email(email)
    ]


def _is_privileged(user: Any) -> bool:
    return bool(getattr(user, "is_staff", False) or getattr(user, "is_superuser", False))
