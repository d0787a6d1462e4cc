"""HTTP to Partium and to identity providers: one class with the promises that ``requests.Session`` does not make.

- **A total deadline**, whatever the upstream does. A DNS look-up cannot be interrupted and may last as long as the
  resolver lets it; but after the deadline nothing is sent.
- **Whether anything was sent is known.** ``UpstreamError.sent`` is False only where no byte of the request was sent,
  because a refresh token that rotates must not be spent twice.
- **Nothing is carried over.** No redirect is followed, no cookie is kept, ``.netrc`` is never read.
- **Nothing leaks.** Messages name scheme, host and path, never a query, a header or a body.

``requests`` encodes the request and reads proxy and CA bundle from the environment; ``http.client`` sends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from partium_auth.exceptions import UpstreamError
from partium_auth.http.connection import Connection, open_connection
from partium_auth.http.deadline import Deadline
from partium_auth.http.errors import FAILURES, FoundClosed, failure_of
from partium_auth.http.request import (
    Body,
    InsecureURL,
    basic_credentials,
    bearer_credentials,
    endpoint_of,
    prepare,
)
from partium_auth.http.response import Response, parse_retry_after, raise_for_status
from partium_auth.sealed.plain import Plain
from partium_auth.version import __version__

__all__ = ["Call", "InsecureURL", "Response", "Transport", "endpoint_of", "parse_retry_after", "raise_for_status"]

_HEADERS: Final = {
    "User-Agent": f"partium_auth/{__version__}",
    "Accept": "application/json, */*;q=0.5",
    "Accept-Encoding": "gzip",
}


class Call(NamedTuple):
    """What may be told of one call: nothing secret.

    Args:
        method: the HTTP method, in upper case.
        url: scheme, host and path.
        status: the HTTP status code; None: there was no readable response.
        error: name of the class of the exception; empty where there is a status.
        seconds: from connecting to the last byte of the response, or to the failure.
    """

    method: str
    url: str
    status: int | None
    error: str
    seconds: float


class Transport:
    """Sends HTTP requests, one at a time per thread. Safe to share between threads, and after a fork.

    Args:
        connect_seconds: for connecting to one address, and for the TLS handshake, each.
        read_seconds: how long the upstream may stay silent.
        total_seconds: for the whole call, whatever the upstream does.
        max_bytes: the largest body accepted, after decompression.
        idle_seconds: a connection that was idle for longer is not used again; firewalls drop such connections silently,
            and the next request on one would time out.
        place: given the host and the seconds that a call may take, a context that lasts as long as the call and tells how many it
            may take. What it raises is raised, and nothing is sent. Not asked for a call with ``before_send``, whose caller has
            a bound of its own.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = 3.0,
        read_seconds: float = 5.0,
        total_seconds: float = 8.0,
        max_bytes: int = 1024 * 1024,
        idle_seconds: float = 30.0,
        place: Callable[[str, float], AbstractContextManager[float]] | None = None,
    ) -> None:
        self.connect_seconds = connect_seconds
        self.read_seconds = read_seconds
        self.total_seconds = total_seconds
        self.max_bytes = max_bytes
        self.idle_seconds = idle_seconds
        self._place = place
        self._local = threading.local()

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
        basic: tuple[str, str | Plain] | None = None,
        bearer: str | Plain | None = None,
        total_seconds: float | None = None,
        max_bytes: int | None = None,
        credential: bool = False,
        idempotent: bool = False,
        public_only: bool = False,
        before_send: Callable[[], object] | None = None,
        observe: Callable[[Call], object] | None = None,
    ) -> Response:
        """Send one request and return the response, whatever its status; see :func:`raise_for_status`.

        A connection that could not be made (refused, name unknown) is tried once more. Nothing else is ever sent twice,
        save with ``idempotent``.

        Args:
            method: the HTTP method.
            url: absolute; ``https``, or ``http`` to loopback.
            headers: ASCII names and values.
            params: the query. Never a credential: URLs end up in logs.
            json: sent as ``application/json``.
            data: form fields or bytes. Values of a form, or of a JSON object, may be :class:`Plain`.
            files: multipart parts as ``requests`` takes them; held in memory.
            basic: user name and password for ``Authorization: Basic``, encoded as UTF-8 (RFC 7617 §2.1).
            bearer: token for ``Authorization: Bearer`` (RFC 6750 §2.1).
            total_seconds: instead of the transport's own.
            max_bytes: instead of the transport's own.
            credential: the request spends something that can be spent once. It gets a connection of its own, which is
                closed afterwards: a kept one may turn out to be closed only after bytes were sent.
            idempotent: the request may be sent a second time if a kept connection was found closed before any response.
            public_only: somebody else wrote the URL: connect to public addresses only. Behind a proxy, which resolves names
                itself, this has no effect.
            before_send: called when the connection stands, immediately before the first byte of the request; once per
                attempt. What it raises comes out unchanged, and nothing is sent then.
            observe: called afterwards, also where there is no response. Must not raise.

        Raises:
            InsecureURL: see ``url`` and ``public_only``.
            ConnectionFailed: no connection, or it was closed without a complete response.
            TimedOut: any of the three time-outs.
            UnexpectedResponse: the response is not HTTP, is over ``max_bytes``, or cannot be decompressed.
            ValueError: the arguments cannot be sent; no value is quoted.
        """
        if basic is not None and bearer is not None:
            raise ValueError("Give basic or bearer, not both.")
        all_headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(_HEADERS)
        if credential:
            all_headers["Connection"] = "close"
        all_headers.update(headers or {})
        authorization = bearer_credentials(bearer) if bearer is not None else basic and basic_credentials(*basic)
        outcome = self._exchange_in_place(
            prepare(method, url, all_headers, authorization, params, json, data, files),
            self.total_seconds if total_seconds is None else total_seconds,
            self.max_bytes if max_bytes is None else max_bytes,
            keep=not credential,
            idempotent=idempotent,
            public_only=public_only,
            before_send=before_send,
            observe=observe,
        )
        if isinstance(outcome, Response):
            return outcome
        # An error report prints the variables of every frame, so no credential may be left in this one.
        del headers, params, json, data, files, basic, bearer, all_headers, before_send
        try:
            raise outcome
        finally:
            del outcome

    def close(self) -> None:
        """Close the connection kept for the calling thread. The transport can be used again afterwards."""
        connection: Connection | None = self._local.__dict__.pop("kept", None)
        if connection is not None:
            connection.close()

    def _exchange_in_place(
        self,
        request: requests.PreparedRequest,
        total_seconds: float,
        max_bytes: int,
        *,
        before_send: Callable[[], object] | None,
        observe: Callable[[Call], object] | None,
        **options: bool,
    ) -> Response | Exception:
        """Like :meth:`_exchange`, while there is a place for the call."""
        place = self._place if before_send is None else None
        url = str(request.url)
        try:
            with nullcontext(total_seconds) if place is None else place(urlsplit(url).netloc, total_seconds) as seconds:
                began = time.perf_counter()
                outcome = self._exchange(request, Deadline(seconds), max_bytes, before_send=before_send, **options)
        except UpstreamError as e:  # there is no place
            return e.with_traceback(None)
        if observe is not None and isinstance(outcome, Response | UpstreamError):
            failed = isinstance(outcome, UpstreamError) and outcome.status is None
            error = type(outcome).__name__ if failed else ""
            observe(Call(str(request.method), endpoint_of(url), outcome.status, error, time.perf_counter() - began))
        return outcome

    def _exchange(
        self,
        request: requests.PreparedRequest,
        deadline: Deadline,
        max_bytes: int,
        *,
        keep: bool,
        idempotent: bool,
        public_only: bool,
        before_send: Callable[[], object] | None,
    ) -> Response | Exception:
        """Return the response, or what to raise. Raised here, it would show this frame, which holds the request."""
        url = str(request.url)
        endpoint = endpoint_of(url)
        connection: Connection | None = self._local.__dict__.pop("kept", None) if keep else None
        sent = False
        try:
            if connection is not None and not connection.reuse(
                url, deadline, self.idle_seconds, public_only=public_only
            ):
                connection.close()
                connection = None
            while True:
                connection = connection or open_connection(
                    url,
                    deadline,
                    connect_seconds=self.connect_seconds,
                    read_seconds=self.read_seconds,
                    public_only=public_only,
                )
                aborted = _aborted_by(before_send)
                if aborted is not None:
                    return aborted
                deadline.left()
                sent = True
                try:
                    response = connection.exchange(request, endpoint, max_bytes)
                    break
                except FoundClosed:
                    if not idempotent:
                        raise
                    connection.close()
                    connection = None
            if keep and connection.is_reusable:
                self._local.kept, connection = connection, None
            return response
        except UpstreamError as e:
            return e.with_traceback(None)
        except FAILURES as e:
            return failure_of(e, endpoint, deadline, sent=sent)
        finally:
            if connection is not None:
                connection.close()


def _aborted_by(before_send: Callable[[], object] | None) -> Exception | None:
    # A function of its own, because a traceback shows the variables of the function that catches.
    try:
        if before_send is not None:
            before_send()
    except Exception as e:  # noqa: BLE001 - raised by send()
        return e
    return None
