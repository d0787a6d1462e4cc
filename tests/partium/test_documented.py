"""Every documented request: through the client, and raw, to a strict sandbox; and answers that differ in form."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from partium_auth.exceptions import Problem, UnprocessableRequest
from partium_auth.http.transport import Response, Transport
from partium_auth.partium.authentication import AuthenticationAPI
from partium_auth.partium.client import Bearer, FindClient
from partium_auth.partium.errors import problems_of
from partium_auth.partium.part import parse_part
from partium_auth.partium.report import link_query
from partium_auth.partium.results import FacetValue, parse_search_result
from partium_auth.testing.sandbox import ACME_KEY, PartiumSandbox, part_png
from tests.partium.conftest import API, parts_of
from tests.partium.documented import PARTIUM_ID, REQUESTS, SESSION_ID, Documented


class OneKey:
    """A bearer that is never replaced."""

    def current(self) -> Bearer:
        return Bearer(ACME_KEY, "acme", "user-1")

    def replace(self, rejected: Bearer) -> Bearer:
        return rejected

    async def acurrent(self) -> Bearer:
        return self.current()

    async def areplace(self, rejected: Bearer) -> Bearer:
        return rejected


@pytest.fixture(scope="module")
def server() -> Iterator[PartiumSandbox]:
    with PartiumSandbox.start() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: PartiumSandbox) -> PartiumSandbox:
    server.reset()
    server.settings(strict=True)
    return server


@pytest.fixture
def client(sandbox: PartiumSandbox) -> Iterator[FindClient]:
    transport = Transport()
    yield FindClient(transport, base_url=sandbox.url, source=OneKey())
    transport.close()


@pytest.mark.parametrize("documented", REQUESTS, ids=str)
def test_the_sandbox_answers_a_documented_request(sandbox: PartiumSandbox, documented: Documented) -> None:
    key = sandbox.add_key("acme", permission=documented.permission)
    headers = {"Authorization": documented.authorization or f"Bearer {key}"}
    if documented.external_user_id and "analytics" not in documented.path:
        headers["X-Partium-ExternalUserId"] = documented.external_user_id
    sent: dict[str, Any] = {"json": documented.body}
    if documented.image is not None:
        files = {"input": (None, json.dumps(documented.body), "application/json"), "image": documented.image}
        sent = {"files": files}
    url = sandbox.url + documented.path
    answer = requests.request(documented.method, url, headers=headers, timeout=10, **sent)
    assert (answer.status_code, set(answer.json())) == (200, set(documented.answer))


def test_a_refresh_token_is_sent_as_documented(sandbox: PartiumSandbox, api: API) -> None:
    headers = {"Authorization": f"Bearer {ACME_KEY}"}
    token = requests.post(f"{sandbox.url}/1/auth", headers=headers, timeout=10).json()["refresh_token"]
    answer = requests.post(f"{sandbox.url}/auth/refresh", json={"refresh_token": token}, timeout=10)
    assert (answer.status_code, "access_token" in answer.json()) == (200, True)
    api.replies(200, {}, answer.json())
    api.auth().refresh(token)
    assert (api.last.method, api.last.target, api.last.json) == ("POST", "/auth/refresh", {"refresh_token": token})


class InAsync:
    """The same methods, by their async forms."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        if name == "report":
            return InAsync(self._of.report)
        return lambda *args, **kwargs: asyncio.run(getattr(self._of, f"a{name}")(*args, **kwargs))


def _as_it_is(client: FindClient) -> FindClient:
    return client


OF_THE_CLIENT = [
    pytest.param(one, form, id=f"{one} {form.__name__}")
    for one in REQUESTS
    if one.call
    for form in (_as_it_is, InAsync)
]


@pytest.mark.parametrize(("documented", "form"), OF_THE_CLIENT)
def test_the_client_sends_a_documented_request(api: API, documented: Documented, form: Callable[[Any], Any]) -> None:
    assert documented.call is not None
    api.replies(200, {}, {"results": []})
    api.source.external_user_id = documented.external_user_id
    documented.call(form(api.find()))
    assert (api.last.method, api.last.target) == (documented.method, documented.path)
    if documented.image is not None:
        sent = {name: part.get_payload(decode=True) for name, part in parts_of(api.last).items()}
        assert (json.loads(sent["input"]), sent["image"]) == (documented.body, documented.image)
    else:
        assert (api.last.json if documented.body is not None else None) == documented.body
    if "find/search" in documented.path:
        assert api.last.headers.get("x-partium-externaluserid") == documented.external_user_id


@pytest.mark.parametrize(("documented", "form"), OF_THE_CLIENT)
def test_the_sandbox_answers_the_client(
    sandbox: PartiumSandbox, client: FindClient, documented: Documented, form: Callable[[Any], Any]
) -> None:
    assert documented.call is not None
    documented.call(form(client))
    assert [call.status for call in sandbox.calls()] == [200]


@pytest.mark.parametrize("documented", [one for one in REQUESTS if one.login], ids=str)
def test_credentials_are_sent_as_documented(sandbox: PartiumSandbox, api: API, documented: Documented) -> None:
    assert documented.login is not None
    api.replies(200, {}, {"access_token": "a"})
    documented.login(api.auth(auth_path=documented.path))
    sent = api.last
    assert (sent.method, sent.target) == (documented.method, documented.path)
    assert sent.headers["authorization"] == documented.authorization
    with contextlib.closing(Transport()) as transport:
        auth = AuthenticationAPI(
            transport, base_url=sandbox.url, auth_path=documented.path, refresh_path="/auth/refresh"
        )
        assert documented.login(auth).access_token
    assert [call.status for call in sandbox.calls()] == [200]


@pytest.mark.parametrize("form", ["common", "other"])
def test_a_search_is_narrowed_refined_and_paged(sandbox: PartiumSandbox, client: FindClient, form: str) -> None:
    sandbox.settings(form=form, send_total=True)
    found = client.search(text="fuse", facets=True, within="TRACTOR.2454488", limit=2)
    assert (found.total, len(found.parts)) == (4, 2)
    voltage = next(facet for facet in found.facets if facet.label == "Voltage")
    assert FacetValue("220V", 1) in voltage.values
    part = found.parts[0]
    assert part.attributes["Manufacturer"] == "ACME"
    assert part.attributes.lists["Manufacturer"] == ["ACME"]
    assert [getattr(part.image(width), "width", None) for width in (0, 100, 200, 5000)] == [640, 160, 640, 640]
    narrowed = client.refine(found, filters={"Voltage": "220V"}, limit=10)
    assert [one.attributes["Voltage"] for one in narrowed.parts] == ["220V"]
    assert [one.attributes["Voltage"] for one in client.refine(narrowed, filters={}).parts].count("220V") == 1
    assert len({one.id for one in client.parts(text="fan", limit=5)}) == 16
    pages = client.search(text="fan", limit=5).paginator(per_page=5)
    assert (pages.count, pages.num_pages, list(pages.page_range)) == (16, 4, [1, 2, 3, 4])
    assert [len(pages.page(number)) for number in pages.page_range] == [5, 5, 5, 1]
    assert not pages.page(4).has_next()


def test_without_a_total_a_page_asks_for_one_part_more(sandbox: PartiumSandbox, client: FindClient) -> None:
    found = client.search(text="fan", limit=9)
    calls = sandbox.count()
    pages = client.paginator(found, per_page=8)
    first = pages.get_page("nonsense")
    assert (len(first), first.has_next(), first.start_index(), first.end_index()) == (8, True, 1, 8)
    assert sandbox.count() == calls, "the search had the ninth part already"
    second = client.paginator(found.session_id or "", per_page=8).get_page("2")
    assert (len(second), second.has_next(), second.previous_page_number()) == (8, False, 1)
    assert (pages.num_pages, list(pages.page_range)) == (None, [])


def test_a_photo_is_sent_again_when_words_are_added(client: FindClient) -> None:
    photo = part_png("GF2301")
    assert photo is not None
    found = client.search(image=photo)
    refined = client.refine(found, text="220V", filters={"Manufacturer": "ACME"})
    assert refined.image_id
    assert refined.parts[0].attributes["Manufacturer"] == "ACME"


def test_the_async_forms_do_the_same(sandbox: PartiumSandbox, client: FindClient) -> None:
    async def main() -> None:
        found = await client.asearch(text="fan", limit=5)
        assert (await client.arefine(found, limit=1)).parts == found.parts[:1]
        assert len([part async for part in client.aparts(text="fan", limit=5)]) == 16
        assert len(await client.paginator(found, 5).apage(2)) == 5
        machines = await client.ahierarchy()
        assert [node.name for node in await client.ahierarchy(machines[0].id)][:2] == ["Engine", "Hydraulics"]
        assert [one.label for one in await client.aattributes("volt")] == ["Voltage"]
        assert "220V" in [one.value for one in await client.aattribute_values("Voltage", containing="220")]
        await client.report.aviewed(found, found.parts[2])
        await client.report.aconfirmed(found, found.parts[2])
        await client.report.arelevance(found, found.parts[2], "best_match")
        await client.report.aviewed_link(link_query(found.parts[2]))
        await client.report.aconfirmed_link(link_query(found.parts[2]))

    asyncio.run(main())
    assert [one["event"] for one in sandbox.events] == [
        "part_detail_enter",
        "part_confirmed_search",
        "part_search_relevancy",
        "part_detail_enter",
        "part_confirmed_search",
    ]
    assert [one["data"]["index"] for one in sandbox.events] == ["2"] * 5
    assert sandbox.events[0]["external_user_id"] == "user-1"


def test_an_event_that_fails_is_one_log_line(
    sandbox: PartiumSandbox, client: FindClient, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.fail("events", status=500)
    client.report.viewed(SESSION_ID, PARTIUM_ID)
    assert [record.name for record in caplog.records] == ["partium_auth.events"]
    assert ACME_KEY not in caplog.text


def test_an_event_is_sent_later_where_something_can_do_that(sandbox: PartiumSandbox) -> None:
    later: list[Callable[[], None]] = []
    with contextlib.closing(Transport()) as transport:
        client = FindClient(transport, base_url=sandbox.url, source=OneKey(), defer=later.append)
        client.report.viewed(SESSION_ID, PARTIUM_ID)
        assert sandbox.count() == 0, "the page does not wait for it"
        later[0]()
    assert [one["event"] for one in sandbox.events] == ["part_detail_enter"]


@pytest.mark.parametrize("form", ["common", "other"])
def test_a_422_says_what_is_wrong(sandbox: PartiumSandbox, client: FindClient, form: str) -> None:
    sandbox.settings(form=form)
    with pytest.raises(UnprocessableRequest) as caught:
        client.search(text="fan", limit=1000)
    assert caught.value.problems == (Problem("resultOptions.limit", "A whole number from 1 to 100."),)
    assert "whole number" not in str(caught.value)


def test_a_catalog_key_may_not_search_and_a_find_key_may_not_write(sandbox: PartiumSandbox) -> None:
    key = sandbox.add_key("acme", permission="catalog")
    search = {"matches": {"organization": "acme", "text": "fan"}}
    headers = [{"Authorization": f"Bearer {value}"} for value in (key, ACME_KEY)]
    assert requests.post(f"{sandbox.url}/1/find/search", json=search, headers=headers[0], timeout=10).status_code == 403
    assert requests.get(f"{sandbox.url}/1/catalog", headers=headers[1], timeout=10).status_code == 403


def test_in_maintenance_the_catalog_is_read_only(sandbox: PartiumSandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.add_key('acme', permission='catalog')}"}
    sandbox.settings(maintenance=True)
    answer = requests.post(f"{sandbox.url}/1/catalog/parts", json=[], headers=headers, timeout=10)
    assert (answer.status_code, set(answer.json())) == (503, {"detail"})
    assert requests.get(f"{sandbox.url}/1/catalog/status", headers=headers, timeout=10).status_code == 200


def test_a_catalog_says_what_became_of_each_item(sandbox: PartiumSandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.add_key('acme', permission='catalog')}"}

    def write(resource: str, *items: dict[str, Any], method: str = "POST") -> Any:
        url = f"{sandbox.url}/1/catalog/{resource}"
        return requests.request(method, url, json=items, headers=headers, timeout=10).json()

    part, pair = {"part_id": "P1", "name": {"en": "Fuse"}}, {"part_id": "P1", "ass_id": "A1"}
    nothing: dict[str, Any] = {"created": [], "updated": [], "errors": {}}
    assert write("parts", part) == nothing | {"created": ["P1"]}
    assert write("parts", {"name": {}}, part)["updated"] == ["P1"]
    assert list(write("parts", {"name": {}})["errors"]) == ["0"]
    assert write("assignments/parts", pair) == nothing | {"created": [0]}
    assert write("assignments/parts", pair) == nothing, "existing pairs are ignored"
    assert write("assignments/parts", pair, method="DELETE") == nothing
    assert write("assignments/parts", pair) == nothing | {"created": [0]}


def test_a_lenient_sandbox_ignores_what_it_does_not_know(sandbox: PartiumSandbox, client: FindClient) -> None:
    sandbox.settings(strict=False)
    assert client.search(text="fan", matches={"new": 1}).parts
    sandbox.settings(strict=True)
    with pytest.raises(UnprocessableRequest):
        client.search(text="fan", matches={"new": 1})


# --- answers that differ in form

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["label", "name", "value", "values", "url", "width", "count", "x"]), inner)
    ),
    max_leaves=12,
)
FIELDS = ("id", "partiumId", "name", "images", "attributes", "highlights", "createdAt", "mountingLocationsCount", "new")


def response(body: Any) -> Response:
    return Response(200, {}, json.dumps(body).encode(), "https://api.example/1/find/search")


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, ANYTHING)), max_size=3), ANYTHING, ANYTHING)
def test_no_form_of_a_field_is_an_error(results: list[Any], facets: Any, total: Any) -> None:
    body = {"results": results, "smartFilters": facets, "resultsTotalCount": total, "sessionId": total}
    found = parse_search_result(response(body), "A search")
    assert [part.raw for part in found.parts] == results
    for part in found.parts:
        assert all(isinstance(text, str) for pair in part.attributes.items() for text in pair)
        assert str(part.name_highlighted) == (part.name or part.id)
        assert part.image() is None or part.image().url.startswith("http")  # type: ignore[union-attr]  # not None


@given(ANYTHING)
def test_no_form_of_an_error_is_an_error(body: Any) -> None:
    assert all(isinstance(text, str) for problem in problems_of(response(body)) for text in problem)
    assert isinstance(problems_of(response({"detail": body})), tuple)


@pytest.mark.parametrize(
    "attributes",
    [
        [{"label": "Voltage", "value": "220V"}],
        [{"label": "Voltage", "values": ["220V"]}],
        [{"name": "Voltage", "value": {"en": "220V"}}],
        [{"label": "Voltage", "values": [{"value": "220V"}]}],
        {"Voltage": "220V"},
        {"Voltage": ["220V"]},
    ],
)
def test_attributes_are_read_in_every_likely_form(attributes: Any) -> None:
    assert dict(parse_part({"attributes": attributes}).attributes) == {"Voltage": "220V"}


def test_a_highlighted_name_is_safe_in_a_template() -> None:
    highlights = {"indices": {"name": [{"from": 1, "to": 4}, {"from": 90, "to": 99}]}}
    name = parse_part({"name": "<fan>", "highlights": highlights}).name_highlighted
    assert name.__html__() == "&lt;<mark>fan</mark>&gt;"
    assert str(name) == "<fan>"
