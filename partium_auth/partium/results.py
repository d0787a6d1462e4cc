"""What Partium found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from partium_auth.exceptions import UnexpectedResponse
from partium_auth.http.transport import Response


@dataclass(frozen=True, slots=True)
class Part:
    """One part that was found. What the response lacks, or has in another type, is empty.

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
        raw: the whole body as it came.
    """

    session_id: str | None
    image_id: str | None
    results: list[Part]
    raw: Mapping[str, Any] = field(repr=False)


class Pages:
    """Which page of a search comes next, and whether there is one.

    Args:
        first: the search's first page.
        limit: the number of parts on a full page.
    """

    def __init__(self, first: SearchResult, limit: int) -> None:
        self.session_id = first.session_id or ""
        self.offset = 0
        self.has_next = False
        self._limit = limit
        self._last: list[Part] = []
        self.add(first)

    def add(self, page: SearchResult) -> SearchResult:
        """Return the page, after counting it."""
        self.offset += len(page.results)
        # An upstream that names the parameters differently would return the same page for ever.
        is_repeated = page.results == self._last
        self.has_next = bool(self.session_id) and len(page.results) >= self._limit and not is_repeated
        self._last = page.results
        return page


def parse_search_result(response: Response, what: str) -> SearchResult:
    """Return one page of results.

    Args:
        response: to a search, or to a request for the state of one.
        what: what was asked for, to begin the message with.

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
    return SearchResult(
        session_id=_text(body.get("sessionId")),
        image_id=_text(body.get("imageId")),
        results=[_part(one) for one in results],
        raw=body,
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
