"""Analytics events: which parts people looked at, and which one they were looking for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from partium_auth.exceptions import PartiumError
from partium_auth.partium.part import Part
from partium_auth.partium.results import SearchResult

if TYPE_CHECKING:
    from partium_auth.partium.bearers import Bearer
    from partium_auth.partium.client import FindClient

logger = logging.getLogger("partium_auth.events")

EVENTS_PATH: Final = "/1/analytics/events"


class Report:
    """Tells Partium what became of a search (Partium, Analytics API). Nothing is raised: a failure is one log line.

    ``found`` is a result or the id of its session; ``part`` a part or its ``partium_id``. The bearer is obtained at once;
    the event is sent in the background, where the client has one. Each method has an async form.

    Args:
        client: whose organization and person the events are of.
        defer: runs a function later; None: at once.
    """

    def __init__(self, client: FindClient, defer: Callable[[Callable[[], None]], None] | None = None) -> None:
        self._client = client
        self._defer = defer

    def viewed(self, found: SearchResult | str, part: Part | str, *, index: int | None = None) -> None:
        """Report that the person opened the part's own page.

        Args:
            found, part: see the class.
            index: position in the list that the person saw, from 0. Default: the part's.
        """
        self._report("part_detail_enter", found, part, index)

    async def aviewed(self, found: SearchResult | str, part: Part | str, *, index: int | None = None) -> None:
        """As :meth:`viewed`."""
        await self._areport("part_detail_enter", found, part, index)

    def confirmed(self, found: SearchResult | str, part: Part | str, *, index: int | None = None) -> None:
        """Report that this is the part that the person was looking for. Arguments as for :meth:`viewed`."""
        self._report("part_confirmed_search", found, part, index)

    async def aconfirmed(self, found: SearchResult | str, part: Part | str, *, index: int | None = None) -> None:
        """As :meth:`confirmed`."""
        await self._areport("part_confirmed_search", found, part, index)

    def relevance(
        self, found: SearchResult | str, part: Part | str, judgement: str, *, index: int | None = None
    ) -> None:
        """Report a judgement. **The event's name is an assumption**; see ``Assumptions.relevance_event``.

        Args:
            found, part, index: as for :meth:`viewed`.
            judgement: ``matches_search_exactly``, ``best_match``, ``not_match_but_related``, ``needs_check_elsewhere``,
                ``not_relevant``, ``other``; Partium says that more may come.
        """
        self._report(self._client.assumptions.relevance_event, found, part, index, judgement)

    async def arelevance(
        self, found: SearchResult | str, part: Part | str, judgement: str, *, index: int | None = None
    ) -> None:
        """As :meth:`relevance`."""
        await self._areport(self._client.assumptions.relevance_event, found, part, index, judgement)

    def viewed_link(self, query: Mapping[str, str]) -> None:
        """Report as :meth:`viewed` what the query string of ``{% partium_viewed part %}`` says; without one do nothing."""
        if link := _link(query):
            self._report("part_detail_enter", *link)

    async def aviewed_link(self, query: Mapping[str, str]) -> None:
        """As :meth:`viewed_link`."""
        if link := _link(query):
            await self._areport("part_detail_enter", *link)

    def confirmed_link(self, query: Mapping[str, str]) -> None:
        """Report as :meth:`confirmed`, from the same query string or a form with its fields."""
        if link := _link(query):
            self._report("part_confirmed_search", *link)

    async def aconfirmed_link(self, query: Mapping[str, str]) -> None:
        """As :meth:`confirmed_link`."""
        if link := _link(query):
            await self._areport("part_confirmed_search", *link)

    def _report(self, event: str, *about: Any) -> None:
        try:
            self._send(event, self._data(*about), self._client.source.current())
        except PartiumError as error:
            _log(event, error)

    async def _areport(self, event: str, *about: Any) -> None:
        try:
            self._send(event, self._data(*about), await self._client.source.acurrent())
        except PartiumError as error:
            _log(event, error)

    def _data(
        self, found: SearchResult | str, part: Part | str, index: int | None, judgement: str | None = None
    ) -> dict[str, str]:
        position = part.index if isinstance(part, Part) and index is None else index
        data = {
            "partium_id": part.partium_id if isinstance(part, Part) else part,
            "search_session_id": found.session_id if isinstance(found, SearchResult) else found,
            # A string, as the documented pattern says.
            "index": None if position is None else str(position),
            self._client.assumptions.relevance_field: judgement,
        }
        return {name: value for name, value in data.items() if value is not None}

    def _send(self, event: str, data: dict[str, str], bearer: Bearer) -> None:
        body: dict[str, Any] = {"event": event, "data": data}
        if bearer.external_user_id:
            body["external_user_id"] = bearer.external_user_id

        def send() -> None:
            try:
                self._client.send_event(EVENTS_PATH, body, bearer)
            except PartiumError as error:
                _log(event, error)

        if self._defer is None:
            send()
        else:
            self._defer(send)


def link_query(part: Part) -> dict[str, str]:
    """Return the query of a link to a part's own page: which search found it, and where in the list."""
    about = {"partium_session": part.session_id, "partium_id": part.partium_id, "partium_index": part.index}
    return {name: str(value) for name, value in about.items() if value is not None}


def _link(query: Mapping[str, str]) -> tuple[str, str, int | None] | None:
    ids = [query.get("partium_session", ""), query.get("partium_id", "")]
    if not all(_ID.fullmatch(one) for one in ids):
        return None
    index = query.get("partium_index", "")
    return ids[0], ids[1], int(index) if index.isascii() and index.isdecimal() and len(index) < 7 else None


_ID = re.compile(r"[0-9a-fA-F-]{32,36}")


def _log(event: str, error: PartiumError) -> None:
    logger.warning("The event %s was not reported: %s", event, error)
