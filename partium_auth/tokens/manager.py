"""Returns valid access tokens: return, refresh or wait, with one refresh at a time per grant in this process.

:meth:`TokenManager._decide` decides; it is a generator that neither blocks nor awaits, so that :meth:`TokenManager.obtain` and
:meth:`TokenManager.aobtain` can both drive it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import math
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from asgiref.sync import sync_to_async
from django.db import Error as AnyDatabaseError
from django.db import connections

from partium_auth.conf import conf
from partium_auth.exceptions import (
    EncryptionError,
    KeyRejected,
    LoginRequired,
    NoUsableKey,
    PartiumError,
    TokenUnavailable,
)
from partium_auth.host.per_process import PerProcess
from partium_auth.host.waiting import (
    WaitingCallers,
    has_pool,
    holds_server_thread,
    return_connections_to_pools,
    waiting_callers,
)
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.tokens import keys, lease, send_credential, state
from partium_auth.tokens.database_clock import database_clock
from partium_auth.tokens.memo import Memo
from partium_auth.tokens.outages import UpstreamFails
from partium_auth.tokens.refresh import Refresher, elapsed_clock
from partium_auth.tokens.state import AccessToken, GrantState
from partium_auth.tokens.under_way import EXIT_SECONDS, RefreshesUnderWay, RunningRefresh
from partium_auth.tokens.windows import Window

logger = logging.getLogger("partium_auth.tokens")

PATIENCE_SECONDS = 5.0
"""How long a caller waits where there is no usable token."""
BRIEF_SECONDS = 0.5
"""How long a caller waits in the mandatory window, where the old token is still valid."""
BLOCKED_PATIENCE_SECONDS = 0.25
"""How long it waits inside a transaction that may block the refresh thread: SQLite has one writer, a pool few connections."""
POLL_SECONDS = 0.1
"""How often the row is read while another process refreshes, or after a refresh that changed nothing."""
QUEUED_SECONDS = 10.0
"""A refresh that was queued for longer than this is dropped: no caller waits for it any more; the next caller starts a new one."""
FAILED_WAIT_SECONDS = 5.0
"""After a wait timed out, callers of this process do not wait for the same generation for this long."""
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class _Pause:
    """Wait for a refresh of this process. None: another process refreshes; sleep, then read the row again."""

    refresh: RunningRefresh | None
    seconds: float

    @property
    def is_over(self) -> bool:
        """Whether the refresh has ended already, so that nobody has to wait."""
        return self.refresh is not None and self.refresh.done()


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found after a pause: the row as it is now, and what the refresh failed with."""

    seen: GrantState | None = None
    failure: BaseException | None = None
    refreshed: bool = False  # by the refresh that was waited for
    gone: bool = False  # there is no such row any more
    too_many_waiting: bool = False  # too many callers wait already


class TokenManager:
    """Returns access tokens of grants, and refreshes them according to their windows.

    Args:
        clock: seconds since the epoch, the same on all machines.
        elapsed: seconds that never run backwards.
        waiting: counts who waits; None: nobody but the callers of this one.
    """

    def __init__(
        self,
        clock: Callable[[], float] = database_clock,
        elapsed: Callable[[], float] = elapsed_clock,
        waiting: PerProcess[WaitingCallers] | None = None,
    ) -> None:
        self.clock = clock
        self._elapsed = elapsed
        self.refresher = Refresher(clock, elapsed)
        self.outages = self.refresher.outages
        self._under_way = RefreshesUnderWay(self.refresher, elapsed, queued_seconds=QUEUED_SECONDS)
        self._waiting = waiting or PerProcess(WaitingCallers)
        self._failed_waits: Memo[float] = Memo(_REMEMBERED)

    # --- for callers ---------------------------------------------------------------------------------------------

    def serve(self, seen: GrantState) -> AccessToken | None:
        """Return a grant's token if it is fresh, or in the advisory window with a refresh that runs or is not due.

        Raises:
            EncryptionError: the stored token cannot be opened.
        """
        window = seen.window(self.clock())
        good = window is Window.FRESH or (window is Window.ADVISORY and (seen.busy or seen.waiting))
        # A token that Partium rejected still looks fresh in the row until the new one is committed.
        if seen.revoked or not good or seen.grant_id in self.refresher.pending:
            return None
        return seen.access_token()

    def obtain(
        self, seen: GrantState, *, rejected_generation: int | None = None, give_up_at: float = math.inf
    ) -> AccessToken:
        """Return a usable access token of a grant. Waits briefly in the mandatory window, and longer where the token is unusable.

        Args:
            seen: what the caller has read of the grant.
            rejected_generation: the generation of a token that the Find API answered with 401; it is not served again.
            give_up_at: by the elapsed clock; after :data:`PATIENCE_SECONDS` at the latest.

        Raises:
            LoginRequired: there will be no more tokens of this login.
            KeyRejected: Partium refuses the API key.
            NoUsableKey: the API key was revoked.
            TokenUnavailable: no token now; ``retry_after`` says when to retry.
            EncryptionError: the stored token cannot be opened.
        """
        steps = self._decide(seen, rejected_generation, give_up_at, _patience_seconds)
        is_counted, holds_thread = False, holds_server_thread()
        try:
            step = next(steps)
            while isinstance(step, _Pause):
                is_counted = is_counted or self.waiting.take(holds_thread=holds_thread)
                step = steps.send(self._wait(seen.grant_id, step) if is_counted or step.is_over else _TOO_MANY_WAITING)
        except TokenUnavailable as error:
            self.outages.explain(seen.upstream, error)
            if isinstance(error, _NotInTime):
                self._remember_failed_wait(seen, error)
                _set_retry_after(seen.grant_id, error)
            raise
        finally:
            if is_counted:
                self.waiting.give_back(holds_thread=holds_thread)
        return step

    async def aobtain(
        self, seen: GrantState, *, rejected_generation: int | None = None, give_up_at: float = math.inf
    ) -> AccessToken:
        """Like :meth:`obtain`, without blocking the event loop."""
        if conf.executor == "inline":
            obtain = functools.partial(self.obtain, rejected_generation=rejected_generation, give_up_at=give_up_at)
            return await sync_to_async(obtain)(seen)
        patience_seconds = PATIENCE_SECONDS
        if rejected_generation is not None or seen.window(self.clock()) is not Window.FRESH:
            patience_seconds = await sync_to_async(_patience_seconds)()
        steps = self._decide(seen, rejected_generation, give_up_at, lambda: patience_seconds)
        is_counted = False
        try:
            step = next(steps)
            while isinstance(step, _Pause):
                is_counted = is_counted or self.waiting.take(holds_thread=False)
                step = steps.send(
                    await self._await(seen.grant_id, step) if is_counted or step.is_over else _TOO_MANY_WAITING
                )
        except TokenUnavailable as error:
            self.outages.explain(seen.upstream, error)
            if isinstance(error, _NotInTime):
                self._remember_failed_wait(seen, error)
                await sync_to_async(_set_retry_after)(seen.grant_id, error)
            raise
        finally:
            if is_counted:
                self.waiting.give_back(holds_thread=False)
        return step

    def obtain_unblocked(self, error: TokenUnavailable) -> AccessToken:
        """Return the token that the caller's own transaction has blocked, now that this is over.

        Args:
            error: what the caller got then.

        Raises:
            TokenUnavailable: the same error, where it was for another reason; otherwise as :meth:`obtain`.
        """
        seen = None if error.blocked_grant is None else _look(error.blocked_grant, None).seen
        if seen is None:
            raise error
        return self.obtain(seen)

    def obtain_first(self, candidates: Sequence[GrantState], rejected: AccessToken | None = None) -> AccessToken:
        """Return a token of the first grant that has one: the next key takes over where one is refused or unavailable.

        Args:
            candidates: in the order in which they should serve.
            rejected: a token that the Find API answered with 401.

        Raises:
            TokenUnavailable: none now, and waiting may help; otherwise as :meth:`obtain`.
        """
        failure: PartiumError | None = None
        give_up_at = self._elapsed() + PATIENCE_SECONDS
        for seen in candidates:
            try:
                return self.obtain(seen, rejected_generation=_generation(seen, rejected), give_up_at=give_up_at)
            except (KeyRejected, NoUsableKey, TokenUnavailable) as error:
                failure = _prefer_retryable(failure, error)
        raise failure or keys.no_usable_key(refused=False)

    async def aobtain_first(self, candidates: Sequence[GrantState], rejected: AccessToken | None = None) -> AccessToken:
        """Like :meth:`obtain_first`, without blocking the event loop."""
        failure: PartiumError | None = None
        give_up_at = self._elapsed() + PATIENCE_SECONDS
        for seen in candidates:
            try:
                return await self.aobtain(seen, rejected_generation=_generation(seen, rejected), give_up_at=give_up_at)
            except (KeyRejected, NoUsableKey, TokenUnavailable) as error:
                failure = _prefer_retryable(failure, error)
        raise failure or keys.no_usable_key(refused=False)

    @property
    def refreshing(self) -> set[uuid.UUID]:
        """The grants that are being refreshed in this process."""
        return self._under_way.grants

    @property
    def waiting(self) -> WaitingCallers:
        """The callers of this process that wait for an upstream at the moment."""
        return self._waiting()

    @property
    def queued(self) -> dict[str, int]:
        """How many refreshes of each upstream wait for a thread of this process."""
        return self._under_way.queued

    def drain(self, seconds: float = EXIT_SECONDS) -> None:
        """Wait for the answers that are on their way, and store them; see :meth:`RefreshesUnderWay.drain`."""
        self._under_way.drain(seconds)

    def forget(self) -> None:
        """Forget failures of upstreams, and who waited in vain; for tests."""
        self.outages.forget()
        self.waiting.forget()
        self._failed_waits.clear()

    # --- the decisions -------------------------------------------------------------------------------------------

    def _decide(
        self,
        seen: GrantState,
        rejected_generation: int | None,
        give_up_at: float,
        patience: Callable[[], float],
    ) -> Generator[_Pause | AccessToken, _Found, None]:
        found = _Found()
        tried: int | None = None  # the generation that a refresh has just left unchanged
        waited = False
        while True:
            if found.gone or seen.revoked:
                raise _ended(seen)
            seen = self._with_pending_commit(seen)
            # A token that the Find API refused is unusable, whatever its age.
            refused = seen.generation == rejected_generation
            window = Window.UNUSABLE if refused else seen.window(self.clock())
            if window is Window.FRESH or (window is Window.MANDATORY and waited):
                break
            refresh = None
            if self._upstream_fails(seen, window, found.failure):
                break
            if window is Window.UNUSABLE and not waited:
                self._raise_if_wait_failed(seen)
            if tried != seen.generation:  # do not retry this generation at once
                # SQLite: the caller's open transaction blocks the refresh thread, so refresh here if the credential is
                # reusable: after a roll-back it can be sent again.
                here = window is Window.UNUSABLE and seen.reusable and _blocked_by_own_transaction()
                is_due = _may_refresh(seen, window)
                refresh = self._under_way.join_or_start(seen, is_due=is_due, forced=refused, here=here)
            if window is Window.ADVISORY or (window is Window.MANDATORY and refresh is None):
                break
            waited, give_up_at = True, min(give_up_at, self._elapsed() + patience())
            left_seconds = max(0.0, give_up_at - self._elapsed())
            if window is Window.MANDATORY:
                pause = _Pause(refresh, min(BRIEF_SECONDS, left_seconds))
            else:
                pause = _pause(seen, refresh, found, left_seconds, refused=refused)
            now_found = yield pause
            if now_found.too_many_waiting and window is Window.MANDATORY:
                break
            tried = seen.generation if refresh is not None else None
            seen = now_found.seen or seen
            found = now_found if now_found.failure is not None else replace(now_found, failure=found.failure)
        yield seen.access_token()

    def _with_pending_commit(self, seen: GrantState) -> GrantState:
        pending = self.refresher.pending.get(seen.grant_id)
        return pending.state if pending is not None and pending.generation == seen.generation else seen

    def _upstream_fails(self, seen: GrantState, window: Window, failure: BaseException | None) -> bool:
        """Tell whether to serve the old token because the upstream fails. Raises TokenUnavailable where it is unusable."""
        retry_after = 0 if seen.busy else self.outages.seconds_to_wait(seen.upstream)
        if not retry_after or window is not Window.UNUSABLE:
            return bool(retry_after)
        _raise_if_ended(seen)
        raise _unavailable(failure, retry_after=retry_after)

    def _remember_failed_wait(self, seen: GrantState, error: _NotInTime) -> None:
        if error.waited and error.blocked_grant is None:
            self._failed_waits.put((seen.grant_id, seen.generation), self._elapsed() + FAILED_WAIT_SECONDS)

    def _raise_if_wait_failed(self, seen: GrantState) -> None:
        """Raise if others have waited for the refresh that is under way, and got no token."""
        until = self._failed_waits.get((seen.grant_id, seen.generation))
        if until is not None and until > self._elapsed() and (seen.busy or seen.grant_id in self._under_way.grants):
            raise TokenUnavailable("Another caller waited for this access token a moment ago, without success.")

    # --- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, grant_id: uuid.UUID, pause: _Pause) -> _Found:
        return_connections_to_pools()
        if pause.refresh is None:
            time.sleep(pause.seconds)
            return _look(grant_id, None)
        done, _ = concurrent.futures.wait([pause.refresh], timeout=pause.seconds)
        return _ended_refresh(grant_id, pause.refresh) if done else _Found()

    async def _await(self, grant_id: uuid.UUID, pause: _Pause) -> _Found:
        await sync_to_async(return_connections_to_pools)()
        if pause.refresh is None:
            await asyncio.sleep(pause.seconds)
            return await sync_to_async(_look)(grant_id, None)
        # asyncio.wait, unlike wait_for, does not cancel the refresh when a client that disconnects cancels the waiting.
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(waiter.set_result, None)

        pause.refresh.add_done_callback(wake)
        done, _ = await asyncio.wait([waiter], timeout=pause.seconds)
        return await sync_to_async(_ended_refresh)(grant_id, pause.refresh) if done else _Found()


def _generation(seen: GrantState, rejected: AccessToken | None) -> int | None:
    return rejected.generation if rejected is not None and rejected.grant_id == seen.grant_id else None


def _prefer_retryable(first: PartiumError | None, second: PartiumError) -> PartiumError:
    """Prefer the error that a retry may fix; otherwise the one that tells which key to fix."""
    for kind in (TokenUnavailable, KeyRejected):
        for error in (first, second):
            if isinstance(error, kind):
                return error
    return second


def _may_refresh(seen: GrantState, window: Window) -> bool:
    if not seen.refreshable or seen.refused or seen.busy or seen.waiting:
        return False
    if window is Window.ADVISORY and conf.executor == "inline":
        return False
    # With the outcome of the last refresh unknown, the refresh token may be used up, and sending it again may end the whole
    # family of tokens: do that only when the access token is unusable anyway.
    return not seen.outcome_unknown or seen.reusable or window is Window.UNUSABLE


def _ended_refresh(grant_id: uuid.UUID, refresh: RunningRefresh) -> _Found:
    failure = refresh.exception()
    if failure is not None:
        return _look(grant_id, failure)
    result = refresh.result()
    return _look(grant_id, None) if result is None else _Found(result, refreshed=True)


def _look(grant_id: uuid.UUID, failure: BaseException | None) -> _Found:
    try:
        seen = state.read(grant_id)
    except AnyDatabaseError as error:
        return _Found(None, failure or error)
    return _Found(seen, failure, gone=seen is None)


def _ended(seen: GrantState) -> PartiumError:
    if seen.kind == Grant.Kind.API_KEY:
        return NoUsableKey("The API key was revoked. Add another one in the key admin.")
    return LoginRequired("This login was revoked.")


def _pause(
    seen: GrantState,
    refresh: RunningRefresh | None,
    found: _Found,
    left_seconds: float,
    *,
    refused: bool,
) -> _Pause:
    """Return what to wait for where there is no usable token. Raises where waiting is no use."""
    if isinstance(found.failure, EncryptionError):
        raise found.failure
    if found.too_many_waiting:
        raise TokenUnavailable(
            "As many callers of this process as PARTIUM_MAX_WAITING allows wait for an upstream already."
        )
    if isinstance(found.failure, UpstreamFails):
        raise _unavailable(found.failure, retry_after=found.failure.retry_after or 1)
    if found.refreshed:
        raise TokenUnavailable("The upstream's access tokens live too short to be used.")
    if refresh is None:
        _raise_if_hopeless(seen, found.failure)
    if not left_seconds:
        if not _blocked_by_own_transaction():
            raise _not_in_time(found.failure)
        # Until a refused token is replaced, whoever asks once more is served the same one.
        raise _blocked(found.failure, None if refused else seen.grant_id)
    return _Pause(refresh, left_seconds if refresh is not None else min(left_seconds, POLL_SECONDS))


def _raise_if_hopeless(seen: GrantState, failure: BaseException | None) -> None:
    _raise_if_ended(seen)
    if seen.waiting and not seen.busy:
        raise _not_in_time(failure, waited=False)


def _raise_if_ended(seen: GrantState) -> None:
    if seen.refused or not seen.refreshable:
        if seen.kind == Grant.Kind.API_KEY:
            raise keys.no_usable_key(refused=True)
        reason = send_credential.NOT_REFRESHABLE
        if seen.refused:
            reason = "The upstream rejected this login's refresh token, or the identity provider of this name is another one now."
            reason += " The person has to log in again."
        raise LoginRequired(reason, provider=seen.provider)


def _unavailable(failure: BaseException | None, *, retry_after: int) -> TokenUnavailable:
    error = TokenUnavailable("The access token could not be refreshed.", retry_after=retry_after)
    error.__cause__ = failure
    return error


def _not_in_time(failure: BaseException | None, reason: str = "", *, waited: bool = True) -> _NotInTime:
    error = _NotInTime(f"The access token could not be refreshed in time.{reason}")
    error.__cause__, error.waited = failure, waited
    return error


def _blocked(failure: BaseException | None, grant_id: uuid.UUID | None) -> TokenUnavailable:
    reason = " The refresh waits for the database, which this request's own transaction holds: "
    reason += 'read the token before writing. (In a test: PARTIUM_EXECUTOR = "inline".)'
    error = _not_in_time(failure, reason)
    error.blocked_grant = grant_id
    return error


class _NotInTime(TokenUnavailable):
    """The row says when to try again; ``waited`` tells whether the caller has waited until it ran out of time."""

    waited = False


_TOO_MANY_WAITING = _Found(too_many_waiting=True)


def _set_retry_after(grant_id: uuid.UUID, error: TokenUnavailable) -> None:
    with contextlib.suppress(AnyDatabaseError):
        error.retry_after = lease.seconds_to_next_attempt(grant_id)


def _patience_seconds() -> float:
    return BLOCKED_PATIENCE_SECONDS if _blocked_by_own_transaction() else PATIENCE_SECONDS


def _blocked_by_own_transaction() -> bool:
    """Whether the caller's open transaction may keep the refresh thread from the database."""
    connection = connections[database_alias()]
    return (
        connection.in_atomic_block
        and conf.executor == "thread"
        and (connection.vendor == "sqlite" or has_pool(connection))
    )


token_manager = TokenManager(waiting=waiting_callers)
"""This process's token manager."""
