"""Calls to an upstream for logins: few at once, and none while it fails, so that it costs only those who log in there."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from partium_auth.conf import conf
from partium_auth.exceptions import ConnectionFailed, CredentialsRejected, TimedOut, UpstreamError
from partium_auth.host.per_process import PerProcess
from partium_auth.host.waiting import holds_server_thread, return_connections_to_pools
from partium_auth.oidc.errors import Refused
from partium_auth.tokens.manager import token_manager
from partium_auth.tokens.outages import UpstreamFails

BUSY_RETRY_SECONDS = 5
"""At most; by chance, so that those who were turned away do not come back all at once."""


class TooManyLogins(UpstreamError):
    """Nothing was sent: this process allows no more logins at this upstream at once."""

    def __init__(self, upstream: str) -> None:
        super().__init__(
            f"As many logins ask {upstream} already as PARTIUM_REFRESH_THREADS and PARTIUM_MAX_WAITING allow.",
            retry_after=1 + secrets.randbelow(BUSY_RETRY_SECONDS),
            sent=False,
        )


NOT_ASKED = (UpstreamFails, TooManyLogins)
"""The upstream was not asked: neither the code, the password nor the started login is used up."""


class _UnderWay:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        # A name leaves with its last login, so a visitor cannot fill this with names.
        self.logins: Counter[str] = Counter()


_under_way = PerProcess(_UnderWay)


@contextmanager
def turn(upstream: str) -> Iterator[None]:
    """Let one login ask an upstream; costs no query while the upstream is well.

    Raises:
        UpstreamFails: it fails, and it is not this login's turn to try it.
        TooManyLogins: twice ``PARTIUM_REFRESH_THREADS`` logins ask it already, or too many callers wait for any upstream.
    """
    here, most, holds_thread = _under_way(), 2 * conf.refresh_threads, holds_server_thread()
    with here.lock:
        if here.logins[upstream] >= most or not token_manager.waiting.take(holds_thread=holds_thread):
            raise TooManyLogins(upstream)
        here.logins[upstream] += 1
    try:
        token_manager.outages.require_turn_if_failing(upstream)
        try:
            yield
        except Refused:  # before anything was sent, or after an answer: a replayed callback must not use up the probe
            token_manager.outages.give_back_turn(upstream)
            raise
    finally:
        token_manager.waiting.give_back(holds_thread=holds_thread)
        with here.lock:
            here.logins[upstream] -= 1
            here.logins += Counter()  # drops names without logins


@contextmanager
def noted_outcome(upstream: str) -> Iterator[None]:
    """Tell everybody who asks an upstream what came of a call to the endpoint that tokens come from."""
    return_connections_to_pools()
    try:
        yield
    except CredentialsRejected:
        token_manager.outages.succeeded(upstream)
        raise
    except UpstreamError as error:
        # A 429 or 500 may be about what this visitor sent: visitors must not be able to stop everybody's refreshes.
        if isinstance(error, TimedOut | ConnectionFailed) or error.status in {502, 503, 504}:
            token_manager.outages.failed(upstream, error)
        raise
    else:
        token_manager.outages.succeeded(upstream)
