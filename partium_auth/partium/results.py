"""What Partium found: parts, facets, and the pages that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from partium_auth.exceptions import UnexpectedResponse
from partium_auth.http.transport import Response
from partium_auth.partium.part import Part, first_of, optional_text, parse_part, text_of, whole_number
from partium_auth.partium.search import SearchParameters

if TYPE_CHECKING:
    from partium_auth.partium.client import FindClient
    from partium_auth.partium.paginator import ResultPaginator

_TOTALS = ("resultsTotalCount", "totalCount", "total")  # the first one is the SDK's name


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value to filter by, and how many of the results have it; None: not told."""

    value: str
    count: int | None
    raw: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Facet:
    """A filter that would narrow the results (Partium, Find API: smart filters)."""

    label: str
    values: list[FacetValue]
    raw: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of what was found.

    Attributes:
        session_id: names the search, for further pages.
        image_id: names the image that was searched with.
        results: the parts, best first; also called ``parts``.
        raw: the whole body as it came.
        facets: filters that would narrow the results, where the search asked for them.
        total: how many parts there are in all; None: not told.
        skipped: how many parts come before this page.
        asked: what was searched, with the image; None for a page that was asked for by its session.
    """

    session_id: str | None
    image_id: str | None
    results: list[Part]
    raw: Mapping[str, Any] = field(repr=False)
    facets: list[Facet] = field(default_factory=list)
    total: int | None = None
    skipped: int = 0
    asked: SearchParameters | None = field(default=None, repr=False, compare=False)
    client: FindClient | None = field(default=None, repr=False, compare=False)

    @property
    def parts(self) -> list[Part]:
        """The parts, best first."""
        return self.results

    def paginator(self, per_page: int) -> ResultPaginator:
        """Return the pages of this search, to be used in a template as Django's ``Paginator`` is."""
        if self.client is None:
            raise ValueError("This result came from no client.")
        return self.client.paginator(self, per_page)


class Pages:
    """Which page of a search comes next, and whether there is one.

    Args:
        first: the search's first page.
        limit: the number of parts on a full page.
    """

    def __init__(self, first: SearchResult, limit: int) -> None:
        self.session_id = first.session_id or ""
        self.skip = first.skipped
        self.has_next = False
        self._limit = limit
        self._last: list[object] = []
        self.add(first)

    def add(self, page: SearchResult) -> SearchResult:
        """Return the page, after counting it.

        Raises:
            UnexpectedResponse: it is the page before once more.
        """
        keys: list[object] = [part.partium_id or part.id or part.raw for part in page.results]
        if keys and keys == self._last:
            raise UnexpectedResponse(REPEATED)
        self._last = keys
        self.skip += len(page.results)
        more = len(keys) >= self._limit if page.total is None else bool(keys) and self.skip < page.total
        self.has_next = bool(self.session_id) and more
        return page


REPEATED = (
    "Partium answered with the same page again: it seems to call the parameters of further pages differently. Run "
    "partium_doctor, and correct the path in PARTIUM_ASSUMPTIONS."
)


def parse_search_result(
    response: Response,
    what: str,
    *,
    skipped: int = 0,
    asked: SearchParameters | None = None,
    client: FindClient | None = None,
) -> SearchResult:
    """Return one page of results.

    Args:
        response: to a search, or to a request for the state of one.
        what: what was asked for, to begin the message with.
        skipped: how many parts come before.

    Raises:
        UnexpectedResponse: the body has no list of results.
    """
    body = response.json()
    results = body.get("results") if isinstance(body, dict) else None
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise UnexpectedResponse(
            f"{what}: {response.url} answered {response.status}, but without a list of results; check the URL.",
            status=response.status,
        )
    facets = body.get("smartFilters")
    session_id = optional_text(body.get("sessionId"))
    return SearchResult(
        session_id=session_id,
        image_id=optional_text(body.get("imageId")),
        results=[parse_part(one, skipped + index, session_id) for index, one in enumerate(results)],
        raw=body,
        facets=[_facet(one) for one in (facets if isinstance(facets, list) else ()) if isinstance(one, Mapping)],
        total=whole_number(first_of(body, _TOTALS)),
        skipped=skipped,
        asked=asked,
        client=client,
    )


def _facet(raw: Mapping[str, Any]) -> Facet:
    values = raw.get("values")
    return Facet(text_of(raw.get("label")), parse_values(values if isinstance(values, list) else []), raw)


def parse_values(found: list[Any]) -> list[FacetValue]:
    """Return the values of a list of texts, or of objects with ``value`` and perhaps ``count``."""
    values = [
        FacetValue(text_of(one), whole_number(one.get("count")) if isinstance(one, Mapping) else None, one)
        for one in found
    ]
    return [value for value in values if value.value]
