"""What the caller gets to see of what urllib3 raised."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead
from typing import Final

from urllib3.exceptions import DecodeError, InvalidHeader, NewConnectionError, ProxyError, ReadTimeoutError

from partium_auth.exceptions import ConnectionFailed, TimedOut, UnexpectedResponse, UpstreamError
from partium_auth.http.deadline import Call, Stop


def causes_of(failure: BaseException) -> Iterator[BaseException]:
    """The exception and everything it wraps: requests and urllib3 put causes into ``args`` and ``reason`` as well."""
    pending: list[object] = [failure]
    seen: set[int] = set()
    while pending:
        error = pending.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            pending += [*error.args, getattr(error, "reason", None), error.__cause__, error.__context__]


def is_disconnection(failure: BaseException) -> bool:
    return any(isinstance(cause, (ConnectionError, ssl.SSLEOFError)) for cause in causes_of(failure))


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


def failure_of(failure: BaseException, call: Call) -> UpstreamError:
    """What the caller gets to see of what urllib3 raised."""
    causes = list(causes_of(failure))
    if call.expired or any(isinstance(cause, (Stop, TimeoutError, ReadTimeoutError)) for cause in causes):
        if call.sent:
            return TimedOut(f"{call.endpoint} did not answer in time (at most {call.total_seconds:g} s in all).")
        return TimedOut(f"{call.endpoint} could not be reached in time; nothing was sent.", sent=False)
    cause, kind, text = next(
        (cause, kind, text) for known, kind, text in _FAILURES for cause in causes if isinstance(cause, known)
    )
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"{text}: {cause.verify_message}"
    return kind(f"{call.endpoint} {text}.", sent=call.sent)
