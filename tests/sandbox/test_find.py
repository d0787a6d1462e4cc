"""The Find API over HTTP: who may search, what is refused how, projection, pages, images."""

import http.client
import io
import json
import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from partium_auth.testing.sandbox import ACME_KEY, GLOBEX_KEY, PartiumSandbox, part_png
from partium_auth.testing.sandbox.api import MAX_SEARCH_BYTES, PROJECTION_FIELDS

from .conftest import Caller

_JPEG = b"\xff\xd8\xff\xe0\x00\x04ab"


def _image_search(
    caller: Caller, image: bytes, bearer: str = ACME_KEY, organization: str = "acme", **document: Any
) -> requests.Response:
    asked = {"matches": {"organization": organization} | document.pop("matches", {})} | document
    return caller.post(
        "/1/find/search",
        headers={"Authorization": f"Bearer {bearer}"},
        files={
            "input": (None, json.dumps(asked), "application/json"),
            "image": ("photo", io.BytesIO(image), "application/octet-stream"),
        },
    )


def _raw(
    sandbox: PartiumSandbox, headers: dict[str, str], body: bytes = b"", path: str = "/1/find/search"
) -> tuple[int, Any]:
    """A request exactly as written, without the care that a client library takes."""
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def test_the_documented_example_is_answered_as_documented(caller: Caller) -> None:
    response = caller.post(
        "/1/find/search",
        headers={"Authorization": f"Bearer {ACME_KEY}"},
        json={
            "language": "en",
            "projection": ["results.id", "results.name"],
            "matches": {"organization": "acme", "text": "fan"},
            "resultOptions": {"limit": 5},
        },
    )
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"sessionId", "imageId", "results"}
    assert answer["imageId"] is None
    assert len(answer["results"]) == 5
    assert all(set(one) == {"id", "name"} and "fan" in one["name"].lower() for one in answer["results"])


@pytest.mark.parametrize("bearer", [None, "unknown"])
def test_without_known_credentials_it_is_401(caller: Caller, bearer: str | None) -> None:
    for response in (caller.search(bearer), caller.get("/1/find/search/x", bearer)):
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert ("invalid_token" in response.headers["WWW-Authenticate"]) is (bearer is not None)


def test_basic_credentials_do_not_open_the_find_api(caller: Caller) -> None:
    response = caller.post("/1/find/search", json={}, auth=("anna@acme.example", "anna-sandbox-password"))
    assert response.status_code == 401


def test_a_refresh_token_is_no_bearer(caller: Caller) -> None:
    assert caller.search(caller.exchange().json()["refresh_token"]).status_code == 401


@pytest.mark.parametrize("organization", ["globex", "unheard-of"])
def test_another_organization_is_403(caller: Caller, organization: str) -> None:
    assert caller.search(ACME_KEY, organization).status_code == 403


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "matches"),
        ({"matches": []}, "matches"),
        ({"matches": {"text": "fan"}}, "matches.organization"),
        ({"matches": {"organization": 7, "text": "fan"}}, "matches.organization"),
        ({"matches": {"organization": "", "text": "fan"}}, "matches.organization"),
        ({"matches": {"organization": "acme"}}, "matches.text"),
        ({"matches": {"organization": "acme", "text": "  "}}, "matches.text"),
        ({"matches": {"organization": "acme", "text": 7}}, "matches.text"),
        ({"matches": {"organization": "acme", "text": "x" * 1001}}, "matches.text"),
        ({"matches": {"organization": "acme", "text": "fan", "color": "red"}}, "matches.color"),
        ({"text": "fan"}, "text"),
        ({"language": 7}, "language"),
        ({"projection": "results.id"}, "projection"),
        ({"projection": []}, "projection"),
        ({"projection": ["results.id", "results.price"]}, "projection[1]"),
        ({"projection": [["results.id"]]}, "projection[0]"),
        ({"resultOptions": 5}, "resultOptions"),
        ({"resultOptions": {"limits": 5}}, "resultOptions"),
        ({"resultOptions": {"limit": "5"}}, "resultOptions.limit"),
        ({"resultOptions": {"limit": 0}}, "resultOptions.limit"),
        ({"resultOptions": {"limit": 101}}, "resultOptions.limit"),
        ({"resultOptions": {"limit": True}}, "resultOptions.limit"),
    ],
)
def test_what_is_not_acceptable_is_422_and_names_the_field(
    caller: Caller, document: dict[str, Any], field: str
) -> None:
    if "matches" not in document and document:
        document = {"matches": {"organization": "acme", "text": "fan"}} | document
    response = caller.post("/1/find/search", json=document, headers={"Authorization": f"Bearer {ACME_KEY}"})
    assert response.status_code == 422
    assert response.json()["details"][0]["field"] == field


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_search_is_json_or_multipart(caller: Caller, content_type: str) -> None:
    headers = {"Authorization": f"Bearer {ACME_KEY}", "Content-Type": content_type}
    assert caller.post("/1/find/search", data=b"{}", headers=headers).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Length": "many"},
        {"Content-Length": "-1"},
        {"Content-Length": "²"},
        {"Content-Length": "1_0"},
        {"Transfer-Encoding": "chunked"},
    ],
)
def test_a_missing_or_invalid_length_is_411(sandbox: PartiumSandbox, headers: dict[str, str]) -> None:
    for path in ("/1/find/search", "/auth/refresh"):
        status, told = _raw(sandbox, {"Authorization": f"Bearer {ACME_KEY}"} | headers, path=path)
        assert status == 411
        assert told["error"] == "length_required"


def test_more_than_the_limit_is_413_and_the_limit_is_not(caller: Caller) -> None:
    document = {"matches": {"organization": "acme"}}
    room = MAX_SEARCH_BYTES - len(json.dumps(document))
    assert _image_search(caller, _JPEG.ljust(room, b"x")).status_code == 200
    assert _image_search(caller, _JPEG.ljust(room + 1, b"x")).status_code == 413
    assert _image_search(caller, _JPEG.ljust(room + 200_000, b"x")).status_code == 413
    assert caller.search(text="x" * MAX_SEARCH_BYTES).status_code == 413
    assert caller.search().status_code == 200, "the connection, or a new one, goes on"


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(sandbox: PartiumSandbox) -> None:
    headers = {"Content-Length": str(MAX_SEARCH_BYTES + 1), "Expect": "100-continue"}
    status, told = _raw(sandbox, headers)
    assert status == 413
    assert told["error"] in ("content_too_large", "request_entity_too_large")


@pytest.mark.parametrize("image", [b"", b"GIF", b"<svg/>", b"%PDF-1.7", b"BM", b"RIFF....WAVE"])
def test_an_image_that_is_not_recognized_is_415(caller: Caller, image: bytes) -> None:
    assert _image_search(caller, image).status_code == 415


@pytest.mark.parametrize(
    "image",
    [
        b"\x89PNG\r\n\x1a\n",
        _JPEG,
        b"GIF89a..",
        b"RIFF....WEBPVP8 ",
        b"II*\0....",
        b"....ftypheic",
        b"BM".ljust(40, b"\0"),
    ],
)
def test_images_are_recognized_by_their_first_bytes(caller: Caller, image: bytes) -> None:
    response = _image_search(caller, image)
    assert response.status_code == 200
    assert len(response.json()["imageId"]) == 36


def test_over_the_rate_it_is_429_with_a_date(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(rate_limit_per_second=3, clock_frozen=True)
    assert [caller.search().status_code for _ in range(4)] == [200, 200, 200, 429]
    response = caller.search()
    again_at = parsedate_to_datetime(response.headers["Retry-After"])
    now = sandbox.describe()["now"]
    assert now < again_at.timestamp() <= now + 2
    assert caller.search(GLOBEX_KEY, "globex").status_code == 200, "the rate is an organization's own"
    sandbox.advance_clock(again_at.timestamp() - now)
    assert caller.search().status_code == 200


def test_a_rate_of_zero_lets_nothing_pass(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(rate_limit_per_second=0)
    assert caller.search().status_code == 429


def test_refusals_do_not_count_against_the_rate(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(rate_limit_per_second=1, clock_frozen=True)
    assert caller.search(GLOBEX_KEY, "acme").status_code == 403
    assert caller.search(resultOptions={"limit": 0}).status_code == 422
    assert caller.search().status_code == 200


def test_every_documented_field_can_be_asked_for(caller: Caller) -> None:
    (result,) = caller.search(projection=list(PROJECTION_FIELDS), resultOptions={"limit": 1}).json()["results"]
    assert list(result) == [name.removeprefix("results.") for name in PROJECTION_FIELDS]
    assert result["nameLanguage"] == "en"
    assert result["mountingLocationsCount"] >= 1
    created, modified = (
        datetime.strptime(result[name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        for name in ("createdAt", "modifiedAt")
    )
    assert created <= modified
    assert {one["key"] for one in result["attributes"]} >= {"manufacturer", "material", "dimensions"}
    highlights = result["highlights"]
    assert set(highlights) == {"snippet", "indices"}
    marked = [result["name"][one["from"] : one["to"]].lower() for one in highlights["indices"]["name"]]
    assert "fan" in marked


def test_without_a_projection_id_and_name_come(caller: Caller) -> None:
    assert set(caller.search().json()["results"][0]) == {"id", "name"}


def test_a_result_shows_pictures_that_anybody_can_load(caller: Caller) -> None:
    fields = ["results.previewData", "results.images"]
    (result,) = caller.search(projection=fields, resultOptions={"limit": 1}).json()["results"]
    preview = caller.session.get(result["previewData"]["url"], timeout=10)
    assert preview.headers["Content-Type"] == "image/svg+xml"
    assert preview.text.startswith("<svg ")
    svg, png = (caller.session.get(one["url"], timeout=10) for one in result["images"])
    assert svg.content == preview.content
    assert png.headers["Content-Type"] == "image/png"
    assert png.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", ["nothing.svg", "AC9900001.svg", "AC1000001.gif", "AC1000001", ".svg", "AC10²²001.svg"]
)
def test_there_is_no_picture_of_what_does_not_exist(caller: Caller, name: str) -> None:
    assert caller.get(f"/media/parts/{name}").status_code == 404


def test_pictures_come_from_the_public_address() -> None:
    with PartiumSandbox.start(public_url="https://parts.example/sandbox/") as own:
        caller = Caller(own.url)
        with caller.session:
            (result,) = caller.search(projection=["results.images"], resultOptions={"limit": 1}).json()["results"]
    assert result["images"][0]["url"].startswith("https://parts.example/sandbox/media/parts/AC")


def test_pages_of_a_search_follow_each_other_without_gap_or_overlap(caller: Caller) -> None:
    first = caller.search(resultOptions={"limit": 4}).json()
    path = f"/1/find/search/{first['sessionId']}"
    whole = caller.get(f"{path}?offset=0&limit=12", ACME_KEY).json()
    assert whole["sessionId"] == first["sessionId"]
    assert whole["results"][:4] == first["results"]
    pages = [caller.get(f"{path}?offset={offset}&limit=4", ACME_KEY).json() for offset in (0, 4, 8)]
    assert [one for page in pages for one in page["results"]] == whole["results"]
    assert pages[1]["offset"] == 4
    total = whole["total"]
    assert len(caller.get(f"{path}?offset={total - 1}", ACME_KEY).json()["results"]) == 1
    assert caller.get(f"{path}?offset={total}", ACME_KEY).json()["results"] == []


def test_a_page_has_the_projection_and_language_of_its_search(caller: Caller) -> None:
    fields = ["results.name", "results.nameLanguage"]
    answer = caller.search(text="Lüfter", language="de", projection=fields).json()
    page = caller.get(f"/1/find/search/{answer['sessionId']}?offset=3", ACME_KEY).json()
    assert all(set(one) == {"name", "nameLanguage"} and one["nameLanguage"] == "de" for one in page["results"])


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "offset=²", "limit=0", "limit=101", "limit=", "offset=" + "9" * 30]
)
def test_an_unacceptable_page_is_422(caller: Caller, query: str) -> None:
    session_id = caller.search().json()["sessionId"]
    expected = 200 if query == "limit=" else 422  # an empty value is as good as none
    assert caller.get(f"/1/find/search/{session_id}?{query}", ACME_KEY).status_code == expected


def test_a_search_is_open_to_its_organization_only(caller: Caller) -> None:
    session_id = caller.search().json()["sessionId"]
    assert caller.get(f"/1/find/search/{session_id}", GLOBEX_KEY).status_code == 403
    assert caller.get(f"/1/find/search/{session_id}", caller.exchange().json()["access_token"]).status_code == 200


def test_a_search_expires(sandbox: PartiumSandbox, caller: Caller) -> None:
    sandbox.settings(search_lifetime_seconds=60, clock_frozen=True)
    path = f"/1/find/search/{caller.search().json()['sessionId']}"
    assert caller.get(path, ACME_KEY).status_code == 200
    sandbox.advance_clock(60)
    assert caller.get(path, ACME_KEY).status_code == 404
    assert caller.get("/1/find/search/unknown", ACME_KEY).status_code == 404


def test_only_so_many_searches_are_kept(
    sandbox: PartiumSandbox, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partium_auth.testing.sandbox.api._MAX_SEARCHES", 2)
    first, second, third = (caller.search().json()["sessionId"] for _ in range(3))
    statuses = [caller.get(f"/1/find/search/{one}", ACME_KEY).status_code for one in (first, second, third)]
    assert statuses == [404, 200, 200]


def test_the_photo_of_a_part_finds_the_part(caller: Caller) -> None:
    part_id = caller.search(text="worm wheel", resultOptions={"limit": 3}).json()["results"][2]["id"]
    photo = caller.session.get(f"{caller.url}/media/parts/{part_id}.png", timeout=10).content
    assert photo == part_png(part_id)
    results = _image_search(caller, photo).json()["results"]
    assert results[0]["id"] == part_id
    assert len(results) == 10


def test_a_photo_is_found_in_the_catalog_of_the_organization_asked_only(caller: Caller) -> None:
    part_id = caller.search(resultOptions={"limit": 1}).json()["results"][0]["id"]
    photo = part_png(part_id)
    assert photo is not None
    results = _image_search(caller, photo, GLOBEX_KEY, "globex").json()["results"]
    assert results
    assert all(one["id"].startswith("GL") for one in results)


def test_pages_of_an_image_search_name_the_image(caller: Caller) -> None:
    answer = _image_search(caller, _JPEG).json()
    page = caller.get(f"/1/find/search/{answer['sessionId']}?offset=10", ACME_KEY).json()
    assert page["imageId"] == answer["imageId"]
    assert not {one["id"] for one in page["results"]} & {one["id"] for one in answer["results"]}


@pytest.mark.parametrize(
    "files",
    [
        {"input": (None, "{}", "application/json")},
        {"image": ("photo", _JPEG)},
        {"input": (None, "{}", "application/json"), "image": ("photo", _JPEG), "more": (None, "x")},
        [("input", (None, "{}", "application/json")), ("image", ("a", _JPEG)), ("image", ("b", _JPEG))],
        {"input": (None, "{}", "text/plain"), "image": ("photo", _JPEG)},
        {"input": (None, "{", "application/json"), "image": ("photo", _JPEG)},
    ],
)
def test_a_form_has_input_and_image_once_each(caller: Caller, files: Any) -> None:
    response = caller.post("/1/find/search", headers={"Authorization": f"Bearer {ACME_KEY}"}, files=files)
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n--y--"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=input\r\n\r\n{}"),
        ("multipart/form-data; boundary=x", b"--x\r\nno headers\r\n--x--"),
        ("multipart/form-data; boundary=x", b"junk\r\n--x--\r\n"),
    ],
)
def test_a_form_that_is_not_well_formed_is_422(caller: Caller, content_type: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {ACME_KEY}", "Content-Type": content_type}
    assert caller.post("/1/find/search", data=body, headers=headers).status_code == 422


def test_an_image_may_hold_what_looks_like_line_ends_and_delimiters(caller: Caller) -> None:
    tricky = _JPEG + b"\r\n\r\n--x\r\n\n\r--\r\n\0\xff"
    first, again = (_image_search(caller, tricky).json()["results"] for _ in range(2))
    assert first == again
    assert first != _image_search(caller, tricky + b"\n").json()["results"]


@pytest.mark.parametrize(
    "path", ["/1/find", "/2/find/search", "/find/search", "/", "/1/find/search/", "/1/find/search/a/b"]
)
def test_unknown_paths_are_404(caller: Caller, path: str) -> None:
    assert caller.get(path, ACME_KEY).status_code == 404


def test_a_page_of_another_origin_may_search(caller: Caller) -> None:
    preflight = caller.session.options(caller.url + "/1/find/search", timeout=10)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Partium-ExternalUserId" in preflight.headers["Access-Control-Allow-Headers"]
    assert caller.search().headers["Access-Control-Allow-Origin"] == "*"
    assert caller.search("unknown").headers["Access-Control-Allow-Origin"] == "*"


def test_a_connection_serves_many_requests(sandbox: PartiumSandbox) -> None:
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)
    connection.connect()
    socket = connection.sock
    for path in ("/1/auth", "/nowhere", "/1/auth"):
        connection.request("POST", path, b"", {"Authorization": f"Bearer {ACME_KEY}"})
        connection.getresponse().read()
        assert connection.sock is socket
    connection.close()


@pytest.mark.parametrize("line", ["GET //[ HTTP/1.1", "GET http://[ HTTP/1.1", "nonsense", "GET / HTTP/9.9"])
def test_a_malformed_request_is_refused_in_json(sandbox: PartiumSandbox, line: str) -> None:
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb")
        with answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404", b"505")
    assert json.loads(body)["error"]


def test_a_client_may_wait_for_permission_to_send(sandbox: PartiumSandbox) -> None:
    body = json.dumps({"matches": {"organization": "acme", "text": "fan"}}).encode()
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            f"POST /1/find/search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        with connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 100")
            connection.sendall(body)
            assert answer.readline() == b"\r\n"
            assert answer.readline().startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_in_the_middle_of_its_body_asked_nothing(sandbox: PartiumSandbox) -> None:
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /1/find/search HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert sandbox.calls() == []


def test_a_defect_of_the_sandbox_is_an_answer_and_a_log_line(
    sandbox: PartiumSandbox, caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("partium_auth.testing.sandbox.find.search_text", lambda *_: 1 / 0)
    assert caller.search().status_code == 500
    assert sandbox.count(status=500) == 1
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()
