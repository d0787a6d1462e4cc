"""HTTP to Partium and to identity providers: one class on top of ``requests`` that keeps promises ``requests`` does not.

- **A total deadline.** The time-outs of ``requests`` are per read, so an upstream that drips one byte a second holds a
  thread for as long as it likes. Here every connection of a call is registered with a watchdog thread, one per process,
  that shuts the socket down at the deadline; looking up a name and connecting keep to the same deadline.
- **Whether anything was sent is known.** ``UpstreamError.sent`` is False only where no byte of the request left, because
  a refresh token that rotates must not be spent twice.
- **Nothing is carried over.** No redirect is followed, no cookie is kept, ``.netrc`` is never read. Proxies and
  ``REQUESTS_CA_BUNDLE`` from the environment are honored.
- **Nothing leaks.** Messages name scheme, host and path, never a query, a header or a body.
"""

from __future__ import annotations

import base64
import functools
import heapq
import ipaddress
import itertools
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from json import loads
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    DecodeError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.util.connection import allowed_gai_family
from urllib3.util.retry import Retry
from urllib3.util.ssl_ import create_urllib3_context

from partium_auth.exceptions import (
    ConnectionFailed,
    CredentialsRejected,
    LengthRequired,
    NotPermitted,
    PayloadTooLarge,
    RateLimited,
    ServiceUnavailable,
    TimedOut,
    UnexpectedResponse,
    UnprocessableRequest,
    UnsupportedImage,
    UpstreamError,
)
from partium_auth.version import __version__

__all__ = ["InsecureURL", "Response", "Transport", "parse_retry_after", "raise_for_status"]

Body: TypeAlias = bytes | str | Mapping[str, Any] | BinaryIO | Iterable[bytes]

_CHUNK_BYTES: Final = 16 * 1024
_RETRY_PAUSE_SECONDS: Final = 0.1
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
#: Only encodings whose decompression urllib3 can stop in the middle.
_ACCEPT: Final = {"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "gzip, deflate"}
_BEARER = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}")


class InsecureURL(UpstreamError):
    """The URL is not called: not ``https`` (``http`` is for loopback only), with credentials in it, or not a URL."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, read in full. Its ``repr`` shows neither headers nor body: both may hold credentials.

    Attributes:
        status: the HTTP status code.
        headers: the headers; names are looked up without regard to case.
        body: the body, decompressed.
        url: scheme, host and path of what was called, fit for a message: no query and no user info.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters; empty where there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON (RFC 8259).

        Raises:
            UnexpectedResponse: the body is empty or not JSON. The message names the endpoint and the media type only.
        """
        if not self.body.strip():
            problem = "an empty body"
        else:
            try:
                return loads(self.body, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                media_type = self.content_type
                problem = f"something else ({media_type})" if _MEDIA_TYPE.fullmatch(media_type) else "something else"
        raise UnexpectedResponse(
            f"{self.url} answered {self.status} with {problem} where JSON was expected; check the URL.",
            status=self.status,
        )


class Transport:
    """Sends HTTP requests, one at a time per thread. Safe to share between threads, and after a fork.

    Args:
        connect_seconds: for looking up the name and for connecting, each.
        read_seconds: how long the upstream may stay silent.
        total_seconds: for the whole call, whatever the upstream does.
        max_bytes: the largest body accepted, after decompression.
        idle_seconds: a kept connection that was idle for longer is not used again; firewalls drop such connections
            without a word, and the next request on one would run into a time-out.
        user_agent: the ``User-Agent`` header.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = 3.0,
        read_seconds: float = 5.0,
        total_seconds: float = 8.0,
        max_bytes: int = 1024 * 1024,
        idle_seconds: float = 30.0,
        user_agent: str = f"partium_auth/{__version__}",
    ) -> None:
        self.connect_seconds = connect_seconds
        self.read_seconds = read_seconds
        self.total_seconds = total_seconds
        self.max_bytes = max_bytes
        self.idle_seconds = idle_seconds
        self.user_agent = user_agent
        self._kept = threading.local()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: Body | None = None,
        files: Any = None,
        basic: tuple[str, str] | None = None,
        bearer: str | None = None,
        total_seconds: float | None = None,
        max_bytes: int | None = None,
        credential: bool = False,
        idempotent: bool = False,
        before_send: Callable[[], object] | None = None,
    ) -> Response:
        """Send one request and read its answer, whatever its status; see :func:`raise_for_status`.

        A connection that could not be made (refused, name unknown) is tried once more. Nothing else is ever sent twice,
        save with ``idempotent``.

        Args:
            method: the HTTP method.
            url: absolute; ``https``, or ``http`` to loopback.
            headers: ASCII names and values.
            params: the query. Never a credential: URLs end up in logs.
            json: sent as ``application/json``.
            data: form fields, bytes, a binary file, or an iterable of bytes. An iterable with a ``len()`` is sent with a
                ``Content-Length``, one without in chunks; both are streamed.
            files: multipart parts as ``requests`` takes them; held in memory.
            basic: user name and password for ``Authorization: Basic``, encoded as UTF-8 (RFC 7617 §2.1).
            bearer: token for ``Authorization: Bearer`` (RFC 6750 §2.1).
            total_seconds: instead of the transport's own.
            max_bytes: instead of the transport's own.
            credential: the request spends something that can be spent once. It gets a connection of its own, which is
                closed afterwards: a kept one may turn out to be stale only after bytes were sent.
            idempotent: the request may be sent a second time if a kept connection was found closed before any answer.
            before_send: called after connecting, immediately before the first byte of the request; once per attempt. What
                it raises comes out unchanged, and nothing is sent then.

        Raises:
            InsecureURL: see ``url``.
            ConnectionFailed: no connection, or it was closed without an answer.
            TimedOut: any of the three time-outs.
            UnexpectedResponse: the answer is not HTTP, is over ``max_bytes``, or cannot be decompressed.
            ValueError: the arguments cannot be sent; no value is quoted.
        """
        if basic is not None and bearer is not None:
            raise ValueError("Give basic or bearer, not both.")
        all_headers: CaseInsensitiveDict[str] = CaseInsensitiveDict({"User-Agent": self.user_agent, **_ACCEPT})
        if credential:
            all_headers["Connection"] = "close"
        all_headers.update(headers or {})
        if basic is not None:
            all_headers["Authorization"] = _basic(*basic)
        if bearer is not None:
            all_headers["Authorization"] = _bearer(bearer)
        prepared = _prepare(method, url, _checked_headers(all_headers), params, json, data, files)
        endpoint = _endpoint(str(prepared.url))
        call = _Call(
            endpoint=endpoint,
            total_seconds=self.total_seconds if total_seconds is None else total_seconds,
            connect_seconds=self.connect_seconds,
            read_seconds=self.read_seconds,
            idle_seconds=self.idle_seconds,
            before_send=before_send,
        )
        adapter = _Adapter() if credential else self._kept_adapter()
        outer, _current.call = getattr(_current, "call", None), call
        try:
            _watchdog.watch(call)
            limit = self.max_bytes if max_bytes is None else max_bytes
            outcome = self._attempt(adapter, prepared, call, limit)
            if call.stale and idempotent and _is_replayable(prepared.body):
                outcome = self._attempt(adapter, prepared, call, limit)
        finally:
            _watchdog.finish(call)
            _current.call = outer
            if credential:
                adapter.close()
        if isinstance(outcome, Response):
            return outcome
        # Outside of all except clauses, so that nobody prints the causes: urllib3 quotes URLs with their query. And an
        # error report prints every frame's variables.
        del headers, params, json, data, files, basic, bearer, all_headers, prepared, before_send, call, adapter
        try:
            raise outcome
        finally:
            del outcome

    def close(self) -> None:
        """Close the connections kept for the calling thread. The transport can be used again afterwards."""
        kept: tuple[int, _Adapter] | None = getattr(self._kept, "adapter", None)
        if kept is not None:
            del self._kept.adapter
            kept[1].close()

    def _kept_adapter(self) -> _Adapter:
        """The calling thread's adapter; a forked child makes its own, since it shares its parent's sockets."""
        kept: tuple[int, _Adapter] | None = getattr(self._kept, "adapter", None)
        if kept is None or kept[0] != os.getpid():
            kept = self._kept.adapter = (os.getpid(), _Adapter())
        return kept[1]

    def _attempt(
        self, adapter: _Adapter, prepared: requests.PreparedRequest, call: _Call, max_bytes: int
    ) -> Response | Exception:
        answered = False
        try:
            verify, proxies = _environment(str(prepared.url))
            answer = adapter.send(
                prepared,
                stream=True,
                timeout=(self.connect_seconds, self.read_seconds),
                verify=verify,
                proxies=proxies,
            )
            answered = True
            body = _read(answer.raw, max_bytes, call)
            # Past the deadline the watchdog has shut the socket down, which looks like the end of a body.
            if _watchdog.finish(call):
                return _failure(TimeoutError(), call)
            return Response(answer.status_code, answer.headers, body, call.endpoint)
        except UpstreamError as e:
            return e
        except (_Stop, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError) as e:
            call.stale = call.reused and not answered and not call.expired and _is_disconnection(e)
            return call.aborted or _failure(e, call)


def raise_for_status(response: Response, what: str) -> None:
    """Turn an answer that is not 2xx into the exception for it.

    Args:
        response: the answer.
        what: what was asked for, such as "Partium search", to begin the message with.

    Raises:
        UpstreamError: or the subclass for the status (Partium, Find API: error codes), with ``status`` and
            ``retry_after`` set. The message says what to do and quotes nothing of the answer.
    """
    status = response.status
    if 200 <= status < 300:
        return
    kind, advice = _STATUSES.get(status, (UpstreamError, ""))
    if not advice:
        if 300 <= status < 400:
            advice = "redirects are not followed; check the URL."
        elif status >= 500:
            advice = "the fault is on their side; try again later."
        else:
            advice = "check the URL and what was sent."
    retry_after = parse_retry_after(response.headers)
    if retry_after is not None:
        advice = f"{advice} Asked to wait {retry_after} s."
    raise kind(f"{what}: {response.url} answered {status}: {advice}", status=status, retry_after=retry_after)


def parse_retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> int | None:
    """How many seconds the upstream asks to be left alone, from ``Retry-After`` (RFC 9110 §10.2.3).

    Partium sends a date with 429 and seconds with 503. A date is read against the ``Date`` of the same answer, so that
    the two clocks do not have to agree.

    Args:
        headers: a mapping that ignores case, such as :attr:`Response.headers`.
        now: aware; stands in for a missing ``Date``. Default: the current time.

    Returns:
        1 to 300, or None where there is no such header or it cannot be read.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0")[:4]  # enough to be over the limit; int() refuses thousands of them
        return max(1, min(int(digits or "0"), 300))
    at = _http_date(value)
    if at is None:
        return None
    since = _http_date(headers.get("Date", "")) or now or datetime.now(UTC)
    return max(1, min(int((at - since).total_seconds()), 300))


# --- what an answer means -------------------------------------------------------------------------------------------

_STATUSES: Final[Mapping[int, tuple[type[UpstreamError], str]]] = {
    401: (
        CredentialsRejected,
        "the credentials are missing, unknown or no longer valid; log in again or check the key.",
    ),
    403: (NotPermitted, "these credentials may not do this; check their organization and role."),
    411: (LengthRequired, "a Content-Length is required; send a body whose length is known."),
    413: (PayloadTooLarge, "the payload is too large (Partium: 5.5 MiB with image and input); send a smaller image."),
    415: (UnsupportedImage, "the format is not recognized; send the image as JPEG or PNG."),
    422: (UnprocessableRequest, "the data is not acceptable; check organization, language and projection."),
    429: (RateLimited, "over the agreed rate; slow down."),
    503: (ServiceUnavailable, "temporarily unavailable; try again later."),
}


def _http_date(value: str) -> datetime | None:
    # parsedate_to_datetime takes strings that are no dates at all; an HTTP date has a time of day and a year.
    if not re.search(r"\d\d:\d\d:\d\d", value):
        return None
    try:
        date = parsedate_to_datetime(value)
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# --- what may be sent, and where to ---------------------------------------------------------------------------------


def _prepare(
    method: str,
    url: str,
    headers: Mapping[str, str],
    params: Mapping[str, Any] | None,
    json: Any,
    data: Body | None,
    files: Any,
) -> requests.PreparedRequest:
    prepared = requests.PreparedRequest()
    problem: str | None = None
    try:
        prepared.prepare(
            method=method.upper(),
            url=_checked_url(url),
            headers=headers,
            params=dict(params or {}),
            data=data if data is not None else {},
            files=files,
            json=json,
        )
    except requests.exceptions.InvalidJSONError:
        problem = "The JSON has a value that JSON has no form for, such as NaN."
    except requests.exceptions.RequestException:
        raise InsecureURL("That is not a URL that can be called; see PARTIUM_API_URL or the provider.") from None
    if problem:
        raise ValueError(problem)
    # Once more on what is really going to be called: two parsers may not disagree about the host.
    _checked_url(str(prepared.url))
    return prepared


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Refuses what requests and http.client would refuse, but those quote the value in their message."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"The header {name!r} has characters that cannot be sent.")
    return headers


def _basic(username: str, password: str) -> str:
    if ":" in username:
        raise ValueError("A user name for Basic authentication cannot have a colon in it (RFC 7617 §2).")
    if _CONTROL.search(username) or _CONTROL.search(password):
        raise ValueError("User name and password cannot have control characters in them (RFC 7617 §2).")
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _bearer(token: str) -> str:
    if not _BEARER.fullmatch(token):
        raise ValueError("A bearer has to be printable ASCII without spaces, and not empty.")
    return f"Bearer {token}"


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"http", "https"}:
        raise InsecureURL("Only absolute https:// URLs are called; see PARTIUM_API_URL or the provider.")
    if "@" in parts.netloc:
        raise InsecureURL(f"{_endpoint(url)}: credentials do not belong in a URL; remove what stands before the @.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InsecureURL(f"{_endpoint(url)}: plain http:// is for loopback only; use https://.")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_replayable(body: object) -> bool:
    """Whether the body can be sent a second time: bytes, or something that starts anew each time it is iterated."""
    if body is None or isinstance(body, (bytes, str)):
        return True
    return not hasattr(body, "read") and isinstance(body, Iterable) and not isinstance(body, Iterator)


#: Reads proxies and the CA bundle from the environment. It never sends: a session that does would read ``.netrc``, keep
#: cookies, and read the body of a redirect without a limit.
_session = requests.Session()


def _environment(url: str) -> tuple[bool | str, dict[str, str]]:
    """CA bundle (True: certifi's) and proxies for a URL."""
    settings = _session.merge_environment_settings(url, {}, True, None, None)
    # Plain http is for loopback; through a proxy it would leave the machine.
    return settings["verify"] or True, {} if urlsplit(url).scheme == "http" else dict(settings["proxies"])


@functools.lru_cache(maxsize=8)
def _tls_context(bundle: str) -> ssl.SSLContext:
    """One context per CA bundle: to load one takes longer (13 ms) than all else that happens for a call."""
    context = create_urllib3_context()
    try:
        if os.path.isdir(bundle):
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError:
        raise ConnectionFailed(
            f"The CA bundle {bundle} cannot be read; check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.", sent=False
        ) from None
    return context


# --- one call, its deadline and its connection ----------------------------------------------------------------------


class _Stop(BaseException):
    """Ends a call from inside of urllib3, which catches and retries exceptions, but no BaseException."""


class _Call:
    """What one call may still do and what has become of it."""

    def __init__(
        self,
        *,
        endpoint: str,
        total_seconds: float,
        connect_seconds: float,
        read_seconds: float,
        idle_seconds: float,
        before_send: Callable[[], object] | None,
    ) -> None:
        self.endpoint = endpoint
        self.total_seconds = total_seconds
        self.connect_seconds = connect_seconds
        self.read_seconds = read_seconds
        self.idle_seconds = idle_seconds
        self.before_send = before_send
        self.deadline = time.monotonic() + total_seconds
        self.sent = False
        self.reused = False
        self.stale = False
        self.aborted: Exception | None = None
        self.expired = False
        self.finished = False
        self.descriptor: int | None = None  # a duplicate of the socket's; see _Watchdog

    def seconds_to_connect(self) -> float:
        """For the next step of connecting."""
        seconds = min(self.connect_seconds, self.deadline - time.monotonic())
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def leave(self) -> None:
        """The connection is there and the request goes out now, unless there is a reason why it may not."""
        if self.before_send is not None:
            try:
                self.before_send()
            except Exception as e:
                self.aborted = e
                raise _Stop from e
        if self.expired or time.monotonic() >= self.deadline:
            raise _Stop
        self.sent = True


class _Watchdog:
    """Shuts the sockets of overdue calls down, from one daemon thread per process, started with the first call.

    It holds a duplicate of a socket's descriptor for the time of the call: wrapping a socket in TLS detaches the
    original, and a number whose socket was closed may meanwhile belong to somebody else's.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, _Call]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def start_over(self) -> None:
        """In a forked child: the watching thread, the calls and maybe the holder of the lock stayed in the parent."""
        for _, _, call in self._calls:
            self._let_go(call)
        self._reset()

    def watch(self, call: _Call) -> None:
        """Watch a call until :meth:`finish`."""
        with self._changed:
            heapq.heappush(self._calls, (call.deadline, next(self._numbers), call))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="partium_auth deadlines", daemon=True)
                self._thread.start()
            elif self._calls[0][2] is call:
                self._changed.notify()

    def hold(self, call: _Call, sock: socket.socket) -> None:
        """This is the socket to shut down; it replaces an earlier one."""
        with self._changed:
            self._let_go(call)
            if call.expired:
                raise _Stop
            call.descriptor = socket.dup(sock.fileno())

    def finish(self, call: _Call) -> bool:
        """Let go of the call's socket. Returns whether the deadline had passed before."""
        with self._changed:
            call.finished = True
            call.before_send = None
            self._let_go(call)
            return call.expired

    def _let_go(self, call: _Call) -> None:
        # Forgotten first: a child that is forked in between may not close a number that is somebody else's by then.
        descriptor, call.descriptor = call.descriptor, None
        if descriptor is not None:
            socket.close(descriptor)

    def _run(self) -> None:
        with self._changed:
            while True:
                while self._calls and (self._calls[0][2].finished or self._calls[0][0] <= time.monotonic()):
                    self._expire(heapq.heappop(self._calls)[2])
                self._changed.wait(self._calls[0][0] - time.monotonic() if self._calls else None)

    def _expire(self, call: _Call) -> None:
        if call.finished:
            return
        call.expired = True
        if call.descriptor is not None:
            descriptor, call.descriptor = call.descriptor, None
            try:
                with socket.socket(fileno=descriptor) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster


_watchdog = _Watchdog()
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_watchdog.start_over)

#: The calling thread's call: urllib3 has no way to hand it through to a connection.
_current = threading.local()


def _call() -> _Call:
    call: _Call = _current.call
    return call


class _Lines:
    """What ``HTTPResponse.begin`` reads from, with the last line remembered."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Answer(HTTPResponse):
    """An answer whose headers have to have an end: the standard library takes a connection's end for it."""

    def begin(self) -> None:
        file = self.fp
        lines: Any = _Lines(file)
        self.fp = lines
        super().begin()
        self.fp = file
        if lines.last not in {b"\r\n", b"\n"}:
            raise RemoteDisconnected("no end of headers")


class _Connection(HTTPConnection):
    """A connection that keeps to the deadline of the calling thread's call, and asks it before it sends."""

    response_class = _Answer
    _used_at = 0.0

    def _new_conn(self) -> socket.socket:
        call = _call()
        try:
            sock = _connect(self, call)
        except socket.gaierror as e:
            raise NameResolutionError(self.host, self, e) from e
        except TimeoutError as e:
            raise _Stop from e  # not a NewConnectionError, which would be tried again
        except OSError as e:
            raise NewConnectionError(self, "not connected") from e
        try:
            _watchdog.hold(call, sock)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self._used_at < _call().idle_seconds

    def request(self, *args: Any, **kwargs: Any) -> None:
        call = _call()
        if self.sock is None:
            self.connect()
        elif call.descriptor is None:
            call.reused = True
            _watchdog.hold(call, self.sock)
        call.leave()
        self._used_at = time.monotonic()
        self.timeout = call.total_seconds  # to send; urllib3 sets the one for reading afterwards
        super().request(*args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS: Final = {"http": _Pool, "https": _TLSPool}


class _RetryConnecting(Retry):
    """One more attempt where no connection was made; nothing else, since a request may have been sent."""

    def __init__(self, total: Any = 1, **kwargs: Any) -> None:
        super().__init__(total, **{"connect": 1, "read": False, "redirect": False, "status": 0, "other": 0, **kwargs})

    def sleep(self, response: Any = None) -> None:
        time.sleep(_RETRY_PAUSE_SECONDS)


class _Adapter(HTTPAdapter):
    """Pools of one connection per host, for one thread."""

    def __init__(self) -> None:
        super().__init__(pool_connections=8, pool_maxsize=1)
        self.max_retries = _RetryConnecting()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("socks"):
            raise ConnectionFailed("SOCKS proxies are not supported; set HTTPS_PROXY to an HTTP proxy.", sent=False)
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, True, cert)
        if host["scheme"] == "https":
            pool["ssl_context"] = _tls_context(verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH)
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context verifies, and would load the bundle anew for each connection otherwise."""


def _connect(connection: _Connection, call: _Call) -> socket.socket:
    """A connected socket. Each address gets what is left: an upstream with many dead ones may not add up time-outs."""
    failure: OSError = OSError("no address")
    host = connection._dns_host.strip("[]")
    for family, kind, protocol, _, address in _addresses(host, connection.port, call.seconds_to_connect()):
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(call.seconds_to_connect())
            sock.connect(address)
        except OSError as e:
            failure = e
            if sock is not None:
                sock.close()
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # it holds this frame


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    """What the name stands for. A look-up cannot be interrupted, so it gets a thread that can be left behind."""
    look_up = functools.partial(socket.getaddrinfo, host, port, allowed_gai_family(), socket.SOCK_STREAM)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return look_up()
    outcome: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(look_up())
        except (OSError, UnicodeError) as e:
            outcome.put(e if isinstance(e, OSError) else socket.gaierror(socket.EAI_NONAME, "not a host name"))

    threading.Thread(target=run, name="partium_auth look-up", daemon=True).start()
    try:
        found = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


# --- reading, and telling failures apart ----------------------------------------------------------------------------


def _read(raw: Any, max_bytes: int, call: _Call) -> bytes:
    problem: str | None = None
    chunks: list[bytes] = []
    size = 0
    # A chain of encodings could multiply a small chunk beyond any limit, and others were not asked for.
    if raw.headers.get("Content-Encoding", "").strip().lower() not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        problem = "in an encoding that was not asked for"
    else:
        try:
            for chunk in raw.stream(_CHUNK_BYTES, decode_content=True):
                size += len(chunk)
                if size > max_bytes:
                    problem = f"with more than {max_bytes} bytes"
                    break
                chunks.append(chunk)
        except BaseException:
            raw.close()
            raise
    if problem:
        raw.close()
        raise UnexpectedResponse(f"{call.endpoint} answered {raw.status} {problem}.", status=raw.status)
    return b"".join(chunks)


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """The exception and everything it wraps: requests and urllib3 put causes into ``args`` and ``reason`` as well."""
    pending: list[object] = [failure]
    seen: set[int] = set()
    while pending:
        error = pending.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            pending += [*error.args, getattr(error, "reason", None), error.__cause__, error.__context__]


def _is_disconnection(failure: BaseException) -> bool:
    return any(isinstance(cause, (ConnectionError, ssl.SSLEOFError)) for cause in _causes(failure))


_FAILURES: Final[tuple[tuple[type[BaseException], type[UpstreamError], str], ...]] = (
    (DecodeError, UnexpectedResponse, "answered with a body that cannot be decompressed"),
    (socket.gaierror, ConnectionFailed, "has a host name that cannot be resolved; check the URL and DNS"),
    (ssl.SSLCertVerificationError, ConnectionFailed, "has a certificate that is not trusted"),
    (ssl.SSLError, ConnectionFailed, "could not be spoken to over TLS"),
    (ConnectionRefusedError, ConnectionFailed, "refuses connections; check the URL, or try again later"),
    (ProxyError, ConnectionFailed, "could not be reached through the proxy that the environment names"),
    (ConnectionError, ConnectionFailed, "closed the connection without an answer"),
    (IncompleteRead, ConnectionFailed, "closed the connection in the middle of its answer"),
    (HTTPException, UnexpectedResponse, "answered with something that is not HTTP"),
    (InvalidHeader, UnexpectedResponse, "answered with something that is not HTTP"),
    (NewConnectionError, ConnectionFailed, "could not be reached"),
    (BaseException, ConnectionFailed, "could not be talked to"),
)


def _failure(failure: BaseException, call: _Call) -> UpstreamError:
    """What the caller gets to see of what urllib3 raised."""
    causes = list(_causes(failure))
    if call.expired or any(isinstance(cause, (_Stop, TimeoutError, ReadTimeoutError)) for cause in causes):
        if call.sent:
            return TimedOut(f"{call.endpoint} did not answer in time (at most {call.total_seconds:g} s in all).")
        return TimedOut(f"{call.endpoint} could not be reached in time; nothing was sent.", sent=False)
    cause, kind, text = next(
        (cause, kind, text) for known, kind, text in _FAILURES for cause in causes if isinstance(cause, known)
    )
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"{text}: {cause.verify_message}"
    return kind(f"{call.endpoint} {text}.", sent=call.sent)
