"""JSON documents that providers publish: discovery documents and key sets, kept by URL.

Kept in this process (at most :data:`KEPT`) and, where ``PARTIUM_CACHE`` names one, in the shared cache, signed: whoever
can write there must not be able to put a key of their own into a key set. A document is used for as long as the provider's
cache headers say, within bounds; while the provider is down the last one known is used.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from django.core import signing
from django.core.cache import caches

from partium_auth.conf import conf
from partium_auth.exceptions import TimedOut, UnexpectedResponse, UpstreamError
from partium_auth.host.upstream import transport
from partium_auth.http.transport import endpoint_of, raise_for_status

logger = logging.getLogger("partium_auth.oidc")

T = TypeVar("T")

FRESH_AT_LEAST_SECONDS = 300
FRESH_AT_MOST_SECONDS = 24 * 3600
FRESH_BY_DEFAULT_SECONDS = 3600
STALE_AT_MOST_SECONDS = 7 * 24 * 3600
"""How long a document is used that the provider could not be asked for again."""

FETCH_PAUSE_SECONDS = 30
"""Between two unscheduled fetches of one URL: tokens with made-up key ids must not turn into calls.

For so long, too, nobody in this process waits for a document that is not known, once its provider has not answered in time.
"""

FETCH_SECONDS = 5.0
MAX_BYTES = 256 * 1024
KEPT = 64

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Document:
    data: dict[str, Any]
    fetched_at: float
    fresh_until: float


_documents: OrderedDict[str, _Document] = OrderedDict()
_attempts: OrderedDict[str, float] = OrderedDict()
_hung: OrderedDict[str, float] = OrderedDict()
_lock = threading.Lock()


def get(url: str) -> dict[str, Any]:
    """Return the JSON object at a URL, from memory while it is fresh.

    Raises:
        UpstreamError: it is not known and could not be fetched.
    """
    now = time.time()
    document = _newest(url, now)
    if document is not None and now < document.fresh_until:
        return document.data
    if document is None:
        return _fetch_unless_hung(url, now).data
    if not _may_fetch(url, now):
        return document.data
    try:
        return _fetch(url, now).data
    except UpstreamError as e:
        logger.warning("%s; the copy of %d s ago is used.", e, now - document.fetched_at)
        return document.data


def get_newer(url: str, than: dict[str, Any]) -> dict[str, Any] | None:
    """Return a newer version of a document that lacks something, or None where there is none to be had.

    At most one fetch per :data:`FETCH_PAUSE_SECONDS` and URL, in all processes together where they share a cache.
    """
    now = time.time()
    document = _newest(url, now, look_further=True)
    if document is not None and document.data != than:
        return document.data
    if not _may_fetch(url, now):
        return None
    try:
        return _fetch(url, now).data
    except UpstreamError as e:
        logger.warning("%s", e)
        return None


def fetch(url: str) -> dict[str, Any]:
    """Fetch a document now, whatever is kept, and keep it. Raises UpstreamError."""
    return _fetch(url, time.time()).data


def forget() -> None:
    """Forget what this process keeps; for tests."""
    with _lock:
        _documents.clear()
        _attempts.clear()
        _hung.clear()


def _newest(url: str, now: float, *, look_further: bool = False) -> _Document | None:
    with _lock:
        document = _documents.get(url)
    if conf.cache is not None and (look_further or document is None or now >= document.fresh_until):
        shared = _read_shared(url)
        if shared is not None and (document is None or shared.fetched_at > document.fetched_at):
            _keep(url, shared)
            document = shared
    return document if document is not None and now - document.fetched_at < STALE_AT_MOST_SECONDS else None


def _fetch(url: str, now: float) -> _Document:
    response = transport().send("GET", url, total_seconds=FETCH_SECONDS, max_bytes=MAX_BYTES, idempotent=True)
    raise_for_status(response, "Identity provider")
    if response.status != 200:
        raise UnexpectedResponse(f"{response.url} answered {response.status} where 200 was expected.")
    data = response.json()
    if not isinstance(data, dict):
        raise UnexpectedResponse(f"{response.url} did not answer with a JSON object.", status=response.status)
    document = _Document(data, now, now + _fresh_seconds(response.headers))
    _keep(url, document)
    _write_shared(url, document)
    return document


def _fetch_unless_hung(url: str, now: float) -> _Document:
    """Fetch what nobody can do without; who comes soon after a time-out is told at once, and does not wait for another."""
    with _lock:
        hung_at = _hung.get(url, -math.inf)
    if 0 <= now - hung_at < FETCH_PAUSE_SECONDS:
        ago = f"{now - hung_at:.0f} s ago"
        raise TimedOut(f"{endpoint_of(url)} did not answer in time {ago}, and was not asked again.", sent=False)
    try:
        return _fetch(url, now)
    except TimedOut:
        with _lock:
            _note(_hung, url, time.time())
        raise


def _keep(url: str, document: _Document) -> None:
    with _lock:
        _note(_documents, url, document)


def _note(kept: OrderedDict[str, T], url: str, value: T) -> None:
    """Keep the newest; the caller has the lock."""
    kept[url] = value
    kept.move_to_end(url)
    while len(kept) > KEPT:
        kept.popitem(last=False)


def _may_fetch(url: str, now: float) -> bool:
    with _lock:
        last = _attempts.get(url)
        if last is not None and 0 <= now - last < FETCH_PAUSE_SECONDS:
            return False
        _note(_attempts, url, now)
    if conf.cache is None:
        return True
    try:
        return caches[conf.cache].add(_cache_key("attempt", url), 1, FETCH_PAUSE_SECONDS)
    except Exception as e:  # noqa: BLE001  # whatever a cache backend raises; this process's own pause holds anyway
        logger.warning("PARTIUM_CACHE cannot be written (%s).", type(e).__name__)
        return True


def _write_shared(url: str, document: _Document) -> None:
    if conf.cache is None:
        return
    value = signing.dumps([document.data, document.fetched_at, document.fresh_until], salt=_salt(url), compress=True)
    try:
        caches[conf.cache].set(_cache_key("document", url), value, STALE_AT_MOST_SECONDS)
    except Exception as e:  # noqa: BLE001  # whatever a cache backend raises
        logger.warning("PARTIUM_CACHE cannot be written (%s).", type(e).__name__)


def _read_shared(url: str) -> _Document | None:
    assert conf.cache is not None  # noqa: S101  # for the type checker
    try:
        value = caches[conf.cache].get(_cache_key("document", url))
    except Exception as e:  # noqa: BLE001  # whatever a cache backend raises
        logger.warning("PARTIUM_CACHE cannot be read (%s).", type(e).__name__)
        return None
    if not isinstance(value, str):
        return None
    try:
        data, fetched_at, fresh_until = signing.loads(value, salt=_salt(url))
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return _Document(data, fetched_at, fresh_until)


def _salt(url: str) -> str:
    return f"partium_auth.oidc.documents:{url}"


def _cache_key(kind: str, url: str) -> str:
    return f"partium_auth.{kind}.{hashlib.sha256(url.encode()).hexdigest()}"


def _fresh_seconds(headers: Mapping[str, str]) -> float:
    """How long a document is fresh by its headers (RFC 9111 §4.2.1), within our bounds."""
    seconds: float = FRESH_BY_DEFAULT_SECONDS
    cache_control = headers.get("Cache-Control", "")
    if re.search(r"\bno-(?:store|cache)\b", cache_control, re.IGNORECASE):
        seconds = 0
    elif match := _MAX_AGE.search(cache_control):
        age = headers.get("Age", "").strip()
        seconds = int(match.group(1)) - (int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0)
    elif expires := headers.get("Expires"):
        try:
            until = parsedate_to_datetime(expires).timestamp()
            seconds = (
                until - parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else until - time.time()
            )
        except (ValueError, TypeError, OverflowError):
            seconds = 0
    return min(max(seconds, FRESH_AT_LEAST_SECONDS), FRESH_AT_MOST_SECONDS)
