"""Find API clients for a session, and for jobs that have no request."""

from __future__ import annotations

import datetime as dt
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.utils import timezone
from django.utils.asyncio import async_unsafe

from partium_auth import policy, signals
from partium_auth.exceptions import LoginRequired, NoOrganization
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Organization
from partium_auth.models.database import database_alias
from partium_auth.models.fingerprints import fingerprint
from partium_auth.models.keys import Usability
from partium_auth.partium.bearers import Bearer, named_in_errors
from partium_auth.tokens import access, keys
from partium_auth.tokens.access import SessionAccess
from partium_auth.tokens.manager import token_manager
from partium_auth.tokens.state import AccessToken, GrantState

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from partium_auth.partium.client import FindClient


LAST_USED_PRECISION = dt.timedelta(minutes=1)
"""A key's last use is written at most this often."""

_in_async_code = async_unsafe("Use the client's async methods in async code, such as await client.asearch(…).")


class Session(Protocol):
    """A session, seen from its client."""

    def opened(self) -> tuple[SessionAccess, str | None]: ...
    async def aopened(self) -> tuple[SessionAccess, str | None]: ...
    def token(self) -> AccessToken: ...
    def replace(self, rejected: AccessToken) -> AccessToken: ...
    async def atoken(self) -> AccessToken: ...
    async def areplace(self, rejected: AccessToken) -> AccessToken: ...


def for_session(session: Session) -> FindClient:
    """Return the client of one session. It reads the session when it sends, not before."""
    return upstream.find_client(_SessionBearers(session), "a session")


@async_unsafe("Use await partium_auth.afor_organization(…) in async code.")
def for_organization(organization: Organization | str, *, user: AbstractBaseUser | None = None) -> FindClient:
    """Return a client that acts for an organization, with its API key. See ``partium_auth.for_organization``."""
    if user is not None and user.pk is None:
        raise ValueError("This user has no primary key, by which Partium could tell people apart.")
    found = Organization.objects.named(organization).filter(is_active=True).first()
    if found is None:
        raise NoOrganization(
            f"There is no active organization {_org_id(organization)!r}. Operators add and activate them in the admin."
        )
    opened = _Opened(_keys_of(found), found.org_id, None if user is None else external_user_id(user.pk))
    return upstream.find_client(_OrganizationBearers(opened), _name(found.org_id, user))


@async_unsafe("Use await partium_auth.afor_user(…) in async code.")
def for_user(user: AbstractBaseUser, organization: Organization | str) -> FindClient:
    """Return a client that acts for a person in an organization. See ``partium_auth.for_user``."""
    bearers = _PersonBearers(user.pk, organization)
    return upstream.find_client(bearers, _name(bearers.open().org_id, user))


def external_user_id(user_pk: object) -> str:
    """Return the stable, opaque id by which Partium tells people apart who share a key; not derived from personal data."""
    return fingerprint("external-user-id", str(user_pk))[:32]


def _org_id(organization: Organization | str) -> str:
    return organization.org_id if isinstance(organization, Organization) else organization


def _name(org_id: str, user: AbstractBaseUser | None) -> str:
    return f"organization {org_id!r}" if user is None else f"user {user.pk} in organization {org_id!r}"


# --- bearers, with the organization and the person that each call is for -------------------------------------------------


class _Tokens(Protocol):
    """Where a secret comes from: a session, a login, or an organization's keys.

    ``rejected`` is the secret that Partium answered with 401; None: there is none.
    """

    def obtain(self, rejected: object) -> AccessToken | _Key: ...
    async def aobtain(self, rejected: object) -> AccessToken | _Key: ...


class _Opened(NamedTuple):
    """Where the secrets of one call come from, and for whom they are used."""

    tokens: _Tokens
    org_id: str
    external_user_id: str | None
    by_key: bool = True

    def bearer(self, secret: AccessToken | _Key) -> Bearer:
        # The grant of an API key has the key's own id.
        by_key = self.by_key and isinstance(secret, AccessToken)
        api_key_id = secret.api_key_id if isinstance(secret, _Key) else secret.grant_id if by_key else None
        return Bearer(secret.value, self.org_id, self.external_user_id, secret, api_key_id)


class _Bearers(ABC):
    """The source of a client."""

    @abstractmethod
    def open(self) -> _Opened: ...

    async def aopen(self) -> _Opened:
        return await sync_to_async(self.open)()

    def current(self) -> Bearer:
        return self._obtain(None)

    def replace(self, rejected: Bearer) -> Bearer:
        return self._obtain(rejected.origin)

    async def acurrent(self) -> Bearer:
        return await self._aobtain(None)

    async def areplace(self, rejected: Bearer) -> Bearer:
        return await self._aobtain(rejected.origin)

    @_in_async_code
    def _obtain(self, rejected: object) -> Bearer:
        opened = self.open()
        with named_in_errors(opened.org_id):
            return opened.bearer(opened.tokens.obtain(rejected))

    async def _aobtain(self, rejected: object) -> Bearer:
        opened = await self.aopen()
        with named_in_errors(opened.org_id):
            return opened.bearer(await opened.tokens.aobtain(rejected))

    def accepted(self, bearer: Bearer) -> None:
        from partium_auth.services.key_usage import record_direct_use

        if isinstance(bearer.origin, _Key) and not bearer.origin.used_lately:
            record_direct_use(bearer.origin.api_key_id)

    async def aaccepted(self, bearer: Bearer) -> None:
        if isinstance(bearer.origin, _Key) and not bearer.origin.used_lately:
            await sync_to_async(self.accepted)(bearer)


@dataclass(frozen=True)
class _OrganizationBearers(_Bearers):
    opened: _Opened

    def open(self) -> _Opened:
        return self.opened

    async def aopen(self) -> _Opened:
        return self.opened


@dataclass(frozen=True)
class _SessionBearers(_Bearers):
    session: Session

    def open(self) -> _Opened:
        return self._opened(*self.session.opened())

    async def aopen(self) -> _Opened:
        return self._opened(*await self.session.aopened())

    def _opened(self, found: SessionAccess, external_user_id: str | None) -> _Opened:
        direct = found.token_source == Organization.TokenSource.API_KEY_DIRECT
        tokens = _DirectKeys(found.organization_id) if direct else _SessionTokens(self.session)
        return _Opened(tokens, found.org_id, external_user_id, found.token_source != Organization.TokenSource.USER)


@dataclass(frozen=True)
class _PersonBearers(_Bearers):
    """Reads anew for each call whether the person is a member, and which of their logins is the newest that lives."""

    user_pk: Any
    organization: Organization | str

    def open(self) -> _Opened:
        user = get_user_model()._base_manager.using(database_alias()).filter(pk=self.user_pk).first()
        found = None if user is None else policy.organizations_of(user).named(self.organization).first()
        if found is None:
            raise NoOrganization(
                f"Organization {_org_id(self.organization)!r} is not active, or not open to user {self.user_pk}."
            )
        if found.token_source != Organization.TokenSource.USER:
            return _Opened(_keys_of(found), found.org_id, external_user_id(self.user_pk))
        login = self._newest_login(found)
        return _Opened(_Grants(lambda: (login,)), found.org_id, None, by_key=False)

    def _newest_login(self, organization: Organization) -> GrantState:
        refusal: LoginRequired | None = None
        for found in access.read_newest(self.user_pk, organization.pk):
            if found.own is None:
                break
            try:
                policy.require_permitted(found, now=token_manager.clock())
            except LoginRequired as error:
                refusal = refusal or error
            except NoOrganization:
                continue
            else:
                return found.own.state
        raise LoginRequired(
            f"Organization {organization.org_id!r}: user {self.user_pk} has no living login that may use it."
            + ("" if refusal is None else f" The newest one: {refusal}"),
            provider="" if refusal is None else refusal.provider,
        )


# --- secrets ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SessionTokens:
    session: Session

    def obtain(self, rejected: object) -> AccessToken:
        return self.session.replace(rejected) if isinstance(rejected, AccessToken) else self.session.token()

    async def aobtain(self, rejected: object) -> AccessToken:
        return await (self.session.areplace(rejected) if isinstance(rejected, AccessToken) else self.session.atoken())


@dataclass(frozen=True)
class _Grants:
    """Tokens of a login, or of an organization's keys.

    Args:
        read: the grants, in the order in which they should serve.
    """

    read: Callable[[], tuple[GrantState, ...]]

    def obtain(self, rejected: object) -> AccessToken:
        return token_manager.obtain_first(self.read(), rejected if isinstance(rejected, AccessToken) else None)

    async def aobtain(self, rejected: object) -> AccessToken:
        seen = rejected if isinstance(rejected, AccessToken) else None
        return await token_manager.aobtain_first(await sync_to_async(self.read)(), seen)


def _keys_of(organization: Organization) -> _Tokens:
    if organization.token_source == Organization.TokenSource.API_KEY_DIRECT:
        return _DirectKeys(organization.pk)
    return _Grants(partial(_key_grants, organization.pk))


def _key_grants(organization_id: uuid.UUID) -> tuple[GrantState, ...]:
    found = keys.read(organization_id)
    if not found.candidates:
        raise keys.no_usable_key(refused=found.refused)
    return found.candidates


@dataclass(frozen=True)
class _Key:
    value: str = field(repr=False)
    api_key_id: uuid.UUID
    used_lately: bool = False
    """Its last use was written a moment ago."""


@dataclass(frozen=True)
class _DirectKeys:
    organization_id: uuid.UUID

    def obtain(self, rejected: object) -> _Key:
        refused = rejected.api_key_id if isinstance(rejected, _Key) else None
        if refused is not None:
            signals.key_rejected.send_robust(sender=ApiKey, key_id=refused, status=401)
        found = keys.in_order(self.organization_id)
        for key in found:
            if key.usability == Usability.USABLE and key.pk != refused:
                return _opened(key)
        raise keys.no_usable_key(refused=bool(found))

    async def aobtain(self, rejected: object) -> _Key:
        return await sync_to_async(self.obtain)(rejected)


def _opened(key: ApiKey) -> _Key:
    used = key.last_used_at if key.rejected_at is None else None
    used_lately = used is not None and timezone.now() - used < LAST_USED_PRECISION
    return _Key(key.secret.reveal(), key.pk, used_lately)
