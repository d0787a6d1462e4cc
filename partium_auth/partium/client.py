"""A client of Partium's API: searches, their pages, and anything else."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar, cast
from urllib.parse import quote, unquote, urlsplit

from partium_auth.assumptions import Assumptions, expand
from partium_auth.exceptions import UnprocessableRequest
from partium_auth.host.per_process import PerProcess
from partium_auth.http.transport import Call, Response, Transport, raise_for_status
from partium_auth.partium import filters
from partium_auth.partium.bearers import Bearer, BearerSource, named_in_errors
from partium_auth.partium.errors import problems_of, require_json_error
from partium_auth.partium.filters import Attribute, Listing, Node
from partium_auth.partium.paginator import ResultPaginator
from partium_auth.partium.part import Part
from partium_auth.partium.report import Report
from partium_auth.partium.results import FacetValue, Pages, SearchResult, parse_search_result
from partium_auth.partium.search import PROJECTION, SearchParameters
from partium_auth.sealed.plain import Plain

__all__ = ["Bearer", "BearerSource", "FindClient", "Part", "SearchResult"]

SEARCH_PATH: Final = "/1/find/search"
MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
"""The largest response to a search; a hundred parts with all their attributes and images are below."""

_WHAT: Final = "Partium Find API"
#: Methods that may be sent a second time without doing anything a second time (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_OWN_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "host"})
_ALL_FIELDS: Final = ",".join(PROJECTION)
_PRINTABLE: Final = string.ascii_letters + string.digits + string.punctuation
_threads: Final = PerProcess(lambda: ThreadPoolExecutor(32, "partium-async"))
"""They send what async code awaits. asyncio's own threads are the site's, whose work must not wait for a slow Partium."""

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RequestParameters:
    """The arguments of :meth:`FindClient.request`.

    Attributes:
        method: the HTTP method.
        path: such as ``/1/find/search``; or an absolute URL below the client's base URL.
        json: sent as JSON.
        params: the query.
        data: form fields or bytes.
        headers: further ones.
        total_seconds: instead of the transport's.
        max_bytes: instead of the transport's.
    """

    method: str
    path: str
    _: KW_ONLY
    json: Any = None
    params: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] | None = None
    total_seconds: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RefineParameters(SearchParameters):
    """The arguments of :meth:`FindClient.refine`: what was found, and what is changed of the search."""

    found: SearchResult

    def merged(self) -> SearchParameters:
        """Return the search with its changes; what is None here stays as it was.

        Raises:
            ValueError: the result is a page that was asked for by its session.
        """
        if self.found.asked is None:
            raise ValueError("Only the result of a search can be refined: Partium wants all of its inputs again.")
        names = [one.name for one in fields(SearchParameters)]
        changes = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(self.found.asked, **changes)


def _takes(parameters: Callable[P, T]) -> Callable[[Callable[[Any, T], R]], Callable[Concatenate[Any, P], R]]:
    """Let a method take the arguments of a dataclass, so that they are listed once for its sync and its async form."""

    def decorate(method: Callable[[Any, T], R]) -> Callable[Concatenate[Any, P], R]:
        def sync_form(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, parameters(*args, **kwargs))

        async def async_form(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
            return await cast("Awaitable[Any]", sync_form(self, *args, **kwargs))

        form: Any = functools.wraps(method)(async_form if inspect.iscoroutinefunction(method) else sync_form)
        own, listed = inspect.signature(method), inspect.signature(parameters).parameters
        form.__signature__ = own.replace(parameters=[own.parameters["self"], *listed.values()])  # for help()
        return cast("Callable[Concatenate[Any, P], R]", form)

    return decorate


class FindClient:
    """Searches an organization's catalogs. Each method has an async twin that never blocks the event loop.

    Making one does no I/O: the source says for each call which organization to search in, and for whom. A 401 leads to one
    ``source.replace(…)`` and one replay of the call.

    Args:
        transport: what sends.
        base_url: such as ``https://api.partium.io``.
        source: where the bearer comes from.
        name: whom it acts for, to be seen in its ``repr``.
        language: of searches that name none.
        assumptions: paths and names that Partium's public pages do not state.
        observe: told of every call, with its bearer and ``"search"``, ``"page"``, ``"filters"``, ``"event"`` or
            ``"request"``; see ``Transport.send``.
        defer: sends the events of :attr:`report` later; None: at once.

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
        name: str = "",
        language: str = "en",
        assumptions: Assumptions | None = None,
        observe: Callable[[Bearer, str, Call], object] | None = None,
        defer: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._name = name
        self._transport = transport
        self._base_url = base_url.rstrip("/")
        self.source = source
        # By name: isinstance() with a protocol takes longer than reading a fresh token.
        self._accepted: Callable[[Bearer], None] | None = getattr(source, "accepted", None)
        self._aaccepted: Callable[[Bearer], Awaitable[None]] | None = getattr(source, "aaccepted", None)
        self._language = language
        self.assumptions = assumptions or Assumptions()
        self._observe = observe
        self.report = Report(self, defer)

    def __repr__(self) -> str:
        return f"<FindClient of {self._name}>" if self._name else "<FindClient>"

    @_takes(SearchParameters)
    def search(self, parameters: SearchParameters) -> SearchResult:
        """Search by text, image, or both (``POST /1/find/search``).

        Args: see :class:`~partium_auth.partium.search.SearchParameters`.

        Raises:
            NothingToSearch: no text but space, no image, no filters, no ``within``; also a ``ValueError``.
            ValueError: ``matches`` names an organization.
            PayloadTooLarge: over 5.5 MiB; ``sent`` is False where that was known before.
            UnsupportedImage: Partium does not recognize the format, or the image is empty (``sent`` is False then).
        """
        send, parse = self._search(parameters)
        return self._run(send, parse)

    @_takes(SearchParameters)
    async def asearch(self, parameters: SearchParameters) -> SearchResult:
        """As :meth:`search`."""
        send, parse = await _in_thread(self._search, parameters)  # reads the image's file
        return await self._arun(send, parse)

    @_takes(RefineParameters)
    def refine(self, parameters: RefineParameters) -> SearchResult:
        """Search again with something changed; all other inputs are sent again, as Partium requires.

        Args: what was found, and what changes: see :class:`~partium_auth.partium.search.SearchParameters`. An empty text,
            list or mapping takes the input away.
        """
        send, parse = self._search(parameters.merged())
        return self._run(send, parse)

    @_takes(RefineParameters)
    async def arefine(self, parameters: RefineParameters) -> SearchResult:
        """As :meth:`refine`."""
        send, parse = await _in_thread(self._search, parameters.merged())
        return await self._arun(send, parse)

    @_takes(SearchParameters)
    def parts(self, parameters: SearchParameters) -> Iterator[Part]:
        """Yield all parts that a search finds, page by page; ``limit`` is the size of a page.

        Raises:
            UnexpectedResponse: Partium sends a page twice, so that this would never end.
        """
        send, parse = self._search(parameters)
        first = self._run(send, parse)
        yield from first.results
        for page in self.pages(first, limit=parameters.results_wanted):
            yield from page.results

    @_takes(SearchParameters)
    async def aparts(self, parameters: SearchParameters) -> AsyncIterator[Part]:
        """As :meth:`parts`."""
        send, parse = await _in_thread(self._search, parameters)
        first = await self._arun(send, parse)
        for part in first.results:
            yield part
        async for page in self.apages(first, limit=parameters.results_wanted):
            for part in page.results:
                yield part

    def page(self, session_id: str, *, skip: int, limit: int = 5) -> SearchResult:
        """Return a page of an earlier search. **Path and names are assumptions**; see ``Assumptions.page_path``.

        Args:
            session_id: :attr:`SearchResult.session_id`.
            skip: the number of parts to pass over.
            limit: the number of parts wanted at most.
        """
        return self._run(self._page(session_id, skip, limit), functools.partial(_found, skipped=skip, client=self))

    async def apage(self, session_id: str, *, skip: int, limit: int = 5) -> SearchResult:
        """As :meth:`page`."""
        parse = functools.partial(_found, skipped=skip, client=self)
        return await self._arun(self._page(session_id, skip, limit), parse)

    def pages(self, first: SearchResult, *, limit: int = 5) -> Iterator[SearchResult]:
        """Yield the pages that follow a search's first one, until one is not full.

        Args:
            first: what :meth:`search` returned.
            limit: the number of parts per page; the same as for the search.

        Raises:
            UnexpectedResponse: Partium sends a page twice.
        """
        pages = Pages(first, limit)
        while pages.has_next:
            yield pages.add(self.page(pages.session_id, skip=pages.skip, limit=limit))

    async def apages(self, first: SearchResult, *, limit: int = 5) -> AsyncIterator[SearchResult]:
        """As :meth:`pages`."""
        pages = Pages(first, limit)
        while pages.has_next:
            yield pages.add(await self.apage(pages.session_id, skip=pages.skip, limit=limit))

    def paginator(self, found: SearchResult | str, per_page: int) -> ResultPaginator:
        """Return the pages of a search for a template; see :class:`ResultPaginator`.

        Args:
            found: what :meth:`search` returned, or the id of its session.
        """
        return ResultPaginator(self, found, per_page)

    def hierarchy(self, root: str | None = None, *, partium_root: str | None = None) -> list[Node]:
        """Return the machines that the person may see, or the assemblies directly below one. Never share it between people.

        Args:
            root: id of a node in the catalog; without one, the machines.
            partium_root: its id in Partium instead.

        Raises:
            ValueError: both roots are given, or ``hierarchy_path`` of ``PARTIUM_ASSUMPTIONS`` has no place for the one given.
        """
        return self._list(self.assumptions.hierarchy_path, filters.nodes(root, partium_root))

    async def ahierarchy(self, root: str | None = None, *, partium_root: str | None = None) -> list[Node]:
        """As :meth:`hierarchy`."""
        return await self._alist(self.assumptions.hierarchy_path, filters.nodes(root, partium_root))

    def attributes(self, containing: str | None = None) -> list[Attribute]:
        """Return the attributes that the person may filter by. Never share it between people.

        Args:
            containing: a piece of the label.
        """
        return self._list(self.assumptions.attributes_path, filters.attributes(containing))

    async def aattributes(self, containing: str | None = None) -> list[Attribute]:
        """As :meth:`attributes`."""
        return await self._alist(self.assumptions.attributes_path, filters.attributes(containing))

    def attribute_values(self, label: str, containing: str | None = None) -> list[FacetValue]:
        """Return the values of an attribute that the person may filter by. Never share it between people.

        Args:
            label: of the attribute.
            containing: a piece of the value.
        """
        return self._list(self.assumptions.attribute_values_path, filters.values(label, containing))

    async def aattribute_values(self, label: str, containing: str | None = None) -> list[FacetValue]:
        """As :meth:`attribute_values`."""
        return await self._alist(self.assumptions.attribute_values_path, filters.values(label, containing))

    @_takes(RequestParameters)
    def request(self, parameters: RequestParameters) -> Response:
        """Call anything else of Partium's API, with the bearer, its replacement after a 401, and the transport's limits.

        Args: see :class:`RequestParameters`.

        Returns:
            A response with a status of 2xx.

        Raises:
            ValueError: the path leads elsewhere, or the headers name credentials or a host.
        """
        return self._run(self._request(parameters), _unread)

    @_takes(RequestParameters)
    async def arequest(self, parameters: RequestParameters) -> Response:
        """As :meth:`request`."""
        return await self._arun(self._request(parameters), _unread)

    # One call, sync or async: get a bearer, send, and once more with another bearer after a 401.

    def _run(self, send: _Send, parse: Callable[[Response], R]) -> R:
        bearer = self.source.current()
        with named_in_errors(bearer.organization):
            response = send(bearer)
            if response.status == 401:
                bearer = self.source.replace(bearer)
                response = send(bearer)
            _raise_for_error(response)
            if self._accepted is not None:
                self._accepted(bearer)
            return parse(response)

    async def _arun(self, send: _Send, parse: Callable[[Response], R]) -> R:
        bearer = await self.source.acurrent()
        with named_in_errors(bearer.organization):
            response = await _in_thread(send, bearer)
            if response.status == 401:
                bearer = await self.source.areplace(bearer)
                response = await _in_thread(send, bearer)
            _raise_for_error(response)
            if self._aaccepted is not None:
                await self._aaccepted(bearer)
            return parse(response)

    def send_event(self, path: str, body: Mapping[str, Any], bearer: Bearer) -> None:
        """Send one event with a bearer at hand; for :class:`Report`."""
        with named_in_errors(bearer.organization):
            _raise_for_error(self._send("POST", path, endpoint="event", json=body)(bearer))

    def _list(self, template: str, listing: Listing[T]) -> list[T]:
        while listing.has_next:
            self._run(self._filters(template, listing.places(template)), listing.add)
        return listing.found

    async def _alist(self, template: str, listing: Listing[T]) -> list[T]:
        while listing.has_next:
            await self._arun(self._filters(template, listing.places(template)), listing.add)
        return listing.found

    def _search(self, parameters: SearchParameters) -> tuple[_Send, Callable[[Response], SearchResult]]:
        asked = parameters.with_image_read(language=self._language)
        # A search changes nothing, so it may be sent again where a kept connection turned out to be closed.
        send = self._send(
            "POST",
            SEARCH_PATH,
            endpoint="search",
            idempotent=True,
            total_seconds=asked.total_seconds,
            max_bytes=MAX_RESULT_BYTES,
            body=asked.body,
        )
        return send, functools.partial(_found, asked=asked, client=self)

    def _page(self, session_id: str, skip: int, limit: int) -> _Send:
        skip, limit = int(skip), int(limit)
        number = skip // max(1, limit)
        at = {"session_id": session_id, "skip": skip, "limit": limit, "page": number + 1, "page_from_0": number}
        return self._get("page", self.assumptions.page_path, at)

    def _filters(self, template: str, places: Mapping[str, object]) -> _Send:
        return self._get("filters", template, places)

    def _get(self, endpoint: str, template: str, places: Mapping[str, object]) -> _Send:
        options: dict[str, Any] = {"endpoint": endpoint, "idempotent": True, "max_bytes": MAX_RESULT_BYTES}

        def send(bearer: Bearer) -> Response:
            of_call = {"organization": bearer.organization, "language": self._language, "projection": _ALL_FIELDS}
            return self._send("GET", expand(template, {**of_call, **places}), **options)(bearer)

        return send

    def _request(self, parameters: RequestParameters) -> _Send:
        for name in parameters.headers or {}:
            if name.strip().lower() in _OWN_HEADERS:
                raise ValueError(f"The header {name!r} is not the caller's to set: the client has its own credentials.")
        return self._send(
            parameters.method,
            parameters.path,
            endpoint="request",
            json=parameters.json,
            params=parameters.params,
            data=parameters.data,
            headers=parameters.headers,
            total_seconds=parameters.total_seconds,
            max_bytes=parameters.max_bytes,
            idempotent=parameters.method.upper() in _IDEMPOTENT,
        )

    def _send(
        self,
        method: str,
        path: str,
        *,
        endpoint: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[str], Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> _Send:
        url = self._url(path)
        is_search = method.upper() == "POST" and urlsplit(url).path.endswith("/search")

        def send(bearer: Bearer) -> Response:
            all_headers = dict(headers or {})
            if bearer.external_user_id and is_search:
                all_headers["X-Partium-ExternalUserId"] = quote(bearer.external_user_id, safe=_PRINTABLE)
            observe = None
            if self._observe is not None:
                observe = functools.partial(self._observe, bearer, endpoint)
            further = {} if body is None else body(bearer.organization)
            return self._transport.send(
                method, url, headers=all_headers, bearer=Plain(bearer.value), observe=observe, **further, **options
            )

        return send

    def _url(self, path: str) -> str:
        """Return the URL of a path. Host and prefix are always the base URL's: a bearer must not go anywhere else."""
        base, parts = urlsplit(self._base_url), urlsplit(path)
        relative = parts.path
        if parts.scheme or parts.netloc:
            if (parts.scheme, parts.netloc.lower()) != (base.scheme, base.netloc.lower()):
                raise ValueError("That URL is on another host than Partium's API; a bearer is not sent there.")
            if not relative.startswith(f"{base.path}/"):
                raise ValueError("That URL is outside of Partium's API; a bearer is not sent there.")
            relative = relative.removeprefix(base.path)
        plain = unquote(relative)
        is_strange = any(c in "\\#" or not c.isprintable() or c.isspace() for c in path + plain)
        if is_strange or not relative.startswith("/") or "//" in plain or ".." in plain.split("/"):
            raise ValueError("A path begins with one slash, and has no '//', '..', backslash, fragment or space in it.")
        return f"{base.scheme}://{base.netloc}{base.path}{relative}{'?' if parts.query else ''}{parts.query}"


_Send: TypeAlias = Callable[[Bearer], Response]


async def _in_thread(do: Callable[..., T], *args: Any) -> T:
    run = functools.partial(contextvars.copy_context().run, do, *args)
    return await asyncio.get_running_loop().run_in_executor(_threads(), run)


def _found(response: Response, **about: Any) -> SearchResult:
    return parse_search_result(response, _WHAT, **about)


def _unread(response: Response) -> Response:
    return response


def _raise_for_error(response: Response) -> None:
    if response.status == 403:  # "another organization's key": a firewall's 403 must not end a key's use
        require_json_error(response, _WHAT)
    try:
        raise_for_status(response, _WHAT)
    except UnprocessableRequest as error:
        error.problems = problems_of(response)
        raise
