"""The pages of a search for a template, with the names of Django's ``Paginator`` and ``Page``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from partium_auth.partium.part import Part
from partium_auth.partium.results import SearchResult

if TYPE_CHECKING:
    from partium_auth.partium.client import FindClient


class ResultPaginator:
    """The pages of one search. Where Partium tells no total, a page asks for one part more to know whether another follows.

    Args:
        client: what asks for the pages.
        found: what :meth:`FindClient.search` returned, or the id of its session.
        per_page: the number of parts per page.
    """

    def __init__(self, client: FindClient, found: SearchResult | str, per_page: int) -> None:
        if per_page < 1:
            raise ValueError("A page has at least one part.")
        self._client = client
        self._first = None if isinstance(found, str) else found
        self.session_id = found if isinstance(found, str) else found.session_id or ""
        self.per_page = per_page
        self.count: int | None = self._first.total if self._first is not None else None

    @property
    def num_pages(self) -> int | None:
        """How many pages there are; None where Partium tells no total."""
        return None if self.count is None else max(1, -(-self.count // self.per_page))

    @property
    def page_range(self) -> range:
        """The numbers of all pages; empty where they are not known."""
        return range(1, (self.num_pages or 0) + 1)

    def page(self, number: int) -> ResultPage:
        """Return a page, from 1; one call of Partium unless the search has its parts already."""
        skip = self._skip(number)
        return self._known(number) or self._page(
            number, self._client.page(self.session_id, skip=skip, limit=self.per_page + 1)
        )

    async def apage(self, number: int) -> ResultPage:
        """As :meth:`page`."""
        skip = self._skip(number)
        return self._known(number) or self._page(
            number, await self._client.apage(self.session_id, skip=skip, limit=self.per_page + 1)
        )

    def get_page(self, number: object) -> ResultPage:
        """Return a page as a query string names it; the first one for anything that is no number."""
        text = str(number)
        return self.page(max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1)

    def _skip(self, number: int) -> int:
        if number < 1:
            raise ValueError("Pages are counted from 1.")
        return (number - 1) * self.per_page

    def _known(self, number: int) -> ResultPage | None:
        first, end = self._first, number * self.per_page
        if first is None or first.skipped:
            return None
        is_whole = first.asked is not None and len(first.results) < first.asked.results_wanted
        is_told = first.total is not None and len(first.results) >= min(end, first.total)
        if not (len(first.results) > end or is_whole or is_told or not first.session_id):
            return None
        return self._page(number, first, first.results[end - self.per_page : end + 1])

    def _page(self, number: int, found: SearchResult, parts: Sequence[Part] | None = None) -> ResultPage:
        self.count = self.count if found.total is None else found.total
        parts = found.results if parts is None else parts
        more = len(parts) > self.per_page if self.count is None else number * self.per_page < self.count
        return ResultPage(tuple(parts[: self.per_page]), number, more, self)


@dataclass(frozen=True)
class ResultPage(Sequence[Part]):
    """One page of a search.

    Attributes:
        object_list: its parts.
        number: from 1.
        more: whether another page follows.
        paginator: all pages.
    """

    object_list: tuple[Part, ...]
    number: int
    more: bool
    paginator: ResultPaginator

    def __len__(self) -> int:
        return len(self.object_list)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # as tuple's, whose overloads say nothing new
        return self.object_list[index]

    def has_next(self) -> bool:
        return self.more

    def has_previous(self) -> bool:
        return self.number > 1

    def has_other_pages(self) -> bool:
        return self.has_next() or self.has_previous()

    def next_page_number(self) -> int:
        return self.number + 1

    def previous_page_number(self) -> int:
        return max(1, self.number - 1)

    def start_index(self) -> int:
        """The number of the first part on the page, from 1; 0 where there is none."""
        return (self.number - 1) * self.paginator.per_page + 1 if self.object_list else 0

    def end_index(self) -> int:
        return (self.number - 1) * self.paginator.per_page + len(self.object_list)
