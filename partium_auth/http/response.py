"""What an upstream answered: body, status, and how long to wait."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from gzip import BadGzipFile, GzipFile
from http.client import HTTPException, HTTPResponse, IncompleteRead
from json import loads
from typing import Any, Final, NoReturn, cast

from requests.structures import CaseInsensitiveDict

from partium_auth.exceptions import (
    CredentialsRejected,
    LengthRequired,
    NotPermitted,
    PayloadTooLarge,
    RateLimited,
    ServiceUnavailable,
    UnexpectedResponse,
    UnprocessableRequest,
    UnsupportedImage,
    UpstreamError,
)

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}")


@dataclass(frozen=True, slots=True)
class Response:
    """A response, read in full. Its ``repr`` shows neither headers nor body: both may hold credentials.

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
        """Return the body as JSON (RFC 8259).

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


def read_response(raw: HTTPResponse, endpoint: str, max_bytes: int) -> Response:
    """Read the body of a response, at most ``max_bytes`` after decompression.

    Raises:
        UnexpectedResponse: the body is larger, or in an encoding that was not asked for, or cannot be decompressed.
        HTTPException: the body is not complete, or its length is not a number.
    """
    # RFC 9112 §6.3: the response with such a length has to be discarded.
    if raw.headers.get("Content-Length") and raw.length is None and not raw.chunked:
        raise HTTPException("Content-Length is not a number")
    encoding = raw.headers.get("Content-Encoding", "").strip().lower()
    problem, body = "", b""
    try:
        if encoding in {"", "identity"}:
            body = raw.read(max_bytes + 1)
        elif encoding in {"gzip", "x-gzip"}:
            body = GzipFile(fileobj=cast("Any", raw), mode="rb").read(max_bytes + 1)
        else:
            problem = "in an encoding that was not asked for"
    except (BadGzipFile, EOFError, zlib.error):
        problem = "with a body that cannot be decompressed"
    if len(body) > max_bytes:
        problem = f"with more than {max_bytes} bytes"
    if problem:
        raise UnexpectedResponse(f"{endpoint} answered {raw.status} {problem}.", status=raw.status)
    if raw.length:  # http.client returns what there is where the connection ends too early
        raise IncompleteRead(body, raw.length)
    headers = CaseInsensitiveDict({name: raw.getheader(name, "") for name in raw.headers})
    return Response(raw.status, headers, body, endpoint)


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


def raise_for_status(response: Response, what: str) -> None:
    """Raise the exception for a response that is not 2xx.

    Args:
        what: what was asked for, such as "Partium search", to begin the message with.

    Raises:
        UpstreamError: or the subclass for the status (Partium, Find API: error codes), with ``status`` and
            ``retry_after`` set. The message says what to do and quotes nothing of the response.
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
    """Return how many seconds the upstream asks to wait, from ``Retry-After`` (RFC 9110 §10.2.3).

    Partium sends a date with 429 and seconds with 503. A date is read against the ``Date`` of the same response, because
    the two clocks may differ.

    Args:
        headers: a mapping that ignores case, such as :attr:`Response.headers`.
        now: aware; stands in for a missing ``Date``. Default: the current time.

    Returns:
        1 to 300; None where there is no such header, or it cannot be read.
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


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
