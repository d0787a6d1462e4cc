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

import os
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from partium_auth.exceptions import UnexpectedResponse, UpstreamError
from partium_auth.http.answers import Response, parse_retry_after, raise_for_status
from partium_auth.http.connections import Adapter
from partium_auth.http.deadline import Call, Stop, current, watchdog
from partium_auth.http.environment import environment_for
from partium_auth.http.failures import failure_of, is_disconnection
from partium_auth.http.outgoing import (
    Body,
    InsecureURL,
    basic_credentials,
    bearer_credentials,
    checked_headers,
    endpoint_of,
    is_replayable,
    prepare,
)
from partium_auth.version import __version__

__all__ = ["InsecureURL", "Response", "Transport", "endpoint_of", "parse_retry_after", "raise_for_status"]

_CHUNK_BYTES: Final = 16 * 1024
#: Only encodings whose decompression urllib3 can stop in the middle.
_ACCEPT: Final = {"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "gzip, deflate"}


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
            all_headers["Authorization"] = basic_credentials(*basic)
        if bearer is not None:
            all_headers["Authorization"] = bearer_credentials(bearer)
        prepared = prepare(method, url, checked_headers(all_headers), params, json, data, files)
        endpoint = endpoint_of(str(prepared.url))
        call = Call(
            endpoint=endpoint,
            total_seconds=self.total_seconds if total_seconds is None else total_seconds,
            connect_seconds=self.connect_seconds,
            read_seconds=self.read_seconds,
            idle_seconds=self.idle_seconds,
            before_send=before_send,
        )
        adapter = Adapter() if credential else self._kept_adapter()
        outer, current.call = getattr(current, "call", None), call
        try:
            watchdog().watch(call)
            limit = self.max_bytes if max_bytes is None else max_bytes
            outcome = self._attempt(adapter, prepared, call, limit)
            if call.stale and idempotent and is_replayable(prepared.body):
                outcome = self._attempt(adapter, prepared, call, limit)
        finally:
            watchdog().finish(call)
            current.call = outer
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
        kept: tuple[int, Adapter] | None = getattr(self._kept, "adapter", None)
        if kept is not None:
            del self._kept.adapter
            kept[1].close()

    def _kept_adapter(self) -> Adapter:
        """The calling thread's adapter; a forked child makes its own, since it shares its parent's sockets."""
        kept: tuple[int, Adapter] | None = getattr(self._kept, "adapter", None)
        if kept is None or kept[0] != os.getpid():
            kept = self._kept.adapter = (os.getpid(), Adapter())
        return kept[1]

    def _attempt(
        self, adapter: Adapter, prepared: requests.PreparedRequest, call: Call, max_bytes: int
    ) -> Response | Exception:
        answered = False
        try:
            verify, proxies = environment_for(str(prepared.url))
            answer = adapter.send(
                prepared,
                stream=True,
                timeout=(self.connect_seconds, self.read_seconds),
                verify=verify,
                proxies=proxies,
            )
            answered = True
            body = _read_body(answer.raw, max_bytes, call)
            # Past the deadline the watchdog has shut the socket down, which looks like the end of a body.
            if watchdog().finish(call):
                return failure_of(TimeoutError(), call)
            return Response(answer.status_code, answer.headers, body, call.endpoint)
        except UpstreamError as e:
            return e
        except (Stop, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError) as e:
            call.stale = call.reused and not answered and not call.expired and is_disconnection(e)
            return call.aborted or failure_of(e, call)


def _read_body(raw: Any, max_bytes: int, call: Call) -> bytes:
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
