"""``request.partium``: one session's organization, token and client.

The session holds a grant's id and an organization's, written at login and by the person's own switch of organization,
never by a renewal. Nothing is read before it is asked for.
"""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import Error as AnyDatabaseError
from django.db import transaction

from partium_auth import clients, policy
from partium_auth.accounts import sessions
from partium_auth.conf import conf
from partium_auth.exceptions import LoginRequired, NoOrganization, NoUsableKey
from partium_auth.models import Organization
from partium_auth.models.database import database_alias
from partium_auth.tokens import access, grants, invalidation
from partium_auth.tokens.access import SessionAccess
from partium_auth.tokens.grants import CachedGrant, GrantState
from partium_auth.tokens.invalidation import Slot
from partium_auth.tokens.manager import Issued, token_manager

if TYPE_CHECKING:
    from django.http import HttpRequest

    from partium_auth.partium.client import FindClient


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A usable access token. Its ``repr`` does not show it."""

    issued: Issued = field(repr=False)
    _view: SessionAccess = field(repr=False)

    @property
    def value(self) -> str:
        """The bearer."""
        return self.issued.value

    @property
    def expires_at(self) -> dt.datetime:
        """When it expires, by this machine's clock."""
        return dt.datetime.fromtimestamp(self.issued.expires_at, tz=dt.UTC)

    @property
    def organization(self) -> Organization:
        """The active organization it was obtained for."""
        return _organization(self._view)


@dataclass(frozen=True, slots=True)
class TokenState:
    """What may be shown of a session's access token: everything but the token.

    Args:
        window: ``fresh``, ``advisory``, ``mandatory``, ``unusable``; ``none`` where no token has been obtained yet.
        seconds_left: until it expires.
        lifetime_seconds: how long it lives in all.
        generation: how many tokens the grant has had.
        source: ``oidc``, ``password`` or ``api_key``.
    """

    window: str
    seconds_left: int
    lifetime_seconds: int
    generation: int
    source: str


class PartiumSession:
    """What a view has as ``request.partium``. Every method that may do I/O has a twin for async views, with an ``a``."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._view: SessionAccess | None = None
        self._slot: Slot | None = None  # where the view may be cached; its value is the view, if it came from there
        self._token: AccessToken | None = None

    def __repr__(self) -> str:
        return "<PartiumSession>"

    def forget(self) -> None:
        """Forget what this request has read: somebody has logged in or out, or switched organization."""
        self._view = self._slot = self._token = None
        self.__dict__.pop("client", None)

    # --- organization --------------------------------------------------------------------------------------------

    @property
    def organization(self) -> Organization | None:
        """The session's active organization, or None: not logged in, member of none, or no longer of this one."""
        try:
            return _organization(self._reading())
        except (LoginRequired, NoOrganization):
            return None

    async def aorganization(self) -> Organization | None:
        """Like :attr:`organization`."""
        return await sync_to_async(lambda: self.organization)()

    @property
    def organizations(self) -> list[Organization]:
        """The active organizations that the person is a member of."""
        user = self._request.user
        return list(policy.organizations_of(user)) if user.is_authenticated else []

    async def aorganizations(self) -> list[Organization]:
        """Like :attr:`organizations`."""
        return await sync_to_async(lambda: self.organizations)()

    def switch_organization(self, organization: Organization | str) -> None:
        """Make another organization the session's active one.

        Args:
            organization: the organization, or Partium's id of it.

        Raises:
            LoginRequired: nobody is logged in.
            NoOrganization: it does not exist, is not active, or is not open to this person or this login. Which of these
                is not told.
        """
        user = self._user()
        wanted = policy.organizations_of(user)
        if isinstance(organization, Organization):
            wanted = wanted.filter(pk=organization.pk)
        else:
            wanted = wanted.named(organization)
        found = wanted.first()
        if found is None:
            raise NoOrganization("This organization is not open to this person.")
        view = access.read(user.pk, self._grant_id(), found.pk)
        if view is None:
            raise NoOrganization("This organization is not open to this person.")
        self._check(view)
        self._request.session[sessions.ORGANIZATION] = str(found.pk)
        self.forget()

    async def aswitch_organization(self, organization: Organization | str) -> None:
        """Like :meth:`switch_organization`."""
        await sync_to_async(self.switch_organization)(organization)

    # --- token ---------------------------------------------------------------------------------------------------

    @property
    def access_token(self) -> str:
        """A bearer that is not about to expire. See :meth:`token` for what it raises."""
        return self.token().value

    def token(self) -> AccessToken:
        """Return the session's access token, fetched or renewed if need be.

        Raises:
            LoginRequired: nobody is logged in, or the login has come to its end.
            NoOrganization: the person belongs to no active organization, or not to the session's any more.
            NoUsableKey: the organization has no API key to use.
            KeyRejected: Partium refuses the organization's API key.
            TokenUnavailable: not now; ``retry_after`` says when.
        """
        if self._token is not None and token_manager.clock() < self._token.issued.recheck_at:
            return self._token
        return self._obtain(None)

    async def atoken(self) -> AccessToken:
        """Like :meth:`token`, without blocking the event loop."""
        if self._token is not None and token_manager.clock() < self._token.issued.recheck_at:
            return self._token
        return await self._aobtain(None)

    def replace(self, rejected: AccessToken) -> AccessToken:
        """Return another access token than one that Partium answered with 401. One renewal, whoever asks for it."""
        self._token = None
        return self._obtain(rejected.issued)

    async def areplace(self, rejected: AccessToken) -> AccessToken:
        """Like :meth:`replace`."""
        self._token = None
        return await self._aobtain(rejected.issued)

    def state(self) -> TokenState:
        """Tell what may be shown of the token; fetches and renews nothing.

        Raises:
            LoginRequired, NoOrganization, NoUsableKey: as :meth:`token`.
        """
        view = self._reading(fresh=True)
        seen = self._candidates(view)[0]
        now = token_manager.clock()
        return TokenState(
            window=str(seen.window(now)) if seen.token else "none",
            seconds_left=int(seen.seconds_left(now)),
            lifetime_seconds=seen.lifetime_seconds,
            generation=seen.generation,
            source=seen.kind,
        )

    async def astate(self) -> TokenState:
        """Like :meth:`state`."""
        return await sync_to_async(self.state)()

    @property
    def login_age_seconds(self) -> float | None:
        """How long ago the session's login was, as far as this request has read it; None: not known."""
        own = self._view.own if self._view is not None else None
        return None if own is None or own.authenticated_at is None else token_manager.clock() - own.authenticated_at

    # --- client --------------------------------------------------------------------------------------------------

    @functools.cached_property
    def client(self) -> FindClient:
        """A Find API client with this session's bearer; ``client.search(text="fan")``.

        Raises:
            LoginRequired, NoOrganization: as :meth:`token`.
        """
        view = self._reading()
        return clients.for_session(self, _organization(view), self._user().pk)

    async def aclient(self) -> FindClient:
        """Like :attr:`client`."""
        return await sync_to_async(lambda: self.client)()

    # --- reading -------------------------------------------------------------------------------------------------

    def _user(self) -> Any:
        user = getattr(self._request, "user", None)
        if user is None or not user.is_authenticated or not getattr(user, "is_active", True):
            raise LoginRequired("Nobody is logged in.")
        return user

    def _grant_id(self) -> uuid.UUID | None:
        return sessions.grant_id_of(self._request)

    def _organization_id(self, user: Any) -> uuid.UUID:
        chosen = sessions.organization_id_of(self._request)
        if chosen is not None:
            return chosen
        # A login that this app did not see (force_login, an organization that was added later).
        found = (
            policy.memberships_by_joining(user)
            .filter(organization__is_active=True)
            .values_list("organization_id", flat=True)
            .first()
        )
        if found is None:
            raise NoOrganization("This person belongs to no active organization.")
        return found

    def _reading(self, *, fresh: bool = False) -> SessionAccess:
        """Return what the session may use; ``fresh`` asks the database, whatever is known already."""
        if self._view is not None and not fresh:
            return self._view
        user = self._user()
        whose = user.pk, self._grant_id(), self._organization_id(user)
        if self._slot is None:
            self._slot = invalidation.look(*whose)
        view = None if fresh else self._slot.value
        if isinstance(view, SessionAccess):
            self._check(view)
        else:
            try:
                view = self._read(self._slot, *whose)
            except AnyDatabaseError:
                # A new request would be served from the cache; one that has begun already is no worse off.
                view = invalidation.look(*whose).value if fresh else None
                if not isinstance(view, SessionAccess):
                    raise
                self._check(view)
        self._view = view
        return view

    def _read(self, slot: Slot, user_pk: Any, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> SessionAccess:
        """Ask the database, and keep the answer in the cache."""
        view = access.read(user_pk, grant_id, organization_id)
        if view is None:
            raise NoOrganization("The session's organization is not active, or not open to this person any more.")
        self._check(view)
        if view.cacheable and slot is not invalidation.NO_CACHE and access.shows_what_is_committed():
            now = token_manager.clock()
            seconds = max((seen.seconds_left(now) for seen in self._serving(view)), default=0.0)
            # This transaction may have written what it has read. Where it is rolled back, nobody replaces a stamp.
            transaction.on_commit(functools.partial(slot.store, view, seconds), using=database_alias())
        return view

    def _check(self, view: SessionAccess) -> None:
        """Raise unless this login may use this organization: checked on every read, not only when it began."""
        own = view.own
        if own is None:
            if self._grant_id() is not None:
                raise LoginRequired("This login has been ended.")
            if view.required_provider is not None:
                raise _wrong_provider(view.required_provider)
            return
        if own.glance.revoked:
            raise LoginRequired("This login has been ended.")
        if not own.provider_active:
            raise LoginRequired("The identity provider of this login is not active any more.")
        if own.provider_organization_id not in (None, view.organization_id):
            raise NoOrganization("A login through an organization's own identity provider opens that one only.")
        if view.required_provider is not None and view.required_provider != own.provider:
            raise _wrong_provider(view.required_provider)
        limit_seconds = conf.reauthenticate_after_seconds
        if limit_seconds is not None and token_manager.clock() - (own.authenticated_at or 0) > limit_seconds:
            raise LoginRequired("This login is older than PARTIUM_REAUTHENTICATE_AFTER allows.", provider=own.provider)

    @staticmethod
    def _serving(view: SessionAccess) -> tuple[CachedGrant, ...]:
        if view.token_source == Organization.TokenSource.USER:
            return (view.own.glance,) if view.own is not None else ()
        return view.keys

    def _candidates(self, view: SessionAccess) -> tuple[CachedGrant, ...]:
        serving = self._serving(view)
        if not serving:
            if view.token_source == Organization.TokenSource.USER:
                raise LoginRequired("This organization's access tokens come from a login at Partium or at a provider.")
            raise NoUsableKey(f"The organization {view.org_id!r} has no usable API key. Add one in the key admin.")
        if len(serving) == 1:
            return serving
        # A key that Partium has just refused comes last, for what is left of its token.
        return tuple(sorted(serving, key=lambda seen: seen.rejected))

    # --- obtaining -----------------------------------------------------------------------------------------------

    def _obtain(self, rejected: Issued | None) -> AccessToken:
        view, served, candidates = self._serve(rejected)
        return self._keep(view, served or token_manager.obtain_first(candidates, rejected))

    async def _aobtain(self, rejected: Issued | None) -> AccessToken:
        view, served, candidates = await sync_to_async(self._serve)(rejected)
        return self._keep(view, served or await token_manager.aobtain_first(candidates, rejected))

    def _serve(self, rejected: Issued | None) -> tuple[SessionAccess, Issued | None, Sequence[GrantState]]:
        """Return the token that can be served at once, or else what has to be known to obtain one."""
        # What this request has read before may have been renewed elsewhere since.
        view = self._reading(fresh=rejected is not None or self._token is not None)
        candidates = self._candidates(view)
        served = token_manager.serve(candidates[0]) if rejected is None else None
        if served is not None:
            return view, served, ()
        try:
            look = grants.read_all if view.token_source == Organization.TokenSource.USER else grants.read_keys
            found = look([seen.grant_id for seen in candidates])
        except AnyDatabaseError:
            return view, None, [seen.as_if_renewing() for seen in candidates]
        if not found:
            raise LoginRequired("This login has been ended.")
        return view, None, found

    def _keep(self, view: SessionAccess, issued: Issued) -> AccessToken:
        self._token = AccessToken(issued, view)
        return self._token


def _organization(view: SessionAccess) -> Organization:
    fields = ["id", "org_id", "display_name", "token_source", "is_active"]
    values = [view.organization_id, view.org_id, view.display_name, view.token_source, True]
    return Organization.from_db(database_alias(), fields, values)


def _wrong_provider(required: str) -> LoginRequired:
    return LoginRequired("The organization requires a login through its identity provider.", provider=required)
