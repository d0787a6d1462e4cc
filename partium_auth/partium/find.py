"""Partium's Find API: search for parts by text and image."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import string
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from partium_auth.exceptions import PayloadTooLarge, UnexpectedResponse, UnsupportedImage
from partium_auth.partium.responses import refuse_what_nothing_shows_to_be_the_apis
from partium_auth.transport import Response, Transport, raise_for_status

__all__ = ["Bearer", "BearerSource", "FindClient", "Part", "SearchResult"]

SEARCH_PATH: Final = "/1/find/search"
STATE_PATH: Final = "/1/find/search/{session_id}?offset={offset}&limit={limit}"
MAX_PAYLOAD_BYTES: Final = 11 * 1024 * 1024 // 2
"""5.5 MiB, image and input together (Partium, Find API: image search)."""

MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
"""The largest answer that is read; a hundred parts with all their attributes and images are below."""

PROJECTION: Final = tuple(
    f"results.{name}"
    for name in (
        "id",
        "partiumId",
        "name",
        "nameLanguage",
        "previewData",
        "images",
        "mountingLocationsCount",
        "createdAt",
        "modifiedAt",
        "attributes",
        "highlights",
    )
)
"""All fields that are documented (Partium, Find API: expanding results)."""

_WHAT: Final = "Partium Find API"
#: Methods that may be sent a second time without doing anything a second time (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_PRINTABLE: Final = string.ascii_letters + string.digits + string.punctuation


class BinaryFile(Protocol):
    """A file open in binary mode; an upload of Django's is one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


Image: TypeAlias = bytes | bytearray | memoryview | BinaryFile


class Bearer(Protocol):
    """Something to authenticate with: an access token, or an API key."""

    @property
    def value(self) -> str:
        """What goes behind ``Bearer``."""
        ...


class BearerSource(Protocol):
    """Where a :class:`FindClient` gets its bearer from."""

    def current(self) -> Bearer:
        """The bearer to use now."""
        ...

    def replace(self, rejected: Bearer) -> Bearer:
        """Another one, since Partium answered 401 to this one."""
        ...

    async def acurrent(self) -> Bearer:
        """As :meth:`current`."""
        ...

    async def areplace(self, rejected: Bearer) -> Bearer:
        """As :meth:`replace`."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One part that was found. What the answer does not have, or has in another type, is empty.

    Attributes:
        id: the part's id in the catalog.
        partium_id: its id in Partium.
        name: in the language of the search, or the first fallback language that has one.
        name_language: the language of ``name``.
        preview_data: data of the catalog's owner.
        images: links to and details of the part's images.
        mounting_locations_count: how often the part occurs in the bill of materials.
        created_at: aware.
        modified_at: aware.
        attributes: properties with translated labels.
        highlights: where the search text occurs: ``{"snippet": …, "indices": {"id": […], "name": […], "snippet": […]}}``
            with ranges ``{"from": 0, "to": 3}`` (Partium, Find API: highlighting textual matches).
        raw: the whole object as it came.
    """

    id: str
    partium_id: str | None
    name: str | None
    name_language: str | None
    preview_data: Any
    images: list[Any]
    mounting_locations_count: int | None
    created_at: datetime | None
    modified_at: datetime | None
    attributes: Any
    highlights: Any
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of what was found.

    Attributes:
        session_id: names the search, for further pages.
        image_id: names the image that was searched with.
        results: the parts, best first.
        raw: the whole answer as it came.
    """

    session_id: str | None
    image_id: str | None
    results: list[Part]
    raw: Mapping[str, Any] = field(repr=False)


class FindClient:
    """Searches one organization's catalogs. Each method has an async twin that never blocks the event loop.

    A 401 leads to one ``source.replace(…)`` and one replay of the call.

    Args:
        transport: what sends.
        base_url: such as ``https://api.partium.io``.
        source: where the bearer comes from.
        organization: Partium's id of the organization to search in, such as ``my-main-org``.
        external_user_id: unique to the end user, where users share a key (Partium, Find API: identifying unique users).
            Sent with searches only; characters other than printable ASCII are percent-encoded.
        language: of searches that name none.
        state_path: where the state of a search is, with ``{session_id}``, ``{offset}`` and ``{limit}``. **The default is
            an assumption**: Partium's page on pagination says that pages are fetched by retrieving the state of a search,
            and leaves path and parameters to a reference that is not public (its JavaScript SDK names them ``skip`` and
            ``limit``).

    All methods raise the subclasses of ``UpstreamError``: ``CredentialsRejected`` where the replacement was rejected too,
    ``NotPermitted`` where the bearer does not open the organization (Partium says so in JSON; a 403 without is a firewall's,
    and an ``UnexpectedResponse``), ``RateLimited`` and ``ServiceUnavailable`` with
    ``retry_after``, and so on; and whatever the source raises.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        source: BearerSource,
        organization: str,
        external_user_id: str | None = None,
        language: str = "en",
        state_path: str = STATE_PATH,
    ) -> None:
        self.organization = organization
        self._transport = transport
        self._base_url = base_url.rstrip("/")
        self._source = source
        self._external_user_id = quote(external_user_id, safe=_PRINTABLE) if external_user_id else None
        self._language = language
        self._state_path = state_path

    def search(
        self,
        *,
        text: str | None = None,
        image: Image | None = None,
        limit: int = 5,
        language: str | None = None,
        projection: Sequence[str] | None = None,
        matches: Mapping[str, Any] | None = None,
        result_options: Mapping[str, Any] | None = None,
        total_seconds: float | None = None,
    ) -> SearchResult:
        """Search by text, image, or both (``POST /1/find/search``).

        Args:
            text: what to look for.
            image: bytes, or a file open in binary mode, read from where it stands; it is streamed if it can seek.
            limit: the number of parts wanted at most.
            language: instead of the client's.
            projection: fields to answer with, such as ``results.name``. Default: all documented ones.
            matches: further members of ``matches``, such as filters; enough for a search of its own.
            result_options: further members of ``resultOptions``.
            total_seconds: for the call; a large image over a slow line may need more than the transport's.

        Raises:
            ValueError: there is nothing to search for, or ``matches`` names an organization.
            PayloadTooLarge: over 5.5 MiB; ``sent`` is False where that was known before.
            UnsupportedImage: Partium does not recognize the format, or the image is empty (``sent`` is False then).
        """
        call = self._search(text, image, limit, language, projection, matches, result_options, total_seconds)
        return _result(self._run(call))

    async def asearch(
        self,
        *,
        text: str | None = None,
        image: Image | None = None,
        limit: int = 5,
        language: str | None = None,
        projection: Sequence[str] | None = None,
        matches: Mapping[str, Any] | None = None,
        result_options: Mapping[str, Any] | None = None,
        total_seconds: float | None = None,
    ) -> SearchResult:
        """As :meth:`search`."""
        call = await asyncio.to_thread(
            self._search, text, image, limit, language, projection, matches, result_options, total_seconds
        )
        return _result(await self._arun(call))

    def page(self, session_id: str, *, offset: int, limit: int = 5) -> SearchResult:
        """A page of an earlier search; see ``state_path``.

        Args:
            session_id: :attr:`SearchResult.session_id`.
            offset: the number of parts to pass over.
            limit: the number of parts wanted at most.
        """
        return _result(self._run(self._page(session_id, offset, limit)))

    async def apage(self, session_id: str, *, offset: int, limit: int = 5) -> SearchResult:
        """As :meth:`page`."""
        return _result(await self._arun(self._page(session_id, offset, limit)))

    def pages(self, first: SearchResult, *, limit: int = 5) -> Iterator[SearchResult]:
        """The pages that follow a search's first one, until one is not full.

        Args:
            first: what :meth:`search` returned.
            limit: the number of parts per page; the same as for the search.
        """
        following = _Following(first, limit)
        while following.more:
            yield following.take(self.page(following.session_id, offset=following.offset, limit=limit))

    async def apages(self, first: SearchResult, *, limit: int = 5) -> AsyncIterator[SearchResult]:
        """As :meth:`pages`."""
        following = _Following(first, limit)
        while following.more:
            yield following.take(await self.apage(following.session_id, offset=following.offset, limit=limit))

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        total_seconds: float | None = None,
        max_bytes: int | None = None,
    ) -> Response:
        """Call anything else of Partium's API, with the bearer, its replacement after a 401, and the transport's limits.

        Args:
            method: the HTTP method.
            path: such as ``/1/find/search``; or an absolute URL below the client's base URL.
            json: sent as JSON.
            params: the query.
            data: form fields or bytes.
            headers: further ones.
            total_seconds: instead of the transport's.
            max_bytes: instead of the transport's.

        Returns:
            An answer with a status of 2xx.

        Raises:
            ValueError: the path leads elsewhere, or the headers name credentials or a host.
        """
        return self._run(self._request(method, path, json, params, data, headers, total_seconds, max_bytes))

    async def arequest(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        total_seconds: float | None = None,
        max_bytes: int | None = None,
    ) -> Response:
        """As :meth:`request`."""
        return await self._arun(self._request(method, path, json, params, data, headers, total_seconds, max_bytes))

    # One call, sync or async: get a bearer, send, and once more with another bearer after a 401.

    def _run(self, send: _Send) -> Response:
        bearer = self._source.current()
        response = send(bearer)
        if response.status == 401:
            response = send(self._source.replace(bearer))
        return _checked(response)

    async def _arun(self, send: _Send) -> Response:
        bearer = await self._source.acurrent()
        response = await asyncio.to_thread(send, bearer)
        if response.status == 401:
            response = await asyncio.to_thread(send, await self._source.areplace(bearer))
        return _checked(response)

    def _search(
        self,
        text: str | None,
        image: Image | None,
        limit: int,
        language: str | None,
        projection: Sequence[str] | None,
        matches: Mapping[str, Any] | None,
        result_options: Mapping[str, Any] | None,
        total_seconds: float | None,
    ) -> _Send:
        if text is None and image is None and not matches:
            raise ValueError("There is nothing to search for: give text, image, or both.")
        if matches and "organization" in matches:
            raise ValueError("A client searches in its own organization; make another one for another organization.")
        query = {
            "language": language or self._language,
            "projection": list(PROJECTION if projection is None else projection),
            "matches": {
                "organization": self.organization,
                **({} if text is None else {"text": text}),
                **(matches or {}),
            },
            "resultOptions": {"limit": limit, **(result_options or {})},
        }
        body: dict[str, Any] = {"json": query}
        if image is not None:
            upload = _Upload(query, image)
            body = {"data": upload, "headers": {"Content-Type": upload.content_type}}
        # To search changes nothing, so it may be sent again where a kept connection turned out to be closed.
        return self._send(
            "POST", SEARCH_PATH, idempotent=True, total_seconds=total_seconds, max_bytes=MAX_RESULT_BYTES, **body
        )

    def _page(self, session_id: str, offset: int, limit: int) -> _Send:
        path = self._state_path.format(session_id=quote(session_id, safe=""), offset=int(offset), limit=int(limit))
        return self._send("GET", path, idempotent=True, max_bytes=MAX_RESULT_BYTES)

    def _request(
        self,
        method: str,
        path: str,
        json: Any,
        params: Mapping[str, Any] | None,
        data: Mapping[str, Any] | bytes | None,
        headers: Mapping[str, str] | None,
        total_seconds: float | None,
        max_bytes: int | None,
    ) -> _Send:
        for name in headers or {}:
            if name.strip().lower() in {"authorization", "proxy-authorization", "cookie", "host"}:
                raise ValueError(f"The header {name!r} is not the caller's to set: the client has its own credentials.")
        return self._send(
            method,
            path,
            json=json,
            params=params,
            data=data,
            headers=headers,
            total_seconds=total_seconds,
            max_bytes=max_bytes,
            idempotent=method.upper() in _IDEMPOTENT,
        )

    def _send(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> _Send:
        url = self._url(path)
        all_headers = dict(headers or {})
        if self._external_user_id and method.upper() == "POST" and urlsplit(url).path.endswith("/search"):
            all_headers["X-Partium-ExternalUserId"] = self._external_user_id

        def send(bearer: Bearer) -> Response:
            return self._transport.send(method, url, headers=all_headers, bearer=bearer.value, **options)

        return send

    def _url(self, path: str) -> str:
        """The URL of a path. Host and prefix are always the base URL's: a bearer may not go anywhere else."""
        base, parts = urlsplit(self._base_url), urlsplit(path)
        relative = parts.path
        if parts.scheme or parts.netloc:
            if (parts.scheme, parts.netloc.lower()) != (base.scheme, base.netloc.lower()):
                raise ValueError("That URL is on another host than Partium's API; a bearer is not sent there.")
            if not relative.startswith(f"{base.path}/"):
                raise ValueError("That URL is outside of Partium's API; a bearer is not sent there.")
            relative = relative.removeprefix(base.path)
        plain = unquote(relative)
        if (
            not relative.startswith("/")
            or "//" in plain
            or ".." in plain.split("/")
            or any(
                character in "\\#" or not character.isprintable() or character.isspace() for character in path + plain
            )
        ):
            raise ValueError("A path begins with one slash, and has no '//', '..', backslash, fragment or space in it.")
        return f"{base.scheme}://{base.netloc}{base.path}{relative}{'?' if parts.query else ''}{parts.query}"


_Send: TypeAlias = Callable[[Bearer], Response]


class _Following:
    """Which page comes next, and whether there is one."""

    def __init__(self, first: SearchResult, limit: int) -> None:
        self.session_id = first.session_id or ""
        self.offset = 0
        self.more = False
        self._limit = limit
        self._last: list[Part] = []
        self.take(first)

    def take(self, page: SearchResult) -> SearchResult:
        self.offset += len(page.results)
        # The same page again: an upstream that knows the parameters by other names would go on for ever.
        repeated = page.results == self._last
        self.more = bool(self.session_id) and len(page.results) >= self._limit and not repeated
        self._last = page.results
        return page


class _Upload:
    """The multipart body of an image search (RFC 7578), made anew each time it is iterated.

    The image's file is read piece by piece while it is sent. One that cannot tell its size is read first, up to the limit.
    """

    _PIECE_BYTES = 64 * 1024

    def __init__(self, query: Mapping[str, Any], image: Image) -> None:
        if isinstance(image, (bytes, bytearray, memoryview)):
            self._file: Any = io.BytesIO(image)
        elif _can_seek(image):
            self._file = image
        else:
            self._file = io.BytesIO(_read_bounded(image))
        self._start = self._file.tell()
        head = self._file.read(16)
        if not isinstance(head, bytes):
            raise TypeError("The image has to be open in binary mode.")
        self._file.seek(0, io.SEEK_END)
        self._image_bytes: int = self._file.tell() - self._start
        if self._image_bytes <= 0:
            raise UnsupportedImage("The image is empty, or its file has been read to the end already.", sent=False)

        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._before = (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="input"\r\n'
            "Content-Type: application/json\r\n\r\n"
            f"{json.dumps(query, allow_nan=False)}\r\n"
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="image"; filename="image"\r\n'
            f"Content-Type: {_image_type(head)}\r\n\r\n"
        ).encode()
        self._after = f"\r\n--{boundary}--\r\n".encode()
        if len(self) > MAX_PAYLOAD_BYTES:
            raise _too_large()

    def __len__(self) -> int:
        return len(self._before) + self._image_bytes + len(self._after)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        yield self._before
        left = self._image_bytes
        while left and (piece := self._file.read(min(left, self._PIECE_BYTES))):
            left -= len(piece)
            yield piece
        yield self._after


def _can_seek(file: Any) -> bool:
    try:
        file.seek(file.tell())
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        return False
    return True


def _read_bounded(file: BinaryFile) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := file.read(64 * 1024):
        if not isinstance(piece, bytes):
            raise TypeError("The image has to be open in binary mode.")
        size += len(piece)
        if size > MAX_PAYLOAD_BYTES:
            raise _too_large()
        pieces.append(piece)
    return b"".join(pieces)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        "The image is too large for Partium: 5.5 MiB with the input. Send a smaller one; it will not be found any worse.",
        sent=False,
    )


def _image_type(head: bytes) -> str:
    """The media type that the first 16 bytes stand for. Whether it is good enough is Partium's to say."""
    for prefix, media_type in _IMAGE_TYPES:
        if head.startswith(prefix):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "image/heic"
    return "application/octet-stream"


_IMAGE_TYPES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def _checked(response: Response) -> Response:
    if response.status == 403:  # "another organization's key": what a firewall says must not end a key's use
        refuse_what_nothing_shows_to_be_the_apis(response, _WHAT)
    raise_for_status(response, _WHAT)
    return response


def _result(response: Response) -> SearchResult:
    answer = response.json()
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise UnexpectedResponse(
            f"{_WHAT}: {response.url} answered {response.status}, but without a list of results; check the URL.",
            status=response.status,
        )
    return SearchResult(
        session_id=_text(answer.get("sessionId")),
        image_id=_text(answer.get("imageId")),
        results=[_part(one) for one in results],
        raw=answer,
    )


def _part(raw: Mapping[str, Any]) -> Part:
    images, count, part_id = raw.get("images"), raw.get("mountingLocationsCount"), raw.get("id")
    return Part(
        id=str(part_id) if isinstance(part_id, (str, int)) else "",
        partium_id=_text(raw.get("partiumId")),
        name=_text(raw.get("name")),
        name_language=_text(raw.get("nameLanguage")),
        preview_data=raw.get("previewData"),
        images=images if isinstance(images, list) else [],
        mounting_locations_count=count if isinstance(count, int) and not isinstance(count, bool) else None,
        created_at=_time(raw.get("createdAt")),
        modified_at=_time(raw.get("modifiedAt")),
        attributes=raw.get("attributes"),
        highlights=raw.get("highlights"),
        raw=raw,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
