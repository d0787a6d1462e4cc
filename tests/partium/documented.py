"""The requests that Partium's public pages show, as data. The marks of the sources are those of docs/partium-api.md."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from partium_auth.partium.authentication import AuthenticationAPI
from partium_auth.partium.client import FindClient
from partium_auth.partium.search import PROJECTION
from partium_auth.testing.sandbox import ACME_KEY, ACME_PASSWORD, ACME_USERNAME, part_png
from partium_auth.testing.sandbox.catalog import partium_id

PARTIUM_ID = "fa41fbee-4c1a-4b3e-9d27-0d1f5c1f0a11"
TRACTOR = partium_id("TRACTOR.2454488")
SESSION_ID = "6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10"


@dataclass(frozen=True)
class Documented:
    """One request.

    Args:
        source: the page that shows it.
        method, path: where it goes, with the query.
        body: as JSON; None: it has none.
        answer: names that the answer has to have.
        call: what sends it with the client; None: the client has no method of its own for it.
        login: what sends it with the client of the Authentication API.
        authorization: other than the key as a bearer.
        external_user_id: of the person (a header of searches).
        image: sent beside the body.
        permission: the API that the key was made for.
    """

    source: str
    method: str
    path: str
    body: Any = None
    answer: frozenset[str] = frozenset()
    call: Callable[[FindClient], Any] | None = field(default=None, repr=False)
    permission: str = "find"
    login: Callable[[AuthenticationAPI], Any] | None = field(default=None, repr=False)
    authorization: str | None = None
    external_user_id: str | None = None
    image: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.source} {self.method} {self.path}"


def _search(
    source: str,
    call: Callable[[FindClient], Any],
    matches: dict[str, Any],
    *,
    external_user_id: str | None = None,
    image: bytes | None = None,
    **more: Any,
) -> Documented:
    body = {"language": "en", "projection": ["results.id"], "matches": {"organization": "acme", **matches}, **more}
    body.setdefault("resultOptions", {"limit": 5})
    answer = {"sessionId", "imageId", "results"} | ({"smartFilters"} if "smartFilters" in body["projection"] else set())
    path = "/1/find/search"
    return Documented(
        source, "POST", path, body, frozenset(answer), call, external_user_id=external_user_id, image=image
    )


def _catalog(source: str, resource: str, *items: dict[str, Any], method: str = "POST") -> Documented:
    path = f"/1/catalog/{resource}"
    answer = frozenset({"created", "updated", "errors"})
    return Documented(source, method, path, list(items), answer, None, "catalog")


def _event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": {"partium_id": PARTIUM_ID, "search_session_id": SESSION_ID, **data}}


def _relevance(judgement: str) -> Documented:
    body = _event("part_search_relevancy", relevancy=judgement)
    path = "/1/analytics/events"
    return Documented("N4", "POST", path, body, _EVENT, lambda c: c.report.relevance(SESSION_ID, PARTIUM_ID, judgement))


def _exchange(source: str, path: str, authorization: str, login: Callable[[AuthenticationAPI], Any]) -> Documented:
    return Documented(source, "POST", path, None, _TOKENS, login=login, authorization=authorization)


_ID = ["results.id"]
_BASIC = "Basic " + base64.b64encode(f"{ACME_USERNAME}:{ACME_PASSWORD}".encode()).decode()
_TOKENS = frozenset({"access_token", "refresh_token", "token_type", "expires_in"})
PHOTO = part_png("GF2301")
assert PHOTO is not None
_EVENT = frozenset({"event_id", "created_at"})
JUDGEMENTS = (
    "matches_search_exactly",
    "best_match",
    "not_match_but_related",
    "needs_check_elsewhere",
    "not_relevant",
    "other",
)

REQUESTS: tuple[Documented, ...] = (
    _exchange("A1", "/1/auth", _BASIC, lambda a: a.exchange_password(ACME_USERNAME, ACME_PASSWORD)),
    _exchange("A1", "/auth/", _BASIC, lambda a: a.exchange_password(ACME_USERNAME, ACME_PASSWORD)),
    _exchange("A1", "/1/auth", f"Bearer {ACME_KEY}", lambda a: a.exchange_api_key(ACME_KEY)),
    _exchange("A1", "/auth/", f"Bearer {ACME_KEY}", lambda a: a.exchange_api_key(ACME_KEY)),
    _search("F2", lambda c: c.search(text="fan", projection=_ID), {"text": "fan"}),
    _search("F1 F8", lambda c: c.search(text="fan"), {"text": "fan"}, projection=list(PROJECTION)),
    _search("F3", lambda c: c.search(image=PHOTO, projection=_ID), {}, image=PHOTO),
    _search("F3 F2", lambda c: c.search(image=PHOTO, text="220V", projection=_ID), {"text": "220V"}, image=PHOTO),
    _search("F10", lambda c: c.search(text="fan", projection=_ID), {"text": "fan"}, external_user_id="user-7"),
    _search(
        "F4 F6",
        lambda c: c.search(filters={"Voltage": ["127V", "220V"], "Manufacturer": "ACME"}, projection=_ID),
        {"filters": [{"label": "Voltage", "values": ["127V", "220V"]}, {"label": "Manufacturer", "values": ["ACME"]}]},
    ),
    _search("F5", lambda c: c.search(within=["TRACTOR.2454488"], projection=_ID), {"hierarchy": ["TRACTOR.2454488"]}),
    _search(
        "F6",
        lambda c: c.search(text="fuse", facets=True, projection=_ID),
        {"text": "fuse"},
        projection=["results.id", "smartFilters"],
    ),
    _search(
        "F7",
        lambda c: c.search(text="fan", fallback_languages=["de", "fr"], projection=_ID),
        {"text": "fan"},
        fallbackLanguages=["de", "fr"],
    ),
    _search(
        "S2",
        lambda c: c.search(text="fan", projection=_ID, result_options={"skip": 5}),
        {"text": "fan"},
        resultOptions={"limit": 5, "skip": 5},
    ),
    Documented(
        "N2",
        "POST",
        "/1/analytics/events",
        _event("part_detail_enter", index="4"),
        _EVENT,
        lambda c: c.report.viewed(SESSION_ID, PARTIUM_ID, index=4),
    ),
    Documented(
        "N3",
        "POST",
        "/1/analytics/events",
        _event("part_confirmed_search", index="0"),
        _EVENT,
        lambda c: c.report.confirmed(SESSION_ID, PARTIUM_ID, index=0),
    ),
    Documented(
        "N1",
        "POST",
        "/1/analytics/events",
        {**_event("part_detail_enter", index="1"), "external_user_id": "user-7"},
        _EVENT,
        lambda c: c.report.viewed(SESSION_ID, PARTIUM_ID, index=1),
        external_user_id="user-7",
    ),
    # The page's own sample has a number.
    Documented("N1", "POST", "/1/analytics/events", _event("part_detail_enter", index=1), _EVENT),
    *map(_relevance, JUDGEMENTS),
    Documented(
        "F5",
        "GET",
        "/1/find/filters/hierarchy?organization=acme&language=en&page=1&pageSize=20",
        None,
        frozenset({"results"}),
        lambda c: c.hierarchy(),
    ),
    Documented(
        "F5",
        "GET",
        "/1/find/filters/hierarchy?rootId=TRACTOR.2454488&organization=acme&language=en&page=1&pageSize=20",
        None,
        frozenset({"results"}),
        lambda c: c.hierarchy(root="TRACTOR.2454488"),
    ),
    Documented(
        "F5",
        "GET",
        f"/1/find/filters/hierarchy?rootPartiumId={TRACTOR}&organization=acme&language=en&page=1&pageSize=20",
        None,
        frozenset({"results"}),
        lambda c: c.hierarchy(partium_root=TRACTOR),
    ),
    Documented(
        "F4 F11",
        "GET",
        "/1/find/filters/attributes?text=volt&organization=acme&language=en&page=1&pageSize=20",
        None,
        frozenset({"results"}),
        lambda c: c.attributes(containing="volt"),
    ),
    Documented(
        "F4",
        "GET",
        "/1/find/filters/attributes/options?label=Voltage&organization=acme&language=en&page=1&pageSize=20",
        None,
        frozenset({"results"}),
        lambda c: c.attribute_values("Voltage"),
    ),
    Documented("F4", "GET", "/1/find/filters/filters/options?label=Voltage", None, frozenset({"results"})),
    Documented("C2", "GET", "/1/catalog", None, frozenset({"name", "available_languages"}), None, "catalog"),
    Documented(
        "C2",
        "GET",
        "/1/catalog/status",
        None,
        frozenset({"status", "details", "last_import", "pending_import"}),
        None,
        "catalog",
    ),
    _catalog("C3", "organizations", {"org_id": "sub", "parent_id": "acme", "display_name": "Sub"}),
    _catalog("C3", "organizations", {"org_id": "sub"}, method="DELETE"),
    _catalog("C4", "attributes", {"attribute_id": "voltage", "type": "text", "name": {"en": "Voltage"}}),
    _catalog("C5", "attribute-options", {"attribute_id": "voltage", "option_id": "v1", "value": {"en": "127V"}}),
    _catalog("C5", "attribute-options", {"attribute_id": "voltage", "option_id": "v1"}, method="DELETE"),
    _catalog("C7", "parts", {"part_id": "P1", "name": {"en": "Fuse"}, "attributes": []}),
    _catalog("C7", "parts", {"part_id": "P1"}, method="DELETE"),
    _catalog("C10", "assemblies", {"ass_id": "A1", "parent_id": "", "name": {"en": "Tractor"}}),
    _catalog("C10", "assemblies", {"ass_id": "A1"}, method="DELETE"),
    _catalog("C11", "assignments/parts", {"part_id": "P1", "ass_id": "A1"}),
    _catalog("C11", "assignments/parts", {"part_id": "P1", "ass_id": "A1"}, method="DELETE"),
    _catalog("C12", "assignments/organizations", {"ass_id": "A1", "org_id": "sub"}),
    _catalog("C12", "assignments/organizations", {"ass_id": "A1", "org_id": "sub"}, method="DELETE"),
)
