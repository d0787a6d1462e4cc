"""Always a valid token: what to do with a snapshot, and one renewal at a time per grant in this process.

The decisions are a generator that neither blocks nor awaits; :meth:`TokenManager.obtain` and :meth:`TokenManager.aobtain` drive it.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from asgiref.sync import sync_to_async
from django.db import Error as AnyDatabaseError
from django.db import connections

from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError, KeyRejected, LoginRequired, PartiumError, TokenUnavailable
from partium_auth.host.per_process import PerProcess
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.tokens import grants
from partium_auth.tokens.clock import SteadyClock, elapsed_clock
from partium_auth.tokens.grants import CachedGrant, GrantState
from partium_auth.tokens.refresh import Refresher
from partium_auth.tokens.windows import Window
from partium_auth.tokens.workers import Executor, Saturated

logger = logging.getLogger("partium_auth.tokens")

PATIENCE_SECONDS = 5.0
"""How long a caller waits where there is no usable token."""
BRIEF_SECONDS = 0.5
"""How long a caller waits in the mandatory window, where the old token still serves."""
BLOCKED_PATIENCE_SECONDS = 0.25
"""How long it waits inside a transaction that keeps the renewal from the database (SQLite has one writer)."""
POLL_SECONDS = 0.1
"""How often the row is looked at while another process renews, or after a renewal that changed nothing."""
QUEUED_SECONDS = 10.0
"""A renewal that waited longer than this for its turn is dropped: nobody waits for it any more, and who needs it asks again."""
_MOMENT_SECONDS = 1.0  # less than what is left of any token that is served
_EXIT_SECONDS = 9.0


@dataclass(frozen=True, slots=True)
class Issued:
    """A usable access token of one generation. Its ``repr`` shows no token."""

    value: str = field(repr=False)
    _seen: CachedGrant | GrantState = field(repr=False)
    _at: float

    @property
    def grant_id(self) -> uuid.UUID:
        return self._seen.grant_id

    @property
    def generation(self) -> int:
        return self._seen.generation

    @property
    def expires_at(self) -> float:
        """Seconds since the epoch."""
        return (self._seen.issued_at or 0.0) + self._seen.lifetime_seconds

    @property
    def recheck_at(self) -> float:
        """Until then whoever holds it need not ask again: the end of the fresh window, or a moment."""
        return max(self._seen.fresh_until(), self._at + _MOMENT_SECONDS)


@dataclass(frozen=True, slots=True)
class _Pause:
    """Wait for a renewal in this process, or (None) a moment for another one's; then look again."""

    flight: Future[GrantState | None] | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was found after a pause: the row as it is now, and what the renewal failed with."""

    seen: GrantState | None = None
    failure: BaseException | None = None
    renewed: bool = False  # by the renewal that was waited for
    gone: bool = False  # there is no such row any more


class _Flights:
    """The renewals under way in this process, by grant."""

    def __init__(self, at_exit: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.by_grant: dict[uuid.UUID, Future[GrantState | None]] = {}
        atexit.register(at_exit)


class TokenManager:
    """Hands out tokens of grants, renewing them as their windows ask.

    Args:
        clock: seconds since the epoch.
        elapsed: seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] | None = None, elapsed: Callable[[], float] = elapsed_clock) -> None:
        self.clock = clock or SteadyClock()
        self._elapsed = elapsed
        self.renewer = Refresher(self.clock, elapsed)
        self._executor = Executor(after_job=connections.close_all)
        self._flights = PerProcess(functools.partial(_Flights, self._drain))

    # --- for callers ---------------------------------------------------------------------------------------------

    def serve(self, seen: CachedGrant) -> Issued | None:
        """Return the token of a grant, if nothing has to be thought of: it is fresh, or good enough while somebody renews it.

        Raises:
            EncryptionError: the stored token cannot be opened.
        """
        now = self.clock()
        window = seen.window(now)
        good = window is Window.FRESH or (window is Window.ADVISORY and seen.resting)
        if seen.revoked or not good or seen.grant_id in self.renewer.unsaved:
            return None
        return Issued(seen.reveal(), seen, now)

    def obtain(
        self, seen: GrantState, *, rejected_generation: int | None = None, give_up_at: float = math.inf
    ) -> Issued:
        """Return a usable access token of a grant; waits only where the one there is cannot be served.

        Args:
            seen: what the caller has read of the grant.
            rejected_generation: the generation of a token that the Find API answered with 401; it is not served again.
            give_up_at: by the elapsed clock; after :data:`PATIENCE_SECONDS` at the latest.

        Raises:
            LoginRequired: there will be no more tokens of this login.
            KeyRejected: the API key is refused by Partium.
            TokenUnavailable: not now; says when.
            EncryptionError: the stored token cannot be opened.
        """
        course = self._course(seen, rejected_generation, give_up_at, _patience_seconds)
        try:
            step = next(course)
            while isinstance(step, _Pause):
                step = course.send(self._wait(seen.grant_id, step))
        except TokenUnavailable as error:
            _say_when(seen.grant_id, error)
            raise
        return step

    async def aobtain(
        self, seen: GrantState, *, rejected_generation: int | None = None, give_up_at: float = math.inf
    ) -> Issued:
        """Like :meth:`obtain`, without blocking the event loop."""
        if conf.executor == "inline":
            obtain = functools.partial(self.obtain, rejected_generation=rejected_generation, give_up_at=give_up_at)
            return await sync_to_async(obtain)(seen)
        patience_seconds = PATIENCE_SECONDS
        if rejected_generation is not None or seen.window(self.clock()) is not Window.FRESH:
            patience_seconds = await sync_to_async(_patience_seconds)()
        course = self._course(seen, rejected_generation, give_up_at, lambda: patience_seconds)
        try:
            step = next(course)
            while isinstance(step, _Pause):
                step = course.send(await self._await(seen.grant_id, step))
        except TokenUnavailable as error:
            await sync_to_async(_say_when)(seen.grant_id, error)
            raise
        return step

    def obtain_unblocked(self, error: TokenUnavailable) -> Issued:
        """Return the token that the caller's own transaction has kept from it, now that this is over.

        Args:
            error: what the caller got then.

        Raises:
            TokenUnavailable: the same error, where it was for another reason; otherwise as :meth:`obtain`.
        """
        seen = None if error.blocked_grant is None else _look(error.blocked_grant, None).seen
        if seen is None:
            raise error
        return self.obtain(seen)

    def obtain_first(self, candidates: Sequence[GrantState], rejected: Issued | None = None) -> Issued:
        """Return a token of the first grant that has one: the next key takes over where one is refused or unavailable.

        Args:
            candidates: at least one grant, in the order in which they should serve.
            rejected: a token that the Find API answered with 401.

        Raises:
            TokenUnavailable: none now, and waiting may help; otherwise as :meth:`obtain`.
        """
        failure: PartiumError | None = None
        give_up_at = self._elapsed() + PATIENCE_SECONDS
        for seen in candidates:
            try:
                return self.obtain(seen, rejected_generation=_generation(seen, rejected), give_up_at=give_up_at)
            except (KeyRejected, TokenUnavailable) as error:
                failure = _more_hopeful(failure, error)
        raise failure or KeyRejected("There is no API key to use.")

    async def aobtain_first(self, candidates: Sequence[GrantState], rejected: Issued | None = None) -> Issued:
        """Like :meth:`obtain_first`, without blocking the event loop."""
        failure: PartiumError | None = None
        give_up_at = self._elapsed() + PATIENCE_SECONDS
        for seen in candidates:
            try:
                return await self.aobtain(seen, rejected_generation=_generation(seen, rejected), give_up_at=give_up_at)
            except (KeyRejected, TokenUnavailable) as error:
                failure = _more_hopeful(failure, error)
        raise failure or KeyRejected("There is no API key to use.")

    # --- the decisions -------------------------------------------------------------------------------------------

    def _course(
        self,
        seen: GrantState,
        rejected_generation: int | None,
        give_up_at: float,
        patience: Callable[[], float],
    ) -> Generator[_Pause | Issued, _Answer, None]:
        answer = _Answer()
        in_vain: int | None = None  # the generation that a renewal has just left as it was
        waited = False
        while True:
            if answer.gone or seen.revoked:
                raise _ended(seen)
            unsaved = self.renewer.unsaved.get(seen.grant_id)
            if unsaved is not None and unsaved.generation == seen.generation:
                seen = unsaved.snapshot
            # A token that the Find API refused is no token, whatever its age.
            refused = seen.generation == rejected_generation
            window = Window.UNUSABLE if refused else seen.window(self.clock())
            if window is Window.FRESH or (window is Window.MANDATORY and waited):
                break
            flight = None
            if in_vain != seen.generation:
                # A transaction that keeps the database from every renewal can make one itself. Rolled back, it loses a
                # token that can be had again; where the refresh token may be used up with it, that is too much.
                here = window is Window.UNUSABLE and seen.reusable and _blocked_by_own_transaction()
                flight = self._fly(seen, window, forced=refused, here=here)
            if window is Window.ADVISORY or (window is Window.MANDATORY and flight is None):
                break
            waited, give_up_at = True, min(give_up_at, self._elapsed() + patience())
            left_seconds = max(0.0, give_up_at - self._elapsed())
            if window is Window.MANDATORY:
                pause = _Pause(flight, min(BRIEF_SECONDS, left_seconds))
            else:
                pause = _pause(seen, flight, answer, left_seconds, refused=refused)
            found = yield pause
            # Neither a lost race nor a lost database is a reason to try again without a breath between.
            in_vain = seen.generation if flight is not None else None
            seen = found.seen or seen
            answer = found if found.failure is not None else replace(found, failure=answer.failure)
        yield Issued(seen.reveal(), seen, self.clock())

    # --- single flight -------------------------------------------------------------------------------------------

    def _fly(self, seen: GrantState, window: Window, *, forced: bool, here: bool) -> Future[GrantState | None] | None:
        """Join the renewal that is under way in this process, or start one where it is due; ``here`` in this thread."""
        flights = self._flights()
        inline = conf.executor == "inline"
        with flights.lock:
            flight = flights.by_grant.get(seen.grant_id)
            if flight is not None:
                return flight
            if not _may_renew(seen, window) or (inline and window is Window.ADVISORY):
                return None
            flight = flights.by_grant[seen.grant_id] = Future()
        job = functools.partial(self._land, seen, flight, forced, self._elapsed())
        if inline or here:
            job()
            if not inline and flight.exception() is not None:
                # What the row says of this failure may be rolled back: then the fleet has to learn of it once more.
                self._fly(seen, window, forced=forced, here=False)
        else:
            try:
                self._executor.submit(seen.lane, job)
            except Saturated as error:
                self._end(seen, flight, None, error)
        return flight

    def _land(self, seen: GrantState, flight: Future[GrantState | None], forced: bool, queued_at: float) -> None:
        result: GrantState | None = None
        failure: BaseException | None = None
        try:
            if self._elapsed() - queued_at <= QUEUED_SECONDS:
                result = self.renewer.renew(seen, forced=forced)
        except BaseException as error:  # it belongs to whoever waits
            failure = error
            if not isinstance(error, PartiumError):
                logger.warning("Renewing grant %s failed: %s", seen.grant_id, type(error).__name__)
            if not isinstance(error, Exception):
                raise
        finally:
            self._end(seen, flight, result, failure)

    def _end(
        self,
        seen: GrantState,
        flight: Future[GrantState | None],
        result: GrantState | None,
        failure: BaseException | None,
    ) -> None:
        flights = self._flights()
        with flights.lock:
            flights.by_grant.pop(seen.grant_id, None)
        if failure is None:
            flight.set_result(result)
        else:
            # Its frames hold the credential, and an error report of the waiting request would show them.
            failure.__traceback__ = failure.__cause__ = failure.__context__ = None
            flight.set_exception(failure)

    def _drain(self) -> None:
        # A process that ends while an answer is on its way would lose a rotated refresh token.
        deadline = time.monotonic() + _EXIT_SECONDS
        concurrent.futures.wait(list(self._flights().by_grant.values()), timeout=_EXIT_SECONDS)
        while self.renewer.unsaved and time.monotonic() < deadline:
            self.renewer.save()
            time.sleep(0.05)

    # --- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, grant_id: uuid.UUID, pause: _Pause) -> _Answer:
        if pause.flight is None:
            time.sleep(pause.seconds)
            return _look(grant_id, None)
        done, _ = concurrent.futures.wait([pause.flight], timeout=pause.seconds)
        return _landed(grant_id, pause.flight) if done else _Answer()

    async def _await(self, grant_id: uuid.UUID, pause: _Pause) -> _Answer:
        if pause.flight is None:
            await asyncio.sleep(pause.seconds)
            return await sync_to_async(_look)(grant_id, None)
        # asyncio.wait, unlike wait_for, leaves the renewal alone when a client that disconnects cancels the waiting.
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def landed(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(waiter.set_result, None)

        pause.flight.add_done_callback(landed)
        done, _ = await asyncio.wait([waiter], timeout=pause.seconds)
        return await sync_to_async(_landed)(grant_id, pause.flight) if done else _Answer()


def _generation(seen: GrantState, rejected: Issued | None) -> int | None:
    return rejected.generation if rejected is not None and rejected.grant_id == seen.grant_id else None


def _more_hopeful(first: PartiumError | None, second: PartiumError) -> PartiumError:
    return first if isinstance(first, TokenUnavailable) else second


def _may_renew(seen: GrantState, window: Window) -> bool:
    if not seen.renewable or seen.rejected or seen.busy or seen.waiting:
        return False
    # Where nobody knows whether the refresh token was used up, sending it again may end the whole family of tokens:
    # that is tried only when there is nothing left to lose.
    return not seen.outcome_unknown or seen.reusable or window is Window.UNUSABLE


def _landed(grant_id: uuid.UUID, flight: Future[GrantState | None]) -> _Answer:
    failure = flight.exception()
    if failure is not None:
        return _look(grant_id, failure)
    result = flight.result()
    return _look(grant_id, None) if result is None else _Answer(result, renewed=True)


def _look(grant_id: uuid.UUID, failure: BaseException | None) -> _Answer:
    try:
        seen = grants.read(grant_id)
    except AnyDatabaseError as error:
        return _Answer(None, failure or error)
    return _Answer(seen, failure, gone=seen is None)


def _ended(seen: GrantState) -> PartiumError:
    if seen.kind == Grant.Kind.API_KEY:
        return KeyRejected("The API key was revoked.")
    return LoginRequired("This login has been ended.")


def _pause(
    seen: GrantState,
    flight: Future[GrantState | None] | None,
    answer: _Answer,
    left_seconds: float,
    *,
    refused: bool,
) -> _Pause:
    """What to wait for where there is no usable token. Raises where waiting is no use."""
    if isinstance(answer.failure, EncryptionError):
        raise answer.failure
    if answer.renewed:
        raise TokenUnavailable("The upstream's access tokens live too short to be used.")
    if flight is None:
        _refuse_if_hopeless(seen, answer.failure)
    if not left_seconds:
        if not _blocked_by_own_transaction():
            raise _unavailable(answer.failure)
        # Until a refused token is replaced, whoever asks once more is served the same one.
        raise _blocked(answer.failure, None if refused else seen.grant_id)
    return _Pause(flight, left_seconds if flight is not None else min(left_seconds, POLL_SECONDS))


def _refuse_if_hopeless(seen: GrantState, failure: BaseException | None) -> None:
    if seen.rejected or not seen.renewable:
        if seen.kind == Grant.Kind.API_KEY:
            raise KeyRejected("Partium does not accept the API key. Verify it, or add another one, in the key admin.")
        raise LoginRequired("This login has come to its end.", provider=seen.provider)
    if seen.waiting and not seen.busy:
        raise _unavailable(failure)


def _unavailable(failure: BaseException | None, reason: str = "") -> TokenUnavailable:
    error = TokenUnavailable(f"The access token could not be renewed in time.{reason}")
    error.__cause__ = failure
    return error


def _blocked(failure: BaseException | None, grant_id: uuid.UUID | None) -> TokenUnavailable:
    reason = " The renewal waits for the database, which this request's own transaction holds: "
    reason += 'read the token before writing. (In a test: PARTIUM_EXECUTOR = "inline".)'
    error = _unavailable(failure, reason)
    error.blocked_grant = grant_id
    return error


def _say_when(grant_id: uuid.UUID, error: TokenUnavailable) -> None:
    with contextlib.suppress(AnyDatabaseError):
        error.retry_after = grants.seconds_to_next_attempt(grant_id)


def _patience_seconds() -> float:
    return BLOCKED_PATIENCE_SECONDS if _blocked_by_own_transaction() else PATIENCE_SECONDS


def _blocked_by_own_transaction() -> bool:
    connection = connections[database_alias()]
    return connection.vendor == "sqlite" and connection.in_atomic_block and conf.executor == "thread"


token_manager = TokenManager()
"""This process's token_manager."""
