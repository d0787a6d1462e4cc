"""What the caller gets to see where no complete response came."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException, IncompleteRead
from typing import Final

from partium_auth.exceptions import ConnectionFailed, TimedOut, UnexpectedResponse, UpstreamError
from partium_auth.http.deadline import Deadline


class ProxyFailed(OSError):
    """The proxy could not be reached, or did not connect to the upstream."""


class FoundClosed(ConnectionError):
    """A kept connection was closed before any response; most likely the upstream had closed it while it was idle."""


_FAILURES: Final[tuple[tuple[type[Exception], type[UpstreamError], str], ...]] = (
    (socket.gaierror, ConnectionFailed, "has a host name that cannot be resolved; check the URL and DNS"),
    (UnicodeError, ConnectionFailed, "has a host name that cannot be resolved; check the URL and DNS"),
    (ssl.SSLError, ConnectionFailed, "could not be spoken to over TLS"),
    (ConnectionRefusedError, ConnectionFailed, "refuses connections; check the URL, or try again later"),
    (ProxyFailed, ConnectionFailed, "could not be reached through the proxy that the environment names"),
    (ConnectionError, ConnectionFailed, "closed the connection without an answer"),
    (IncompleteRead, ConnectionFailed, "closed the connection in the middle of its answer"),
    (HTTPException, UnexpectedResponse, "answered with something that is not HTTP"),
    (OSError, ConnectionFailed, "could not be reached"),
)
FAILURES: Final = (OSError, HTTPException, UnicodeError)


def failure_of(error: Exception, endpoint: str, deadline: Deadline, *, sent: bool) -> UpstreamError:
    """Return what the caller gets for one of :data:`FAILURES`. The message quotes the endpoint and nothing else."""
    if isinstance(error, TimeoutError):
        if sent:
            return TimedOut(f"{endpoint} did not answer in time (at most {deadline.total_seconds:g} s in all).")
        return TimedOut(f"{endpoint} could not be reached in time; nothing was sent.", sent=False)
    kind, text = next((kind, text) for known, kind, text in _FAILURES if isinstance(error, known))
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"has a certificate that is not trusted: {error.verify_message}"
    return kind(f"{endpoint} {text}.", sent=sent)
