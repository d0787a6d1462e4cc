"""One refresh of a grant, from the lease to the commit.

1. take the lease (compare-and-swap, no transaction held across HTTP); 2. read the credential again under it; 3. write
``sent_at`` and send, unless the send deadline has passed; 4. commit if the generation is still the same. A process
may be killed at any line: what it leaves in the row tells the next one what is known.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.models import F

from partium_auth import signals
from partium_auth.exceptions import KeyRejected, LoginRequired, PartiumError, UpstreamError
from partium_auth.fields import seal
from partium_auth.host.per_process import PerProcess
from partium_auth.models import ApiKey, Grant
from partium_auth.sealed.plain import Plain
from partium_auth.tokens import grants, lease, refreshed_id_token, send_credential, windows
from partium_auth.tokens.outages import Outages
from partium_auth.tokens.state import GrantState

if TYPE_CHECKING:
    from partium_auth.partium.token_response import TokenResponse

logger = logging.getLogger("partium_auth.tokens")

SEND_DEADLINE_SECONDS = 5.0
"""Longer than this after taking the lease nothing is sent: a process that was stopped meanwhile may no longer hold it."""
FORCED_PAUSE_SECONDS = 5.0
"""After a refresh that a 401 has forced there is none for this long: an upstream that refuses every token gets no storm."""
UNROTATED_ANSWERS = 3
"""So many answers in a row that bring no other refresh token show that the provider does not rotate."""
KEY_REJECTED_SECONDS = 60.0
"""A rejected API key is not tried again for this long."""
_LONGEST_COMMIT_PAUSE_SECONDS = 5.0


def elapsed_clock() -> float:
    """Seconds that never run backwards and, where the system has such a clock, also pass while the machine is suspended."""
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class NotSent(PartiumError):
    """The lease was lost, or the send deadline passed, before anything was sent."""


@dataclass(frozen=True)
class PendingCommit:
    """Refreshed tokens that could not be committed yet."""

    grant: Grant = field(repr=False)
    tokens: TokenResponse = field(repr=False)
    issued_at: float
    generation: int
    state: GrantState = field(repr=False)
    unrotated: int = 0


class _PendingCommits:
    def __init__(self) -> None:
        self.by_grant: dict[uuid.UUID, PendingCommit] = {}
        self.thread: threading.Thread | None = None
        self.lock = threading.Lock()


class Refresher:
    """Refreshes grants in the calling thread.

    Args:
        clock: seconds since the epoch; what ``issued_at`` is measured with.
        elapsed: seconds that never run backwards; what deadlines are measured with.
    """

    def __init__(self, clock: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._pending = PerProcess(_PendingCommits)
        self.outages = Outages(elapsed)

    @property
    def pending(self) -> dict[uuid.UUID, PendingCommit]:
        """What this process has refreshed and could not commit yet, by grant."""
        return self._pending().by_grant

    def refresh(
        self,
        seen: GrantState,
        *,
        forced: bool = False,
        stored: Callable[[GrantState | None], object] | None = None,
    ) -> GrantState | None:
        """Refresh one generation of a grant.

        Args:
            seen: the state whose generation is to be replaced.
            forced: the upstream refused its token before its time; where it refuses the new one as well, the fleet does
                not refresh for :data:`FORCED_PAUSE_SECONDS`.
            stored: called with the new state as soon as it is stored; what follows may ask the provider for its keys.

        Returns:
            The new state; None where somebody else is refreshing, has refreshed, or the next attempt is not due.

        Raises:
            UpstreamFails: nothing was sent, because the upstream fails and another caller probes it.
            UpstreamError: the upstream refused or failed; its outage or the row says when to try again.
            LoginRequired: there is nothing to refresh it with.
            EncryptionError: the credential, or the new token, cannot be opened or sealed.
        """
        self.outages.require_turn(seen.upstream)
        if seen.kind == Grant.Kind.API_KEY and not seen.generation:
            # Here, and not by its reader: what that wrote might be rolled back, or not be seen here.
            grants.for_key(seen.grant_id)
        lease_id = uuid.uuid4()
        taken_at = self._elapsed()
        grant = lease.load(seen.grant_id) if lease.take(seen.grant_id, seen.generation, lease_id) else None
        if grant is None or grant.generation != seen.generation:
            self.outages.give_back_turn(seen.upstream)
            return None

        def before_send() -> None:
            if not lease.mark_sent(seen.grant_id, seen.generation, lease_id):
                raise NotSent("The lease was lost before the refresh was sent.")
            if self._elapsed() - taken_at > SEND_DEADLINE_SECONDS:
                raise NotSent("The refresh's send deadline passed before it was sent.")

        issued_at = self._clock()
        try:
            tokens = send_credential.send_credential(grant, before_send)
        except UpstreamError as error:
            self._upstream_failed(grant, seen, lease_id, error)
            self._send_failed(grant, seen, taken_at, error)
            raise
        except Exception as error:
            self._abort(grant, seen, lease_id, error)
            self._send_failed(grant, seen, taken_at, error)
            raise
        try:
            result = self._store(grant, seen, tokens, issued_at, forced)
        finally:
            # Not before: the new refresh token has to be stored first.
            self.outages.succeeded(seen.upstream)
        if stored is not None:
            stored(result)
        if result is not None:
            refreshed_id_token.keep(grant, tokens, result.generation)
            signals.token_refreshed.send_robust(sender=Grant, **self._signal_arguments(grant, seen, taken_at))
        return result

    def _send_failed(self, grant: Grant, seen: GrantState, taken_at: float, error: Exception) -> None:
        signals.token_refresh_failed.send_robust(
            sender=Grant,
            reason=type(error).__name__,
            status=error.status if isinstance(error, UpstreamError) else None,
            rejected=isinstance(error, UpstreamError) and send_credential.is_rejection(error),
            **self._signal_arguments(grant, seen, taken_at),
        )

    def _signal_arguments(self, grant: Grant, seen: GrantState, taken_at: float) -> dict[str, Any]:
        """What both signals about a refresh tell."""
        return {
            "grant_id": seen.grant_id,
            "kind": seen.kind,
            "upstream": seen.upstream,
            "organization": "" if grant.api_key is None else grant.api_key.organization.org_id,
            "seconds": self._elapsed() - taken_at,
        }

    def _abort(self, grant: Grant, seen: GrantState, lease_id: uuid.UUID, error: Exception) -> None:
        logger.warning("Refreshing grant %s did not take place: %s", seen.grant_id, _text(error))
        if isinstance(error, NotSent):
            lease.release(seen.grant_id, lease_id, sent_at=grant.sent_at)
        elif isinstance(error, LoginRequired | KeyRejected):
            self._record_rejection(seen, lease_id)
        else:
            # No answer was read; sent_at in the row tells whether anything was sent.
            self._back_off(grant, seen, lease_id, sent_at=F("sent_at"))
        if isinstance(error, PartiumError):
            # Nothing was sent, so another caller may probe this upstream at once.
            self.outages.give_back_turn(seen.upstream)

    def _upstream_failed(self, grant: Grant, seen: GrantState, lease_id: uuid.UUID, error: UpstreamError) -> None:
        rejected = send_credential.is_rejection(error)
        if rejected:
            self.outages.succeeded(seen.upstream)
            logger.warning("%s rejected the credential of grant %s (%s).", seen.upstream, seen.grant_id, grant.kind)
            self._record_rejection(seen, lease_id)
        else:
            sent_at = F("sent_at") if send_credential.outcome_is_unknown(error) else grant.sent_at
            if self.outages.failed(seen.upstream, error):
                # The pause is the upstream's, so this grant may be refreshed as soon as the upstream is back.
                lease.release(seen.grant_id, lease_id, sent_at=sent_at)
            else:
                logger.warning(
                    "Refreshing grant %s (%s) failed: %s, status %s",
                    seen.grant_id,
                    grant.kind,
                    type(error).__name__,
                    error.status,
                )
                self._back_off(grant, seen, lease_id, sent_at=sent_at, retry_after_seconds=error.retry_after)
        if grant.api_key_id is not None:
            signals.key_exchanged.send_robust(sender=ApiKey, key_id=grant.api_key_id, ok=False)
            if rejected:
                signals.key_rejected.send_robust(sender=ApiKey, key_id=grant.api_key_id, status=error.status)

    def _record_rejection(self, seen: GrantState, lease_id: uuid.UUID) -> None:
        wait = KEY_REJECTED_SECONDS if seen.kind == Grant.Kind.API_KEY else None
        lease.record_rejection(seen.grant_id, seen.generation, lease_id, retry_in_seconds=wait)

    def _back_off(
        self,
        grant: Grant,
        seen: GrantState,
        lease_id: uuid.UUID,
        *,
        sent_at: dt.datetime | F | None,
        retry_after_seconds: int | None = None,
    ) -> None:
        seconds = retry_after_seconds if retry_after_seconds is not None else windows.backoff_seconds(grant.failures)
        lease.record_failure(seen.grant_id, seen.generation, lease_id, retry_in_seconds=seconds, sent_at=sent_at)

    def _store(
        self, grant: Grant, seen: GrantState, tokens: TokenResponse, issued_at: float, forced: bool
    ) -> GrantState | None:
        reusable, unrotated = _observed_rotation(grant, tokens)
        result = seen._replace(
            generation=seen.generation + 1,
            issued_at=issued_at,
            lifetime_seconds=tokens.lifetime_seconds,
            token=seal(grant, "access_token", Plain(tokens.access_token)).text,
            sent=False,
            busy=False,
            waiting=forced,
            rejected=False,
            reusable=seen.reusable if reusable is None else reusable,
            bound_to=grant.bound_to,  # a key's grant may have been made by this refresh
        )
        try:
            committed = lease.commit(
                grant,
                tokens,
                issued_at,
                generation=seen.generation,
                reusable=reusable,
                unrotated=unrotated,
                pause_seconds=FORCED_PAUSE_SECONDS if forced else None,
            )
        except AnyDatabaseError as error:
            logger.error(
                "The new token of grant %s could not be stored (%s); serving it from memory and trying again.",
                seen.grant_id,
                type(error).__name__,
            )
            self._commit_later(PendingCommit(grant, tokens, issued_at, seen.generation, result, unrotated))
            return result
        if grant.api_key_id is not None:
            signals.key_exchanged.send_robust(sender=ApiKey, key_id=grant.api_key_id, ok=True)
        if not committed:
            logger.info("Grant %s was ended or refreshed elsewhere while it was being refreshed.", seen.grant_id)
            return None
        logger.info("Refreshed grant %s (%s), generation %s.", seen.grant_id, grant.kind, result.generation)
        return result

    # --- a commit that failed ------------------------------------------------------------------------------------

    def _commit_later(self, commit: PendingCommit) -> None:
        pending = self._pending()
        pending.by_grant[commit.state.grant_id] = commit
        with pending.lock:
            if pending.thread is None or not pending.thread.is_alive():
                pending.thread = threading.Thread(target=self._retry_commits, args=(pending,), daemon=True)
                # Where no thread can be started, drain() retries when the process ends.
                with contextlib.suppress(RuntimeError):
                    pending.thread.start()

    def _retry_commits(self, pending: _PendingCommits) -> None:
        pause_seconds = 0.1
        while True:
            self.commit_pending()
            with pending.lock:
                if not pending.by_grant:
                    pending.thread = None
                    return
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_COMMIT_PAUSE_SECONDS)

    def commit_pending(self) -> None:
        """Try once more to commit what could not be committed yet."""
        for grant_id, commit in list(self.pending.items()):
            try:
                lease.commit(
                    commit.grant,
                    commit.tokens,
                    commit.issued_at,
                    generation=commit.generation,
                    reusable=commit.state.reusable,
                    unrotated=commit.unrotated,
                )
            except Exception as error:  # noqa: BLE001  # whatever it is, the token must not be lost
                logger.warning("The token of grant %s is still not stored: %s", grant_id, type(error).__name__)
            else:
                if self.pending.get(grant_id) is commit:  # not a later one of the same grant
                    del self.pending[grant_id]
                logger.info("The token of grant %s is stored now.", grant_id)
            finally:
                connections.close_all()


def _text(error: Exception) -> str:
    # Only our own messages are known to quote no credential.
    return str(error) if isinstance(error, PartiumError) else type(error).__name__


def _observed_rotation(grant: Grant, tokens: TokenResponse) -> tuple[bool | None, int]:
    """Return whether the refresh token may be sent twice (None: as before), and how many answers in a row did not replace it.

    One answer is not enough: Dex returns the same token for three seconds, and rotates it afterwards.
    """
    if grant.kind == Grant.Kind.API_KEY or grant.refresh_token is None:
        return None, 0
    was_learnt = grant.unrotated >= UNROTATED_ANSWERS
    if tokens.refresh_token and tokens.refresh_token != grant.refresh_token.reveal():
        # Only what was learnt here is reset, not what an operator has set (for a grace period, for example).
        return False if was_learnt else None, 0
    if grant.reusable and not was_learnt:
        return None, 0
    unrotated = min(grant.unrotated + 1, UNROTATED_ANSWERS)
    return (True if unrotated >= UNROTATED_ANSWERS else None), unrotated
