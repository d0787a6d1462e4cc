"""JSON documents that providers publish: discovery documents and key sets, cached per process by URL.

A document is fetched again after :data:`FRESH_SECONDS`; at the start of a login, after :data:`LOGIN_FRESH_SECONDS`. While the
provider cannot be reached, the cached document is used for at most :data:`STALE_SECONDS`. One thread fetches; the others use the
cached document, or wait for a moment if there is none, so that a provider that hangs blocks one thread.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

from partium_auth.exceptions import TimedOut, UnexpectedResponse, UpstreamError
from partium_auth.host.per_process import PerProcess
from partium_auth.host.upstream import send_upstream_called, transport
from partium_auth.http.transport import endpoint_of, raise_for_status
from partium_auth.oidc.provider import Provider

logger = logging.getLogger("partium_auth.oidc")

FRESH_SECONDS = 3600
LOGIN_FRESH_SECONDS = 30
"""Short, so that the next logins see a change; a refresh in the background need not."""

STALE_SECONDS = 7 * 24 * 3600
PAUSE_SECONDS = 30
"""Between two fetches of a document that is not due, unless the first one brought something new; also after a time-out, and after
a failure while there is a cached document. Each reason to fetch has its own pause: anybody can send logout tokens with made-up
key ids, and ID tokens must be verified meanwhile.
"""

FETCH_SECONDS = 5.0
WAIT_SECONDS = 1.0
"""How long a thread waits for another one that fetches the same document."""

_DUE = "due"
MAX_BYTES = 256 * 1024
MAX_DOCUMENTS = 64


class _Document:
    """One document as this process knows it; whoever holds ``lock`` may fetch it."""

    def __init__(self, url: str, public_only: bool) -> None:
        self.url = url
        self.public_only = public_only
        self.data: dict[str, Any] = {}
        self.fetched_at = -math.inf
        self.paused_at: dict[str, float] = {}
        self.lock = threading.Lock()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.fetched_at

    def is_paused(self, reason: str) -> bool:
        return time.monotonic() - self.paused_at.get(reason, -math.inf) < PAUSE_SECONDS

    def pause(self, reason: str) -> None:
        self.paused_at[reason] = time.monotonic()

    def fetch(self) -> dict[str, Any]:
        asked_at = time.monotonic()
        response = transport().send(
            "GET",
            self.url,
            total_seconds=FETCH_SECONDS,
            max_bytes=MAX_BYTES,
            idempotent=True,
            public_only=self.public_only,
            observe=partial(send_upstream_called, Provider, "", "provider_metadata"),
        )
        raise_for_status(response, "Identity provider")
        if response.status != 200:
            raise UnexpectedResponse(f"{response.url} answered {response.status} where 200 was expected.")
        data = response.json()
        if not isinstance(data, dict):
            raise UnexpectedResponse(f"{response.url} did not answer with a JSON object.", status=response.status)
        self.data, self.fetched_at = data, asked_at
        return data


_cache = PerProcess(lambda: (threading.Lock(), lru_cache(maxsize=MAX_DOCUMENTS)(_Document)))


def get(url: str, *, public_only: bool = False, starts_login: bool = False) -> dict[str, Any]:
    """Return the JSON object at a URL, from the cache while it is fresh.

    Args:
        public_only: somebody else wrote the URL; see ``Transport.send``.

    Raises:
        UpstreamError: it is not cached and could not be fetched.
    """
    document = _document(url, public_only)
    if document.age_seconds < (LOGIN_FRESH_SECONDS if starts_login else FRESH_SECONDS):
        return document.data
    if document.age_seconds < STALE_SECONDS:
        return _fetch_unless_paused(document, document.data, _DUE, wait_seconds=0) or document.data
    with _turn(document, WAIT_SECONDS) as is_held:
        if document.age_seconds < FRESH_SECONDS:  # another thread has fetched it
            return document.data
        if not is_held or document.is_paused(_DUE):
            raise TimedOut(f"{endpoint_of(url)} has not answered in time, and was not asked again.", sent=False)
        try:
            return document.fetch()
        except TimedOut:
            document.pause(_DUE)
            raise


def get_newer(url: str, than: dict[str, Any], *, reason: str, public_only: bool = False) -> dict[str, Any] | None:
    """Return a newer version of a document that lacks something; None: there is none, or the last try was a moment ago.

    At most one fetch in vain per :data:`PAUSE_SECONDS`, URL, reason and process.

    Args:
        than: the version that lacks something.
        reason: one of a few words, such as ``"id_token"``.
    """
    newer = _fetch_unless_paused(_document(url, public_only), than, reason, wait_seconds=WAIT_SECONDS)
    return newer if newer != than else None


def fetch(url: str, *, public_only: bool = False) -> dict[str, Any]:
    """Fetch a document now, also where the cached one is fresh, and cache it. Raises UpstreamError."""
    return _document(url, public_only).fetch()


def forget() -> None:
    """Empty this process's cache; for tests."""
    _cache()[1].cache_clear()


def _document(url: str, public_only: bool) -> _Document:
    lock, find = _cache()
    with lock:  # two threads that miss at once would each make one
        return find(url, public_only)


def _fetch_unless_paused(
    document: _Document, old: dict[str, Any], reason: str, *, wait_seconds: float
) -> dict[str, Any] | None:
    with _turn(document, wait_seconds) as is_held:
        if document.data and document.data != old:  # another thread has fetched it
            return document.data
        if not is_held or document.is_paused(reason):
            return None
        document.pause(reason)
        try:
            newer = document.fetch()
        except UpstreamError as e:
            logger.warning("%s The copy of %.0f s ago is used.", e, document.age_seconds)
            return None
        if newer != old:
            document.paused_at.pop(reason)  # keys may change twice in a short time
        return newer


@contextmanager
def _turn(document: _Document, wait_seconds: float) -> Iterator[bool]:
    """Hold a document's lock if it is free within some seconds; tell whether it is held."""
    is_held = document.lock.acquire(timeout=wait_seconds)
    try:
        yield is_held
    finally:
        if is_held:
            document.lock.release()
