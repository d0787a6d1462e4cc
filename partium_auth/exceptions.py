"""What can go wrong, one class per thing a caller can do about it.

This module imports nothing, so every layer may use it. A message here is for the *developer* of a site: it says what
happened and what to do next, and never quotes a credential or the body of an upstream's answer. The texts that a
visitor or an administrator reads are made where they are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid


class PartiumError(Exception):
    """Base of everything this app raises on purpose."""


class LoginRequired(PartiumError):
    """The session has no right to a Partium access token any more: the person has to log in again.

    Args:
        message: what happened, for a developer.
        provider: slug of the identity provider to log in at, which may do so silently; empty: the person chooses.
    """

    def __init__(self, message: str = "", *, provider: str = "") -> None:
        super().__init__(message or "The person has to log in.")
        self.provider = provider


class NoOrganization(PartiumError):
    """The person belongs to no active organization, or the session's organization is no longer open to them."""


class NoUsableKey(PartiumError):
    """The organization has no API key that could be used: none was added, or all are revoked, expired or rejected."""


class KeyRejected(PartiumError):
    """Partium does not accept this API key (401), or it belongs to another organization (403)."""


class EncryptionError(PartiumError):
    """A secret could not be sealed or opened: no usable key in ``PARTIUM_ENCRYPTION_KEYS``, or a value that was altered."""


class TokenUnavailable(PartiumError):
    """There is no valid access token at the moment, but waiting may help.

    Args:
        message: what happened, for a developer.
        retry_after: seconds until it makes sense to ask again; at least 1.

    Attributes:
        blocked_grant: the id of a grant whose refresh waits for the database, which the caller's own transaction holds
            (SQLite): when that is over, there is a token. None: nothing of that kind.
    """

    def __init__(self, message: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message or "No valid Partium access token is available right now.")
        self.retry_after = max(1, retry_after)
        self.blocked_grant: uuid.UUID | None = None


class UpstreamError(PartiumError):
    """Partium or an identity provider answered with an error, with something unreadable, or not at all.

    Args:
        message: what happened, for a developer; never the body of the answer.
        status: the HTTP status code, or None where there was no (readable) answer.
        retry_after: seconds the upstream asked to be left alone, already clamped to 1–300; None where it said nothing.
        sent: False only where it is certain that no byte of the request was sent.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: int | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.sent = sent


class ConnectionFailed(UpstreamError):
    """The upstream could not be reached, or it closed the connection without an answer."""


class TimedOut(UpstreamError):
    """The upstream did not answer in full before the total deadline."""


class UnexpectedResponse(UpstreamError):
    """The upstream answered with something that is not what the endpoint is for: HTML, an empty body, wrong types, too much."""


class CredentialsRejected(UpstreamError):
    """401: no credentials, or unknown or invalid ones."""


class NotPermitted(UpstreamError):
    """403: these credentials may not do this."""


class LengthRequired(UpstreamError):
    """411: Content-Length missing or invalid."""


class PayloadTooLarge(UpstreamError):
    """413: image and input together are over 5.5 MiB. Also raised before sending, with ``sent=False``."""


class UnsupportedImage(UpstreamError):
    """415: the image format is not recognised."""


class UnprocessableRequest(UpstreamError):
    """422: the data sent is not acceptable."""


class RateLimited(UpstreamError):
    """429: over the agreed rate."""


class ServiceUnavailable(UpstreamError):
    """503: temporarily unavailable."""
