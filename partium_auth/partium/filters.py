"""What can be filtered by: nodes of the hierarchy, attributes, and their values (Find API, auxiliary endpoints)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from partium_auth.exceptions import UnexpectedResponse
from partium_auth.http.transport import Response
from partium_auth.partium.part import first_of, optional_text, text_of
from partium_auth.partium.results import REPEATED, FacetValue, parse_values

T = TypeVar("T")

PAGE_SIZE = 20
"""The documented default of ``pageSize``; its maximum is not documented."""
MAX_PAGES = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the hierarchy: a machine or an assembly.

    Attributes:
        id: its id in the catalog, for ``within=`` and ``root=``.
        partium_id: its id in Partium.
        name: translated.
        raw: the whole object as it came.
    """

    id: str
    partium_id: str | None
    name: str
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that can be filtered by.

    Attributes:
        label: for ``filters=``.
        raw: what came.
    """

    label: str
    raw: Any = field(repr=False, compare=False)


class Listing(Generic[T]):
    """Reads a list page by page, whoever sends the requests.

    Args:
        parse: makes one page of the objects that came.
        values: what the path's places are filled with.
    """

    def __init__(self, parse: Callable[[list[Any]], list[T]], **values: str | None) -> None:
        self._parse = parse
        self._values = values
        self._last: list[Any] = []
        self._page = 0
        self.found: list[T] = []
        self.has_next = True

    def places(self, template: str) -> dict[str, object]:
        """Return what the next request's path has in its places.

        Raises:
            ValueError: the path has no place for what the caller asked: Partium would answer as if it was not asked.
        """
        for name, value in self._values.items():
            if value and f"{{{name}}}" not in template:
                raise ValueError(
                    f"The path {template!r} of PARTIUM_ASSUMPTIONS cannot send {name}: add {{{name}}} to it."
                )
        at = {"page": self._page + 1, "page_from_0": self._page, "skip": self._page * PAGE_SIZE, "limit": PAGE_SIZE}
        return {**self._values, **at}

    def add(self, response: Response) -> None:
        """Take one page.

        Raises:
            UnexpectedResponse: it is no list, or the page before once more.
        """
        body = response.json()
        page = body if isinstance(body, list) else body.get("results") if isinstance(body, dict) else None
        if not isinstance(page, list):
            raise UnexpectedResponse(
                f"{response.url} answered {response.status}, but without a list of results.", status=response.status
            )
        if page and page == self._last:
            raise UnexpectedResponse(REPEATED)
        self.found += self._parse(page)
        self._last = page
        self._page += 1
        self.has_next = len(page) == PAGE_SIZE and self._page < MAX_PAGES


def nodes(root: str | None, partium_root: str | None) -> Listing[Node]:
    """Return the reader of :meth:`FindClient.hierarchy`.

    Raises:
        ValueError: both roots are given.
    """
    if root and partium_root:
        raise ValueError("Give root or partium_root, not both.")
    places = {"root": root, "partium_root": partium_root}
    return Listing(lambda page: [_node(one) for one in page if isinstance(one, Mapping)], **places)


def attributes(containing: str | None) -> Listing[Attribute]:
    """Return the reader of :meth:`FindClient.attributes`."""
    return Listing(_attributes, containing=containing)


def values(label: str, containing: str | None) -> Listing[FacetValue]:
    """Return the reader of :meth:`FindClient.attribute_values`."""
    return Listing(parse_values, label=label, containing=containing)


def _node(raw: Mapping[str, Any]) -> Node:
    partium_id = optional_text(raw.get("partiumId"))
    return Node(text_of(raw.get("id")) or partium_id or "", partium_id, text_of(raw.get("name")), raw)


def _attributes(page: list[Any]) -> list[Attribute]:
    names = ("label", "name", "id")
    found = [(text_of(first_of(one, names) if isinstance(one, Mapping) else one), one) for one in page]
    return [Attribute(label, raw) for label, raw in found if label]
