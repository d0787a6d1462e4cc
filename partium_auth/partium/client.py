"""Partium's Find API: search for parts by text and image."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from partium_auth.http.transport import Response, Transport, raise_for_status
from partium_auth.partium.errors import require_json_error
from partium_auth.partium.photos import Image, Upload
from partium_auth.partium.results import Part, SearchResult, parse

__all__ = ["Bearer", "BearerSource", "FindClient", "Part", "SearchResult"]

SEARCH_PATH: Final = "/1/find/search"
STATE_PATH: Final = "/1/find/search/{session_id}?offset={offset}&limit={limit}"
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


class Bearer(Protocol):
    """Something to authenticate with: an access token, or an API key."""

    @property
    def value(self) -> str:
        """What goes behind ``Bearer``."""
        ...


class BearerSource(Protocol):
    """Where a :class:`FindClient` gets its bearer from.

    One that has ``accepted(bearer)`` and ``aaccepted(bearer)`` is told of every bearer that Partium answered 2xx to.
    """

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
        # By name: to ask for a protocol with isinstance() takes longer than a fresh token.
        self._accepted: Callable[[Bearer], None] | None = getattr(source, "accepted", None)
        self._aaccepted: Callable[[Bearer], Awaitable[None]] | None = getattr(source, "aaccepted", None)
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
        return parse(self._run(call), _WHAT)

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
        return parse(await self._arun(call), _WHAT)

    def page(self, session_id: str, *, offset: int, limit: int = 5) -> SearchResult:
        """A page of an earlier search; see ``state_path``.

        Args:
            session_id: :attr:`SearchResult.session_id`.
            offset: the number of parts to pass over.
            limit: the number of parts wanted at most.
        """
        return parse(self._run(self._page(session_id, offset, limit)), _WHAT)

    async def apage(self, session_id: str, *, offset: int, limit: int = 5) -> SearchResult:
        """As :meth:`page`."""
        return parse(await self._arun(self._page(session_id, offset, limit)), _WHAT)

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
            bearer = self._source.replace(bearer)
            response = send(bearer)
        response = _checked(response)
        if self._accepted is not None:
            self._accepted(bearer)
        return response

    async def _arun(self, send: _Send) -> Response:
        bearer = await self._source.acurrent()
        response = await asyncio.to_thread(send, bearer)
        if response.status == 401:
            bearer = await self._source.areplace(bearer)
            response = await asyncio.to_thread(send, bearer)
        response = _checked(response)
        if self._aaccepted is not None:
            await self._aaccepted(bearer)
        return response

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
            upload = Upload(query, image)
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


def _checked(response: Response) -> Response:
    if response.status == 403:  # "another organization's key": what a firewall says must not end a key's use
        require_json_error(response, _WHAT)
    raise_for_status(response, _WHAT)
    return response
