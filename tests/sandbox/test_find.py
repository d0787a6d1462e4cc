"""The Find API over HTTP: who may search, what is refused how, projection, pages, images."""

import http.client
import io
import json
import socket
import struct
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from partium_auth.testing.sandbox import ACME_KEY, GLOBEX_KEY, PartiumSandbox, part_png
from partium_auth.testing.sandbox.api import MAX_BODY_BYTES, RESULT_FIELDS

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
        ({"resultOptions": {"limits": 5}}, "resultOptions.limits"),
        ({"resultOptions": {"limit": "5"}}, "resultOptions.limit"),
        ({"resultOptions": {"limit": 0}}, "resultOptions.limit"),
        ({"resultOptions": {"limit": 101}}, "resultOptions.limit"),
        ({"resultOptions": {"limit": True}}, "resultOptions.limit"),
        ({"resultOptions": {"skip": -1}}, "resultOptions.skip"),
        ({"fallbackLanguages": "en"}, "fallbackLanguages"),
        ({"matches": {"organization": "acme", "hierarchy": "TRACTOR.2454488"}}, "matches.hierarchy"),
        ({"matches": {"organization": "acme", "filters": {"Voltage": "127V"}}}, "matches.filters"),
        (
            {"matches": {"organization": "acme", "filters": [{"label": "Voltage", "value": ["127V"]}]}},
            "matches.filters[0]",
        ),
    ],
)
def test_what_is_not_acceptable_is_422_and_names_the_field(
    sandbox: PartiumSandbox, caller: Caller, document: dict[str, Any], field: str
) -> None:
    sandbox.settings(strict=True)
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


def test_a_request_over_the_limit_is_413_and_one_of_the_limit_is_not(caller: Caller) -> None:
    def search(size: int) -> int:
        form = (
            b'--x\r\nContent-Disposition: form-data; name="input"\r\nContent-Type: application/json\r\n\r\n'
            b'{"matches": {"organization": "acme"}}\r\n--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        ) + _JPEG
        body = form.ljust(size - 9, b"x") + b"\r\n--x--\r\n"
        headers = {"Authorization": f"Bearer {ACME_KEY}", "Content-Type": "multipart/form-data; boundary=x"}
        assert len(body) == size
        return caller.post("/1/find/search", data=body, headers=headers).status_code

    assert search(MAX_BODY_BYTES) == 200
    assert search(MAX_BODY_BYTES + 1) == 413
    assert caller.search(text="x" * MAX_BODY_BYTES).status_code == 413
    assert caller.search().status_code == 200


@pytest.mark.parametrize("image", [b"", b"GIF", b"<svg/>", b"%PDF-1.7"])
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
    (result,) = caller.search(
        projection=[f"results.{name}" for name in RESULT_FIELDS], resultOptions={"limit": 1}
    ).json()["results"]
    assert tuple(result) == RESULT_FIELDS
    assert result["nameLanguage"] == "en"
    assert result["mountingLocationsCount"] >= 1
    created, modified = (
        datetime.strptime(result[name], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        for name in ("createdAt", "modifiedAt")
    )
    assert created <= modified
    assert str(uuid.UUID(result["partiumId"])) == result["partiumId"]
    assert {"label": "Manufacturer", "value": "Nordhaven"} in result["attributes"]
    assert result["previewData"] == {"kind": "fan"}
    highlights = result["highlights"]
    assert set(highlights) == {"snippet", "indices"}
    marked = [result["name"][one["from"] : one["to"]].lower() for one in highlights["indices"]["name"]]
    assert "fan" in marked


def test_without_a_projection_id_and_name_come(caller: Caller) -> None:
    assert set(caller.search().json()["results"][0]) == {"id", "name"}


def test_a_result_has_images_in_several_sizes_that_anybody_can_load(caller: Caller) -> None:
    (result,) = caller.search(projection=["results.images"], resultOptions={"limit": 1}).json()["results"]
    assert [one["width"] for one in result["images"]] == [160, 640]
    for one in result["images"]:
        picture = caller.session.get(one["url"], timeout=10)
        assert picture.headers["Content-Type"] == one["mimeType"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture.content[16:24]) == (one["width"], one["height"])


@pytest.mark.parametrize("path", ["160/AF9999.png", "161/AF1001.png", "160/AF1001.svg", "AF1001.png"])
def test_there_is_no_picture_of_what_does_not_exist(caller: Caller, path: str) -> None:
    assert caller.get("/media/parts/160/AF1001.png").status_code == 200
    assert caller.get(f"/media/parts/{path}").status_code == 404


def test_pages_of_a_search_follow_each_other_without_gap_or_overlap(sandbox: PartiumSandbox, caller: Caller) -> None:
    first = caller.search(resultOptions={"limit": 4}).json()
    path = f"/1/find/search/{first['sessionId']}"
    whole = caller.get(f"{path}?skip=0&limit=12", ACME_KEY).json()
    assert whole["sessionId"] == first["sessionId"]
    assert whole["results"][:4] == first["results"]
    pages = [caller.get(f"{path}?skip={offset}&limit=4", ACME_KEY).json() for offset in (0, 4, 8)]
    assert [one for page in pages for one in page["results"]] == whole["results"]
    sandbox.settings(send_total=True)
    total = caller.get(path, ACME_KEY).json()["resultsTotalCount"]
    assert len(caller.get(f"{path}?skip={total - 1}", ACME_KEY).json()["results"]) == 1
    assert caller.get(f"{path}?skip={total}", ACME_KEY).json()["results"] == []


def test_a_page_has_the_projection_and_language_of_its_search(caller: Caller) -> None:
    fields = ["results.name", "results.nameLanguage"]
    answer = caller.search(text="Lüfter", language="de", projection=fields).json()
    page = caller.get(f"/1/find/search/{answer['sessionId']}?skip=3", ACME_KEY).json()
    assert all(set(one) == {"name", "nameLanguage"} and one["nameLanguage"] == "de" for one in page["results"])


@pytest.mark.parametrize("query", ["skip=-1", "skip=x", "skip=²", "limit=0", "limit=101", "limit="])
def test_an_unacceptable_page_is_422(caller: Caller, query: str) -> None:
    session_id = caller.search().json()["sessionId"]
    expected = 200 if query == "limit=" else 422  # an empty value is as good as none
    assert caller.get(f"/1/find/search/{session_id}?{query}", ACME_KEY).status_code == expected


def test_a_search_is_open_to_its_organization_only(caller: Caller) -> None:
    session_id = caller.search().json()["sessionId"]
    assert caller.get(f"/1/find/search/{session_id}", GLOBEX_KEY).status_code == 403
    assert caller.get(f"/1/find/search/{session_id}", caller.exchange().json()["access_token"]).status_code == 200


def test_an_unknown_search_has_no_pages(caller: Caller) -> None:
    assert caller.get("/1/find/search/unknown", ACME_KEY).status_code == 404


def test_the_photo_of_a_part_finds_the_part_and_others_of_its_kind(caller: Caller) -> None:
    photo = caller.get("/media/parts/640/WW1911.png").content
    assert photo == part_png("WW1911")
    assert [one["id"] for one in _image_search(caller, photo).json()["results"]] == ["WW1911", "SG1901", "SG1902"]


def test_a_jpeg_names_its_part_in_a_comment(caller: Caller) -> None:
    comment = b"PartNumber=AF1006"
    photo = b"\xff\xd8\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + b"\xff\xda"
    assert _image_search(caller, photo).json()["results"][0]["id"] == "AF1006"


def test_words_beside_a_photo_bring_forward_what_fits(caller: Caller) -> None:
    photo = part_png("CF1021")
    assert photo is not None
    found = _image_search(caller, photo, matches={"text": "axial 230"}).json()["results"]
    assert [one["id"] for one in found][:5] == ["CF1021", "AF1008", "AF1011", "AF1012", "AF1001"]


def test_a_photo_is_found_in_the_machines_of_the_organization_asked_only(caller: Caller) -> None:
    photo = part_png("GM1611")  # of an elevator of acme
    assert photo is not None
    assert _image_search(caller, photo).json()["results"][0]["id"] == "GM1611"
    results = _image_search(caller, photo, GLOBEX_KEY, "globex").json()["results"]
    assert [one["id"] for one in results] == ["EM1601", "EM1602"]


def test_pages_of_an_image_search_name_the_image(caller: Caller) -> None:
    answer = _image_search(caller, _JPEG, resultOptions={"limit": 1}).json()
    page = caller.get(f"/1/find/search/{answer['sessionId']}?skip=1", ACME_KEY).json()
    assert page["imageId"] == answer["imageId"]
    assert page["results"]
    assert not {one["id"] for one in page["results"]} & {one["id"] for one in answer["results"]}


@pytest.mark.parametrize(
    "files",
    [
        {"input": (None, "{}", "application/json")},
        {"image": ("photo", _JPEG)},
        {"input": (None, "{}", "application/json"), "image": ("photo", _JPEG), "more": (None, "x")},
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
    photo = part_png("AF1006")
    assert photo is not None
    tricky = b"\x89PNG\r\n\x1a\n\r\n\r\n--x\r\n\n\r--\r\n\0\xff" + photo
    assert _image_search(caller, tricky).json()["results"][0]["id"] == "AF1006"


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
