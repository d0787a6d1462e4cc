"""Find API clients for a session and for an organization."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from asgiref.sync import sync_to_async
from django.utils import timezone

from partium_auth.exceptions import NoOrganization
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Organization
from partium_auth.models.fingerprints import fingerprint
from partium_auth.models.keys import Usability
from partium_auth.tokens import keys
from partium_auth.tokens.manager import token_manager
from partium_auth.tokens.state import AccessToken, GrantState

if TYPE_CHECKING:
    from partium_auth.partium.client import Bearer, FindClient


LAST_USED_PRECISION = dt.timedelta(minutes=1)
"""A key that is sent with every search is not written to with every search."""


class TokenHolder(Protocol):
    """A session, seen from its client."""

    def token(self) -> AccessToken: ...
    def replace(self, rejected: AccessToken) -> AccessToken: ...
    async def atoken(self) -> AccessToken: ...
    async def areplace(self, rejected: AccessToken) -> AccessToken: ...


def for_session(session: TokenHolder, organization: Organization, user_pk: object) -> FindClient:
    """Return the client of one session.

    Args:
        session: where access tokens come from.
        organization: the active one.
        user_pk: who; where the organization's key is shared, Partium is told an opaque id of the person.
    """
    if organization.token_source == Organization.TokenSource.USER:
        return upstream.find_client(_SessionBearers(session), organization.org_id)
    person = external_user_id(user_pk)
    if organization.token_source == Organization.TokenSource.API_KEY_DIRECT:
        return upstream.find_client(_DirectKeys(organization.pk), organization.org_id, person)
    return upstream.find_client(_SessionBearers(session), organization.org_id, person)


def for_organization(org_id: str) -> FindClient:
    """Return a client that acts for an organization, with its API key. See ``partium_auth.for_organization``."""
    organization = Organization.objects.named(org_id).filter(is_active=True).first()
    if organization is None:
        raise NoOrganization(
            f"There is no active organization {org_id!r}. Operators add and activate them in the admin."
        )
    if organization.token_source == Organization.TokenSource.API_KEY_DIRECT:
        return upstream.find_client(_DirectKeys(organization.pk), organization.org_id)
    return upstream.find_client(_ExchangedKeys(organization.pk), organization.org_id)


def external_user_id(user_pk: object) -> str:
    """Return the stable, opaque id by which Partium tells people apart who share a key; not derived from personal data."""
    return fingerprint("external-user-id", str(user_pk))[:32]


@dataclass(frozen=True)
class _SessionBearers:
    session: TokenHolder

    def current(self) -> AccessToken:
        return self.session.token()

    def replace(self, rejected: Bearer) -> AccessToken:
        return self.session.replace(rejected) if isinstance(rejected, AccessToken) else self.session.token()

    async def acurrent(self) -> AccessToken:
        return await self.session.atoken()

    async def areplace(self, rejected: Bearer) -> AccessToken:
        return await (self.session.areplace(rejected) if isinstance(rejected, AccessToken) else self.session.atoken())


@dataclass(frozen=True)
class _ExchangedKeys:
    organization_id: uuid.UUID

    def current(self) -> AccessToken:
        return token_manager.obtain_first(self._candidates())

    def replace(self, rejected: Bearer) -> AccessToken:
        return token_manager.obtain_first(self._candidates(), rejected if isinstance(rejected, AccessToken) else None)

    async def acurrent(self) -> AccessToken:
        return await token_manager.aobtain_first(await sync_to_async(self._candidates)())

    async def areplace(self, rejected: Bearer) -> AccessToken:
        candidates = await sync_to_async(self._candidates)()
        return await token_manager.aobtain_first(candidates, rejected if isinstance(rejected, AccessToken) else None)

    def _candidates(self) -> tuple[GrantState, ...]:
        found = keys.read(self.organization_id)
        if not found.candidates:
            raise keys.no_usable_key(refused=found.refused)
        return found.candidates


@dataclass(frozen=True)
class _Key:
    value: str = field(repr=False)
    api_key_id: uuid.UUID
    used_lately: bool = False
    """What administration says of its use is right, and need not be written again."""


@dataclass(frozen=True)
class _DirectKeys:
    organization_id: uuid.UUID

    def current(self) -> _Key:
        return self._first(refused=None)

    def replace(self, rejected: Bearer) -> _Key:
        from partium_auth.signals import key_rejected

        refused = rejected.api_key_id if isinstance(rejected, _Key) else None
        if refused is not None:
            key_rejected.send_robust(sender=ApiKey, key_id=refused, status=401)
        return self._first(refused=refused)

    def _first(self, *, refused: uuid.UUID | None) -> _Key:
        found = keys.in_order(self.organization_id)
        for key in found:
            if key.usability == Usability.USABLE and key.pk != refused:
                return _opened(key)
        raise keys.no_usable_key(refused=bool(found))

    async def acurrent(self) -> _Key:
        return await sync_to_async(self.current)()

    async def areplace(self, rejected: Bearer) -> _Key:
        return await sync_to_async(self.replace)(rejected)

    def accepted(self, bearer: Bearer) -> None:
        from partium_auth.services.key_usage import record_direct_use

        if isinstance(bearer, _Key) and not bearer.used_lately:
            record_direct_use(bearer.api_key_id)

    async def aaccepted(self, bearer: Bearer) -> None:
        if isinstance(bearer, _Key) and not bearer.used_lately:
            await sync_to_async(self.accepted)(bearer)


def _opened(key: ApiKey) -> _Key:
    used = key.last_used_at if key.rejected_at is None else None
    used_lately = used is not None and timezone.now() - used < LAST_USED_PRECISION
    return _Key(key.secret.reveal(), key.pk, used_lately)
