"""``request.partium``: one session's organization, token and client.

The session holds a grant's id and an organization's, written at login and by the person's own switch of organization,
never by a refresh. Nothing is read before it is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.utils.asyncio import async_unsafe

from partium_auth import clients, policy
from partium_auth.accounts import sessions
from partium_auth.exceptions import LoginRequired, NoOrganization
from partium_auth.models import Organization
from partium_auth.tokens import access, keys
from partium_auth.tokens.access import SessionAccess
from partium_auth.tokens.manager import token_manager
from partium_auth.tokens.state import AccessToken, GrantState

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest

    from partium_auth.partium.client import FindClient

_KEPT_SECONDS = 1.0  # for this long a request reuses a token that is not fresh; every token that is served lives longer

__all__ = ["AccessToken", "PartiumSession", "TokenState"]

P = ParamSpec("P")
R = TypeVar("R")


def _has_twin(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a method raise in async code, and name the one to use there.

    It raises even if this call would do no I/O: otherwise the mistake would pass development and fail in production.
    """
    refuse: Callable[[Callable[P, R]], Callable[P, R]] = async_unsafe(
        f"Use await request.partium.{name} in async views."
    )
    return refuse


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
        self._access: SessionAccess | None = None
        self._opened: tuple[SessionAccess, str | None] | None = None
        self._recalled = False  # it is what this process had read before
        self._token: AccessToken | None = None
        self._serve_until = 0.0  # until then the token serves without being read again; in seconds since the epoch

    def __repr__(self) -> str:
        return "<PartiumSession>"

    def forget(self) -> None:
        """Forget what this request has read: somebody has logged in or out, or switched organization."""
        self._access = self._token = None

    # --- organization --------------------------------------------------------------------------------------------

    @property
    @_has_twin("aorganization()")
    def organization(self) -> Organization | None:
        """The session's active organization, or None: not logged in, member of none, or no longer of this one."""
        try:
            return self.require_organization()
        except (LoginRequired, NoOrganization):
            return None

    async def aorganization(self) -> Organization | None:
        """Like :attr:`organization`."""
        return await sync_to_async(lambda: self.organization)()

    def require_organization(self) -> Organization:
        """Return the session's active organization; obtains no token.

        Raises:
            LoginRequired, NoOrganization: as :meth:`token`.
        """
        return self._read().organization

    async def arequire_organization(self) -> Organization:
        """Like :meth:`require_organization`."""
        return await sync_to_async(self.require_organization)()

    @property
    @_has_twin("aorganizations()")
    def organizations(self) -> list[Organization]:
        """The active organizations that the person is a member of."""
        user = self._request.user
        return list(policy.organizations_of(user)) if user.is_authenticated else []

    async def aorganizations(self) -> list[Organization]:
        """Like :attr:`organizations`."""
        return await sync_to_async(lambda: self.organizations)()

    @_has_twin("aswitch_organization(…)")
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
        found = policy.organizations_of(user).named(organization).first()
        if found is None:
            raise NoOrganization("This organization is not open to this person.")
        wanted_access = access.read(user.pk, self._grant_id(), found.pk)
        if wanted_access is None:
            raise NoOrganization("This organization is not open to this person.")
        policy.require_permitted(wanted_access, now=token_manager.clock())
        self._request.session[sessions.ORGANIZATION] = str(found.pk)
        self.forget()

    async def aswitch_organization(self, organization: Organization | str) -> None:
        """Like :meth:`switch_organization`."""
        await sync_to_async(self.switch_organization)(organization)

    # --- token ---------------------------------------------------------------------------------------------------

    @property
    @_has_twin("atoken()")
    def access_token(self) -> str:
        """A bearer that is not about to expire. See :meth:`token` for what it raises."""
        return self.token().value

    @_has_twin("atoken()")
    def token(self) -> AccessToken:
        """Return the session's access token, fetched or refreshed if need be.

        Raises:
            LoginRequired: nobody is logged in, or the login has ended.
            NoOrganization: the person belongs to no active organization, or not to the session's any more.
            NoUsableKey: the organization has no API key to use.
            KeyRejected: Partium refuses the organization's API key.
            TokenUnavailable: not now; ``retry_after`` says when.
        """
        if self._token is not None and token_manager.clock() < self._serve_until:
            return self._token
        return self._obtain(None)

    async def atoken(self) -> AccessToken:
        """Like :meth:`token`, without blocking the event loop."""
        if self._token is not None and token_manager.clock() < self._serve_until:
            return self._token
        return await self._aobtain(None)

    @_has_twin("areplace(…)")
    def replace(self, rejected: AccessToken) -> AccessToken:
        """Return another access token than one that Partium answered with 401. One refresh, whoever asks for it."""
        self._token = None
        return self._obtain(rejected)

    async def areplace(self, rejected: AccessToken) -> AccessToken:
        """Like :meth:`replace`."""
        self._token = None
        return await self._aobtain(rejected)

    @_has_twin("astate()")
    def state(self) -> TokenState:
        """Tell what may be shown of the token; fetches and refreshes nothing.

        Raises:
            LoginRequired, NoOrganization, NoUsableKey: as :meth:`token`.
        """
        seen = _candidates(self._read(fresh=True))[0]
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
        own = self._access.own if self._access is not None else None
        return None if own is None or own.authenticated_at is None else token_manager.clock() - own.authenticated_at

    # --- client --------------------------------------------------------------------------------------------------

    @functools.cached_property
    def client(self) -> FindClient:
        """A Find API client with this session's bearer: ``client.search(text="fan")``, ``await client.asearch(text="fan")``.

        Naming it does no I/O. Its methods raise what :meth:`token` raises.
        """
        return clients.for_session(self)

    def opened(self) -> tuple[SessionAccess, str | None]:
        """Return what the session may use; and by which id Partium tells the person apart, where people share a key.

        Raises:
            LoginRequired, NoOrganization: as :meth:`token`.
        """
        found = self._read()
        if self._opened is None or self._opened[0] is not found:
            by_key = found.token_source != Organization.TokenSource.USER
            self._opened = found, clients.external_user_id(self._user().pk) if by_key else None
        return self._opened

    async def aopened(self) -> tuple[SessionAccess, str | None]:
        """Like :meth:`opened`."""
        if self._opened is not None and self._opened[0] is self._access:
            return self._opened
        return await sync_to_async(self.opened)()

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

    def _read(self, *, fresh: bool = False) -> SessionAccess:
        """Return what the session may use; ``fresh`` asks the database, whatever this process knows already."""
        if self._access is not None and not fresh:
            return self._access
        user, now = self._user(), token_manager.clock()
        whose = user.pk, self._grant_id(), self._organization_id(user)
        recalled = None if fresh else access.recall(*whose, now=now)
        found = recalled or access.read(*whose)
        if found is None:
            raise NoOrganization("The session's organization is not active, or not open to this person any more.")
        has_other_key = found.own is not None and sessions.has_other_key(self._request, found.own.session_key_digest)
        if has_other_key and recalled is not None:
            return self._read(fresh=True)
        policy.require_permitted(found, now=now)
        if has_other_key:
            sessions.store_key(self._request)
        self._access, self._recalled = found, recalled is not None
        return found

    # --- obtaining -----------------------------------------------------------------------------------------------

    def _obtain(self, rejected: AccessToken | None) -> AccessToken:
        found, served, candidates = self._serve(rejected)
        return self._keep(found, served or token_manager.obtain_first(candidates, rejected))

    async def _aobtain(self, rejected: AccessToken | None) -> AccessToken:
        found, served, candidates = await sync_to_async(self._serve)(rejected)
        return self._keep(found, served or await token_manager.aobtain_first(candidates, rejected))

    def _serve(self, rejected: AccessToken | None) -> tuple[SessionAccess, AccessToken | None, Sequence[GrantState]]:
        """Return the token that can be served at once, or else what has to be known to obtain one."""
        # Another process may have refreshed the token since this request has read it.
        found = self._read(fresh=rejected is not None or self._token is not None)
        candidates = _candidates(found)
        served = token_manager.serve(candidates[0]) if rejected is None else None
        if served is None and self._recalled:
            # A remembered row is good enough to serve a token, but not to decide about a refresh.
            found = self._read(fresh=True)
            candidates = _candidates(found)
            served = token_manager.serve(candidates[0])
        return found, served, candidates

    def _keep(self, found: SessionAccess, token: AccessToken) -> AccessToken:
        self._token = token.of_session(found)
        self._serve_until = max(token.fresh_until, token_manager.clock() + _KEPT_SECONDS)
        return self._token


def _candidates(found: SessionAccess) -> tuple[GrantState, ...]:
    if found.candidates:
        return found.candidates
    if found.token_source == Organization.TokenSource.USER:
        raise LoginRequired("This organization's access tokens come from a login at Partium or at a provider.")
    raise keys.no_usable_key(refused=found.keys.refused)
