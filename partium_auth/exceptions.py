"""The exceptions of the app, one class for each reaction that a caller can have.

This module imports nothing, so every layer may use it. Messages are for the *developer* of a site: they say what happened
and what to do next, and never quote a credential or the body of a response. Texts for visitors and administrators are
written where they are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import uuid


class Problem(NamedTuple):
    """One thing that is wrong with a request: the field (empty: not told), and what Partium says about it."""

    field: str
    message: str


class PartiumError(Exception):
    """Base of everything this app raises on purpose."""


class LoginRequired(PartiumError):
    """The session may not get a Partium access token any more: the person has to log in again.

    Args:
        message: what happened, for a developer.
        provider: slug of the identity provider to log in at, silently if it allows that; empty: the person chooses.
    """

    def __init__(self, message: str = "", *, provider: str = "") -> None:
        super().__init__(message or "The person has to log in.")
        self.provider = provider


class FreshLoginRequired(LoginRequired):
    """The login is older than ``PARTIUM_FRESH_LOGIN_MINUTES`` allows for this step.

    Attributes:
        of_the_site: the login was not this app's, so the person has to repeat the site's own.
    """

    def __init__(self, message: str = "", *, provider: str = "", of_the_site: bool = False) -> None:
        super().__init__(message, provider=provider)
        self.of_the_site = of_the_site


class NoOrganization(PartiumError):
    """The person belongs to no active organization, or may no longer open the session's organization."""


class NoUsableKey(PartiumError):
    """The organization has no usable API key: none was added, or all are revoked, expired or rejected."""


class KeyRejected(PartiumError):
    """Partium rejects this API key (401), or it is not for searches in this organization (403)."""


class EncryptionError(PartiumError):
    """A secret could not be sealed or opened: no usable key in ``PARTIUM_ENCRYPTION_KEYS``, or a changed value."""


class TokenUnavailable(PartiumError):
    """There is no valid access token right now; a later request may get one.

    Args:
        message: what happened, for a developer.
        retry_after: seconds until a retry makes sense; at least 1.

    Attributes:
        blocked_grant: the id of a grant whose refresh is blocked by the caller's own transaction (SQLite). The refresh
            succeeds after that transaction. None: there is no such grant.
        upstream: who was to issue the token: ``partium``, or ``oidc:`` and the slug of an identity provider; empty: nobody.
        is_misconfigured: the upstream refuses this site's registration, whoever asks.
    """

    def __init__(self, message: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message or "No valid Partium access token is available right now.")
        self.retry_after = max(1, retry_after)
        self.blocked_grant: uuid.UUID | None = None
        self.upstream = ""
        self.is_misconfigured = False


class NothingToSearch(PartiumError, ValueError):
    """A search has neither text (only space) nor image, filters or ``within``: an empty form, usually. Nothing was sent."""


class UpstreamError(PartiumError):
    """Partium or an identity provider answered with an error or something unreadable, or did not answer.

    Args:
        message: what happened, for a developer; never the body of the response.
        status: the HTTP status code; None: there was no readable response.
        retry_after: seconds from the response's ``Retry-After``, clamped to 1–300; None: it had none.
        sent: False only if certainly no byte of the request was sent.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: int | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.sent = sent


class ConnectionFailed(UpstreamError):
    """The upstream could not be reached, or closed the connection without a response."""


class TimedOut(UpstreamError):
    """The upstream did not send its whole response before the total deadline."""


class UnexpectedResponse(UpstreamError):
    """The upstream's response is not what this endpoint returns: HTML, an empty body, wrong types, or too large."""


class CredentialsRejected(UpstreamError):
    """401: no, unknown or invalid credentials."""


class NotPermitted(UpstreamError):
    """403: these credentials may not do this."""


class LengthRequired(UpstreamError):
    """411: Content-Length missing or invalid."""


class PayloadTooLarge(UpstreamError):
    """413: image and input together are larger than 5.5 MiB. Also raised before sending, with ``sent=False``."""


class UnsupportedImage(UpstreamError):
    """415: the image format is not recognised."""


class UnprocessableRequest(UpstreamError):
    """422: Partium cannot process the data that was sent.

    Attributes:
        problems: what Partium says is wrong, as far as it can be read. Never part of the message: it may quote the input.
    """

    problems: tuple[Problem, ...] = ()


class RateLimited(UpstreamError):
    """429: more requests than agreed."""


class ServiceUnavailable(UpstreamError):
    """503: temporarily unavailable."""
