"""The Find API, against a server."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from partium_auth.assumptions import Assumptions
from partium_auth.exceptions import (
    ConnectionFailed,
    CredentialsRejected,
    LengthRequired,
    NothingToSearch,
    NotPermitted,
    PayloadTooLarge,
    RateLimited,
    ServiceUnavailable,
    UnexpectedResponse,
    UnprocessableRequest,
    UnsupportedImage,
    UpstreamError,
)
from partium_auth.partium.client import Bearer, FindClient
from partium_auth.partium.part import Attributes, Part
from partium_auth.partium.results import SearchResult
from partium_auth.partium.search import MAX_PAYLOAD_BYTES, MULTIPART_BYTES, SearchParameters
from tests.http.upstream import Peer, Request
from tests.partium.conftest import API, FOUND, parts_of

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256))
ALL_FIELDS = [
    "results.id",
    "results.partiumId",
    "results.name",
    "results.nameLanguage",
    "results.previewData",
    "results.images",
    "results.mountingLocationsCount",
    "results.createdAt",
    "results.modifiedAt",
    "results.attributes",
    "results.highlights",
]


# --- search by text


def test_a_search_is_what_the_documentation_shows(api: API) -> None:
    result = api.find().search(text="fan", limit=7, language="de", projection=["results.id"])
    assert (api.last.method, api.last.target) == ("POST", "/1/find/search")
    assert api.last.headers["content-type"] == "application/json"
    assert api.last.headers["authorization"] == "Bearer token-0"
    assert api.last.headers["content-length"] == str(len(api.last.body))
    assert api.last.json == {
        "language": "de",
        "projection": ["results.id"],
        "matches": {"organization": "acme", "text": "fan"},
        "resultOptions": {"limit": 7},
    }
    assert (result.session_id, result.image_id) == ("5e55", None)
    assert [(part.id, part.name) for part in result.results] == [("RM5119150", "FAN")]
    assert result.raw == FOUND


def test_the_defaults_of_a_search(api: API) -> None:
    api.find(language="fr").search(text="ventilateur")
    assert api.last.json["language"] == "fr"
    assert api.last.json["projection"] == ALL_FIELDS
    assert api.last.json["resultOptions"] == {"limit": 5}


def test_further_matches_and_options_are_merged(api: API) -> None:
    api.find().search(text="fan", matches={"filters": ["a"]}, result_options={"skip": 5})
    assert api.last.json["matches"] == {"organization": "acme", "text": "fan", "filters": ["a"]}
    assert api.last.json["resultOptions"] == {"limit": 5, "skip": 5}


def test_filters_alone_are_a_search(api: API) -> None:
    api.find().search(matches={"filters": ["a"]})
    assert api.last.json["matches"] == {"organization": "acme", "filters": ["a"]}


@pytest.mark.parametrize(
    "inputs", [{}, {"text": ""}, {"text": " \n\u3000"}, {"text": None, "filters": {}, "within": []}]
)
def test_a_search_for_nothing_is_refused(api: API, inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give text, image, or both") as caught:
        api.find().search(**inputs)
    assert isinstance(caught.value, NothingToSearch)
    assert not api.source.calls


def test_a_photo_beside_which_only_space_was_typed_is_searched_alone(api: API) -> None:
    assert "text" not in SearchParameters(text="  ", image=b"x").query("acme")["matches"]


def test_a_client_does_not_search_in_another_organization(api: API) -> None:
    with pytest.raises(ValueError, match="another organization"):
        api.find().search(text="fan", matches={"organization": "globex"})
    assert not api.requests


def test_the_base_url_may_have_a_prefix(api: API) -> None:
    api.find(base_url=api.server.url + "/prefix/").search(text="fan")
    assert api.last.target == "/prefix/1/find/search"


def test_a_search_is_sent_again_where_a_kept_connection_was_closed(api: API) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(200, {}, FOUND)
        peer.request()

    api.server.script = script
    api.find().search(text="fan")
    assert api.find().search(text="fan").session_id == "5e55"
    assert [request.connection for request in api.requests] == [1, 1, 2]


# --- who searches


def test_the_external_user_is_told_with_searches_only(api: API) -> None:
    api.source.external_user_id = "user-7"
    client = api.find()
    client.search(text="fan")
    client.search(image=JPEG)
    client.request("POST", "/2/find/search", json={})
    client.page("5e55", skip=0)
    client.request("GET", "/1/find/search")
    client.request("POST", "/1/find/other")
    told = [request.headers.get("x-partium-externaluserid") for request in api.requests]
    assert told == ["user-7"] * 3 + [None] * 3


@pytest.mark.parametrize("external_user_id", [None, ""])
def test_without_an_external_user_none_is_told(api: API, external_user_id: str | None) -> None:
    api.source.external_user_id = external_user_id
    api.find().search(text="fan")
    assert "x-partium-externaluserid" not in api.last.headers


def test_an_external_user_that_no_header_holds_is_encoded(api: API) -> None:
    api.source.external_user_id = "jürgen müller\r\nX: y"
    api.find().search(text="fan")
    assert api.last.headers["x-partium-externaluserid"] == "j%C3%BCrgen%20m%C3%BCller%0D%0AX:%20y"


# --- 401


def test_a_rejected_bearer_is_replaced_once_and_the_call_replayed(api: API) -> None:
    api.accepts("token-1")
    assert api.find().search(text="fan").session_id == "5e55"
    assert api.source.calls == ["current", "replace token-0"]
    assert [request.headers["authorization"] for request in api.requests] == ["Bearer token-0", "Bearer token-1"]
    assert api.requests[0].body == api.requests[1].body


def test_a_second_rejection_is_an_error(api: API) -> None:
    api.accepts()
    with pytest.raises(CredentialsRejected) as caught:
        api.find().search(text="fan")
    assert api.source.calls == ["current", "replace token-0"]
    assert len(api.requests) == 2
    assert caught.value.status == 401
    assert "s3cret" not in str(caught.value)


def test_what_the_source_raises_comes_out(api: API) -> None:
    class LoggedOut(Exception):
        pass

    def replace(rejected: object) -> object:
        raise LoggedOut

    api.accepts()
    api.source.replace = replace  # type: ignore[method-assign,assignment]  # only this test's source fails
    with pytest.raises(LoggedOut):
        api.find().search(text="fan")


def test_pages_and_requests_are_replayed_too(api: API) -> None:
    api.accepts("token-1", "token-2")
    api.find().page("5e55", skip=5)
    api.source.number = 5
    api.accepts("token-6")
    assert api.find().request("DELETE", "/1/x").status == 200
    assert len(api.requests) == 4


@pytest.mark.parametrize("kind", ["bytes", "file", "unseekable"])
def test_an_image_is_sent_in_full_both_times(api: API, kind: str) -> None:
    api.accepts("token-1")
    image: Any = {"bytes": JPEG, "file": io.BytesIO(JPEG), "unseekable": Unseekable(JPEG)}[kind]
    api.find().search(image=image)
    assert len(api.requests) == 2
    for request in api.requests:
        assert parts_of(request)["image"].get_payload(decode=True) == JPEG


# --- each error row of the documentation


@pytest.mark.parametrize(
    ("status", "kind", "headers", "retry_after"),
    [
        (403, NotPermitted, {}, None),
        (411, LengthRequired, {}, None),
        (413, PayloadTooLarge, {}, None),
        (415, UnsupportedImage, {}, None),
        (422, UnprocessableRequest, {}, None),
        (
            429,
            RateLimited,
            {"Date": "Fri, 06 Nov 2026 08:49:37 GMT", "Retry-After": "Fri, 06 Nov 2026 08:49:49 GMT"},
            12,
        ),
        (503, ServiceUnavailable, {"Retry-After": "30"}, 30),
        (500, UpstreamError, {}, None),
        (302, UpstreamError, {"Location": "/elsewhere"}, None),
    ],
)
def test_an_error_answer_is_its_exception(
    api: API, status: int, kind: type[UpstreamError], headers: dict[str, str], retry_after: int | None
) -> None:
    api.replies(status, headers, {"message": "s3cret"})
    with pytest.raises(kind) as caught:
        api.find().search(text="fan")
    assert (caught.value.status, caught.value.retry_after, caught.value.sent) == (status, retry_after, True)
    assert "s3cret" not in str(caught.value)
    assert len(api.requests) == 1
    assert api.source.calls == ["current"]


@pytest.mark.parametrize("body", [b"", b"<html>blocked s3cret</html>", b'"no"', b"RBAC: access denied"])
def test_a_firewalls_403_says_nothing_about_the_organization(api: API, body: bytes) -> None:
    api.replies(403, {"Retry-After": "7"}, body)
    calls: list[Callable[[], object]] = [
        lambda: api.find().search(text="fan"),
        lambda: api.find().page("5e55", skip=0),
    ]
    for call in calls:
        with pytest.raises(UnexpectedResponse, match="perhaps a firewall") as caught:
            call()
        assert (caught.value.status, caught.value.retry_after) == (403, 7)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"sessionId": "5e55"},
        {"results": None},
        {"results": {}},
        {"results": "none"},
        {"results": ["RM5119150"]},
        {"results": [{"id": "1"}, None]},
    ],
)
def test_an_answer_without_a_list_of_results_is_an_error(api: API, body: dict[str, Any]) -> None:
    api.replies(200, {}, body)
    with pytest.raises(UnexpectedResponse, match="without a list of results"):
        api.find().search(text="fan")


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>s3cret</html>", b"5"])
def test_an_answer_that_is_no_object_is_an_error(api: API, body: bytes) -> None:
    api.replies(200, {}, body)
    with pytest.raises(UnexpectedResponse) as caught:
        api.find().search(text="fan")
    assert "s3cret" not in str(caught.value)
    assert f"{api.server.url}/1/find/search" in str(caught.value)


# --- results


def test_a_part_has_all_documented_fields(api: API) -> None:
    raw = {
        "id": "RM5119150",
        "partiumId": "fa41fbee",
        "name": "FAN",
        "nameLanguage": "en",
        "previewData": {"stock": 3},
        "images": [{"url": "https://x/1.png"}],
        "mountingLocationsCount": 2,
        "createdAt": "2023-06-27T15:46:26.770379Z",
        "modifiedAt": "2024-02-16T15:17:19+01:00",
        "attributes": [{"label": "Color", "value": "red"}],
        "highlights": {"snippet": "FAN"},
        "new": 1,
    }
    api.replies(200, {}, {"sessionId": "s", "imageId": "i", "results": [raw]})
    (part,) = api.find().search(text="fan").results
    assert part == Part(
        id="RM5119150",
        partium_id="fa41fbee",
        name="FAN",
        name_language="en",
        preview_data={"stock": 3},
        images=[{"url": "https://x/1.png"}],
        mounting_locations_count=2,
        created_at=datetime(2023, 6, 27, 15, 46, 26, 770379, tzinfo=UTC),
        modified_at=datetime(2024, 2, 16, 14, 17, 19, tzinfo=UTC),
        attributes=Attributes([{"label": "Color", "value": "red"}]),
        highlights={"snippet": "FAN"},
        raw=raw,
    )


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"id": None, "name": 7, "images": "x", "mountingLocationsCount": "2", "createdAt": "soon", "modifiedAt": 5},
        {"id": [], "mountingLocationsCount": True, "createdAt": None, "previewData": None},
    ],
)
def test_what_a_part_lacks_is_empty(api: API, raw: dict[str, Any]) -> None:
    api.replies(200, {}, {"results": [raw]})
    result = api.find().search(text="fan")
    assert (result.session_id, result.image_id) == (None, None)
    assert result.results == [Part("", None, None, None, None, [], None, None, None, Attributes(None), None, raw)]


def test_an_id_may_be_a_number_and_a_time_may_lack_its_zone(api: API) -> None:
    api.replies(200, {}, {"results": [{"id": 5119150, "createdAt": "2023-06-27T15:46:26"}]})
    (part,) = api.find().search(text="fan").results
    assert part.id == "5119150"
    assert part.created_at == datetime(2023, 6, 27, 15, 46, 26, tzinfo=UTC)


def test_a_large_answer_is_read(api: API) -> None:
    results = [{"id": str(number), "previewData": "x" * 20_000} for number in range(100)]
    api.replies(200, {}, {"results": results})
    assert len(api.find().search(text="fan", limit=100).results) == 100


# --- search by image


class Unseekable(io.RawIOBase):
    """A stream such as a socket's or a pipe's."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._data.read(size)
        self.taken += len(piece)
        return piece


def test_an_image_goes_out_as_multipart(api: API) -> None:
    """In the form of Partium's sample."""
    api.find().search(image=JPEG, text="fan", limit=3)
    assert api.last.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert api.last.headers["content-length"] == str(len(api.last.body))
    assert "transfer-encoding" not in api.last.headers
    parts = parts_of(api.last)
    assert list(parts) == ["input", "image"]
    assert parts["input"].get_content_type() == "application/json"
    assert b'"matches": {"organization": "acme", "text": "fan"}' in parts["input"].get_payload(decode=True)
    assert parts["image"].get_content_type() == "application/octet-stream"
    assert parts["image"].get_filename() is None
    assert parts["image"].get_payload(decode=True) == JPEG


@pytest.mark.parametrize("make", [bytearray, memoryview, io.BytesIO, Unseekable])
def test_an_image_may_be_anything_binary(api: API, make: Callable[[bytes], Any]) -> None:
    api.find().search(image=make(JPEG))
    assert parts_of(api.last)["image"].get_payload(decode=True) == JPEG


def test_a_file_on_disk_is_read_from_where_it_stands(api: API) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"header" + JPEG)
        file.seek(6)
        api.find().search(image=file)
    assert parts_of(api.last)["image"].get_payload(decode=True) == JPEG


def largest_image(api: API) -> int:
    """How many bytes an image may have beside the input of a search with default arguments."""
    api.find().search(image=b"x")
    query = parts_of(api.last)["input"].get_payload(decode=True).replace(b'"organization": "acme"', b"")
    return MAX_PAYLOAD_BYTES - MULTIPART_BYTES - len(query)


def test_image_and_input_may_have_five_and_a_half_mebibytes_together(api: API) -> None:
    size = largest_image(api)
    assert MAX_PAYLOAD_BYTES == 5.5 * 1024 * 1024
    api.find().search(image=b"x" * size)
    assert MAX_PAYLOAD_BYTES - MULTIPART_BYTES < len(api.last.body) <= MAX_PAYLOAD_BYTES


@pytest.mark.parametrize("make", [bytes, io.BytesIO, Unseekable])
def test_one_byte_more_is_refused_before_anything_is_sent(api: API, make: Callable[[bytes], Any]) -> None:
    size = largest_image(api) + 1
    api.source.calls.clear()
    with pytest.raises(PayloadTooLarge, match="Send a smaller one") as caught:
        api.find().search(image=make(b"x" * size))
    assert not caught.value.sent
    assert len(api.requests) == 1
    assert not api.source.calls, "no token is fetched for it"


def test_a_stream_without_end_is_read_up_to_the_limit_only(api: API) -> None:
    stream = Unseekable(b"x" * 3 * MAX_PAYLOAD_BYTES)
    with pytest.raises(PayloadTooLarge):
        api.find().search(image=stream)
    assert stream.taken < 1.1 * MAX_PAYLOAD_BYTES


@pytest.mark.parametrize("make", [bytes, io.BytesIO, Unseekable])
def test_an_empty_image_is_refused(api: API, make: Callable[[bytes], Any]) -> None:
    with pytest.raises(UnsupportedImage, match="empty") as caught:
        api.find().search(image=make(b""))
    assert not caught.value.sent


def test_a_file_in_text_mode_is_refused(api: API) -> None:
    with pytest.raises(TypeError, match="binary mode"):
        api.find().search(image=io.StringIO("x"))  # type: ignore[arg-type]  # the mistake
    reading, writing = os.pipe()
    os.write(writing, b"x")
    os.close(writing)
    with os.fdopen(reading) as text, pytest.raises(TypeError, match="binary mode"):
        api.find().search(image=text)  # type: ignore[arg-type]  # the mistake


# --- pages


def test_a_page_retrieves_the_state_of_the_search(api: API) -> None:
    assert api.find().page("5e/55", skip=10, limit=3).results[0].id == "RM5119150"
    assert (api.last.method, api.last.target) == ("GET", "/1/find/search/5e%2F55?skip=10&limit=3")


def test_where_the_state_is_can_be_said(api: API) -> None:
    api.find(assumptions=Assumptions(page_path="/2/searches/{session_id}/state?offset={skip}&size={limit}")).page(
        "5e55", skip=4
    )
    assert api.last.target == "/2/searches/5e55/state?offset=4&size=5"


def test_a_path_may_count_pages(api: API) -> None:
    assumptions = Assumptions(page_path="/2/searches/{session_id}?page={page}&index={page_from_0}")
    api.find(assumptions=assumptions).page("5e55", skip=10, limit=5)
    assert api.last.target == "/2/searches/5e55?page=3&index=2"


@pytest.mark.parametrize(
    ("path", "ask", "lacking"),
    [
        ("hierarchy_path", lambda find: find.hierarchy(partium_root="1"), "partium_root"),
        ("hierarchy_path", lambda find: find.hierarchy("1"), "root"),
        ("attributes_path", lambda find: find.attributes("volt"), "containing"),
        ("attribute_values_path", lambda find: find.attribute_values("Voltage"), "label"),
    ],
)
def test_a_path_without_a_place_for_what_is_asked_is_an_error(
    api: API, path: str, ask: Callable[[FindClient], object], lacking: str
) -> None:
    find = api.find(assumptions=Assumptions(**{path: "/2/all?size={limit}"}))
    with pytest.raises(ValueError, match=rf"add \{{{lacking}\}} to it"):
        ask(find)
    assert api.requests == []


def test_a_path_without_places_still_lists_everything(api: API) -> None:
    api.answer = lambda request: (200, {}, {"results": []})
    assert api.find(assumptions=Assumptions(hierarchy_path="/2/all?size={limit}")).hierarchy() == []


def paged(total: int) -> Callable[[Request], tuple[Any, ...]]:
    def answer(request: Request) -> tuple[Any, ...]:
        if request.method == "POST":
            offset, limit = 0, request.json["resultOptions"]["limit"]
        else:
            query = dict(pair.split("=") for pair in request.target.partition("?")[2].split("&"))
            offset, limit = int(query["skip"]), int(query["limit"])
        numbers = range(total)[offset : offset + limit]
        return 200, {}, {"sessionId": "5e55", "results": [{"id": str(number)} for number in numbers]}

    return answer


@pytest.mark.parametrize(("total", "sizes"), [(0, []), (1, []), (2, [0]), (3, [1]), (4, [2, 0]), (5, [2, 1])])
def test_pages_follow_until_one_is_not_full(api: API, total: int, sizes: list[int]) -> None:
    api.answer = paged(total)
    client = api.find()
    first = client.search(text="fan", limit=2)
    pages = list(client.pages(first, limit=2))
    assert [len(page.results) for page in pages] == sizes
    ids = [part.id for page in [first, *pages] for part in page.results]
    assert ids == [str(number) for number in range(total)]


def test_a_page_that_comes_again_is_an_error(api: API) -> None:
    client = api.find()
    with pytest.raises(UnexpectedResponse, match="same page again"):
        list(client.pages(client.search(text="fan", limit=1), limit=1))
    with pytest.raises(UnexpectedResponse, match="same page again"):
        list(client.parts(text="fan", limit=1))


def test_without_a_session_there_are_no_pages(api: API) -> None:
    api.replies(200, {}, {"results": [{"id": "1"}]})
    first = api.find().search(text="fan", limit=1)
    assert list(api.find().pages(first, limit=1)) == []


# --- anything else


def test_a_request_has_the_bearer_and_what_it_was_given(api: API) -> None:
    api.replies(201, {"X-A": "b"}, {"ok": True})
    response = api.find().request(
        "put", "/1/x", json={"a": 1}, params={"q": "a b"}, headers={"X-B": "c"}, total_seconds=5, max_bytes=1000
    )
    assert (response.status, response.json(), response.headers["x-a"]) == (201, {"ok": True}, "b")
    assert (api.last.method, api.last.target, api.last.json) == ("PUT", "/1/x?q=a+b", {"a": 1})
    assert api.last.headers["authorization"] == "Bearer token-0"
    assert api.last.headers["x-b"] == "c"


def test_a_request_may_send_a_form_or_bytes(api: API) -> None:
    api.find().request("POST", "/1/x", data={"a": "b"})
    assert api.last.body == b"a=b"
    api.find().request("POST", "/1/x", data=b"raw")
    assert api.last.body == b"raw"


def test_the_limits_of_a_request_hold(api: API) -> None:
    api.replies(200, {}, b"x" * 1001)
    with pytest.raises(UnexpectedResponse):
        api.find().request("GET", "/1/x", max_bytes=1000)


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("PUT", 3), ("POST", 2), ("PATCH", 2)])
def test_only_methods_that_may_be_repeated_are(api: API, method: str, sent: int) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(200, {}, FOUND)
        peer.request()

    api.server.script = script
    client = api.find()
    client.request(method, "/1/x")
    with suppress(ConnectionFailed):
        client.request(method, "/1/x")
    assert len(api.requests) == sent


def test_an_absolute_url_below_the_base_is_fine(api: API) -> None:
    api.find(base_url=api.server.url + "/prefix").request("GET", api.server.url + "/prefix/1/x?a=b")
    assert api.last.target == "/prefix/1/x?a=b"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/1/x",
        "//evil.example/1/x",
        "https:evil.example/1/x",
        "HTTP://{host}.evil.example/1/x",
        "http://user@{host}/1/x",
        "https://{host}/1/x",
        "http://{host}@evil.example/1/x",
        "http://{host}",
        "\\\\evil.example/1/x",
        "/\\evil.example/1/x",
        "/1//x",
        "/1/../x",
        "/..",
        "/1/%2e%2e/x",
        "/1/%2E./x",
        "/1/..%2fx",
        "/1/%2fx/%2f/x",
        "/1/%5cx",
        "/1/x#fragment",
        "/1/x y",
        "/1/x\n",
        "/1/%0ax",
        "/1/x\x00",
        "1/x",
        "",
        "?a=b",
        "javascript:alert(1)",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(api: API, path: str) -> None:
    with pytest.raises(ValueError, match=r"A path begins|a bearer is not sent there"):
        api.find().request("GET", path.replace("{host}", api.server.url.removeprefix("http://")))
    assert not api.source.calls
    assert api.server.connections == 0


def test_a_url_beside_the_base_is_refused(api: API) -> None:
    client = api.find(base_url=api.server.url + "/prefix")
    for path in ("/1/x", "/prefix-other/x", "/prefix"):
        with pytest.raises(ValueError, match="a bearer is not sent there"):
            client.request("GET", api.server.url + path)


@pytest.mark.parametrize("name", ["Authorization", "authorization", " AUTHORIZATION ", "Cookie", "Host"])
def test_headers_with_credentials_are_refused(api: API, name: str) -> None:
    with pytest.raises(ValueError, match="not the caller's to set") as caught:
        api.find().request("GET", "/1/x", headers={name: "s3cret"})
    assert "s3cret" not in str(caught.value)
    assert not api.requests


def test_the_arguments_of_a_method_are_listed() -> None:
    """For help(), and for an editor."""
    assert list(inspect.signature(FindClient.search).parameters) == [
        "self",
        "text",
        "image",
        "filters",
        "within",
        "facets",
        "fallback_languages",
        "limit",
        "language",
        "projection",
        "matches",
        "result_options",
        "total_seconds",
    ]
    assert inspect.iscoroutinefunction(FindClient.asearch)
    assert inspect.signature(FindClient.arequest).parameters == inspect.signature(FindClient.request).parameters


# --- async


def test_the_async_twins_do_the_same(api: API) -> None:
    api.accepts("token-1")

    async def main() -> None:
        client = api.find()
        assert (await client.asearch(text="fan", limit=1)).session_id == "5e55"
        assert (await client.apage("5e55", skip=2)).session_id == "5e55"
        assert (await client.arequest("GET", "/1/x")).status == 200
        assert (await client.asearch(image=JPEG)).session_id == "5e55"

    asyncio.run(main())
    assert api.source.calls == ["acurrent", "areplace token-0", "acurrent", "acurrent", "acurrent"]
    assert [(request.method, request.target) for request in api.requests] == [
        ("POST", "/1/find/search"),
        ("POST", "/1/find/search"),
        ("GET", "/1/find/search/5e55?skip=2&limit=5"),
        ("GET", "/1/x"),
        ("POST", "/1/find/search"),
    ]


def test_a_second_rejection_is_an_error_in_async_too(api: API) -> None:
    api.accepts()
    with pytest.raises(CredentialsRejected):
        asyncio.run(api.find().asearch(text="fan"))
    assert api.source.calls == ["acurrent", "areplace token-0"]


def test_pages_follow_in_async_too(api: API) -> None:
    api.answer = paged(5)

    async def main() -> list[int]:
        client = api.find()
        first = await client.asearch(text="fan", limit=2)
        return [len(page.results) async for page in client.apages(first, limit=2)]

    assert asyncio.run(main()) == [2, 1]


def test_the_event_loop_goes_on_while_a_search_is_under_way(api: API) -> None:
    release = threading.Event()

    async def main() -> SearchResult:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def answer(request: Request) -> tuple[Any, ...]:
            loop.call_soon_threadsafe(arrived.set)
            assert release.wait(20)
            return 200, {}, FOUND

        api.answer = answer
        search = asyncio.create_task(api.find().asearch(text="fan"))
        await arrived.wait()
        release.set()  # only a loop that is not blocked gets here
        return await search

    assert asyncio.run(main()).session_id == "5e55"


def test_a_bearer_shows_for_whom_it_is_and_not_what_it_is() -> None:
    shown = repr(Bearer("s3cret", "acme", "user-7", origin="s3cret"))
    assert "s3cret" not in shown
    assert "'acme'" in shown
