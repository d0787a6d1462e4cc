"""The refreshes that are under way in this process: at most one of each grant, and a future of it for whoever waits."""

from __future__ import annotations

import atexit
import concurrent.futures
import functools
import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias

from partium_auth.conf import conf
from partium_auth.exceptions import PartiumError
from partium_auth.host.per_process import PerProcess
from partium_auth.tokens.refresh import Refresher
from partium_auth.tokens.state import GrantState
from partium_auth.tokens.workers import Executor, Saturated

logger = logging.getLogger("partium_auth.tokens")

RunningRefresh: TypeAlias = Future[GrantState | None]
"""Its result is the new state; None where nothing was refreshed."""

EXIT_SECONDS = 9.0


class _ByGrant:
    def __init__(self, at_exit: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.running: dict[uuid.UUID, RunningRefresh] = {}
        atexit.register(at_exit)


class RefreshesUnderWay:
    """Starts refreshes, in threads or in the calling one, and lets callers join those that run already.

    Args:
        queued_seconds: a refresh that was queued for longer than this is dropped.
    """

    def __init__(self, refresher: Refresher, elapsed: Callable[[], float], *, queued_seconds: float) -> None:
        self._refresher = refresher
        self._elapsed = elapsed
        self._queued_seconds = queued_seconds
        self._executor = Executor(threads=lambda: conf.refresh_threads)
        self._by_grant = PerProcess(functools.partial(_ByGrant, self.drain))

    @property
    def grants(self) -> set[uuid.UUID]:
        """The grants that are being refreshed."""
        return set(self._by_grant().running)

    @property
    def queued(self) -> dict[str, int]:
        """How many refreshes of each upstream wait for a thread."""
        return self._executor.queued

    def join_or_start(self, seen: GrantState, *, is_due: bool, forced: bool, here: bool) -> RunningRefresh | None:
        """Join the grant's refresh that is under way, or start one.

        Args:
            seen: the grant, with the generation to be replaced.
            is_due: whether to start one, where none is under way.
            forced: as for :meth:`Refresher.refresh`.
            here: in this thread, because its open transaction blocks the others.

        Returns:
            The refresh, which has ended already where it took place in this thread; None: there is none.
        """
        by_grant = self._by_grant()
        with by_grant.lock:
            refresh = by_grant.running.get(seen.grant_id)
            if refresh is not None:
                return refresh
            if not is_due:
                return None
            refresh = by_grant.running[seen.grant_id] = Future()
        job = functools.partial(self._run, seen, refresh, forced, self._elapsed())
        inline = conf.executor == "inline"
        if inline or here:
            job()
            if not inline and refresh.exception() is not None:
                # The failure was written in the caller's transaction and may be rolled back. Refresh again in a thread, so that
                # other processes see it.
                self.join_or_start(seen, is_due=is_due, forced=forced, here=False)
        else:
            try:
                self._executor.submit(seen.upstream, job)
            except Exception as error:
                # Also where a setting is wrong: a refresh that stays registered is waited for by every later caller.
                self._end(seen, refresh, None, error)
                if not isinstance(error, Saturated):
                    raise
        return refresh

    def drain(self, seconds: float = EXIT_SECONDS) -> None:
        """Wait for the answers that are on their way, and store them: a process that ends would lose a rotated refresh token."""
        deadline = time.monotonic() + seconds
        concurrent.futures.wait(list(self._by_grant().running.values()), timeout=seconds)
        while self._refresher.pending and time.monotonic() < deadline:
            self._refresher.commit_pending()
            time.sleep(0.05)

    def _run(self, seen: GrantState, refresh: RunningRefresh, forced: bool, queued_at: float) -> None:
        result: GrantState | None = None
        failure: BaseException | None = None
        try:
            if self._elapsed() - queued_at <= self._queued_seconds:
                result = self._refresher.refresh(
                    seen, forced=forced, stored=lambda result: self._end(seen, refresh, result, None)
                )
        except BaseException as error:  # it belongs to whoever waits
            failure = error
            if not isinstance(error, PartiumError):
                logger.warning("Refreshing grant %s failed: %s", seen.grant_id, type(error).__name__)
            if not isinstance(error, Exception):
                raise
        finally:
            self._end(seen, refresh, result, failure)

    def _end(
        self,
        seen: GrantState,
        refresh: RunningRefresh,
        result: GrantState | None,
        failure: BaseException | None,
    ) -> None:
        by_grant = self._by_grant()
        with by_grant.lock:
            if refresh.done():  # its waiters have had it as soon as it was stored
                return
            by_grant.running.pop(seen.grant_id, None)
        if failure is None:
            refresh.set_result(result)
        else:
            # Its frames hold the credential, and an error report of the waiting request would show them.
            failure.__traceback__ = failure.__cause__ = failure.__context__ = None
            refresh.set_exception(failure)
