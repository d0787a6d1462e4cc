"""The Authentication API, against a server."""

from __future__ import annotations

import base64

import pytest

from partium_auth.exceptions import (
    ConnectionFailed,
    CredentialsRejected,
    NotPermitted,
    RateLimited,
    ServiceUnavailable,
    UnexpectedResponse,
    UpstreamError,
)
from partium_auth.partium.token_response import TokenResponse
from tests.http.upstream import Peer, wait_for
from tests.partium.conftest import API

TOKENS = {"access_token": "at", "refresh_token": "rt", "expires_in": 600, "token_type": "Bearer"}


def test_a_user_name_and_password_go_out_as_basic_in_utf_8(api: API) -> None:
    api.replies(200, {}, TOKENS)
    assert api.auth().exchange_password("jürgen", "pä:ß€") == TokenResponse("at", "rt", 600)
    assert (api.last.method, api.last.target, api.last.body) == ("POST", "/1/auth", b"")
    assert api.last.headers["content-length"] == "0"
    scheme, _, value = api.last.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(value).decode()) == ("Basic", "jürgen:pä:ß€")


def test_a_user_name_with_a_colon_is_refused_before_anything_is_sent(api: API) -> None:
    with pytest.raises(ValueError, match=r"colon in it \(RFC 7617 §2\)"):
        api.auth().exchange_password("a:b", "secret")
    assert api.server.connections == 0


def test_an_api_key_goes_out_as_bearer(api: API) -> None:
    api.replies(200, {}, TOKENS)
    assert api.auth().exchange_api_key("key-1").access_token == "at"
    assert (api.last.method, api.last.target) == ("POST", "/1/auth")
    assert api.last.headers["authorization"] == "Bearer key-1"


def test_an_api_key_that_no_header_holds_is_refused_and_not_quoted(api: API) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        api.auth().exchange_api_key("s3cret\n")
    assert "s3cret" not in str(caught.value)
    assert api.server.connections == 0


def test_a_refresh_token_goes_out_as_json(api: API) -> None:
    api.replies(200, {}, TOKENS)
    assert api.auth().refresh("rt-1").refresh_token == "rt"
    assert (api.last.method, api.last.target) == ("POST", "/auth/refresh")
    assert api.last.headers["content-type"] == "application/json"
    assert api.last.json == {"refresh_token": "rt-1"}
    assert "authorization" not in api.last.headers


def test_the_paths_are_settings(api: API) -> None:
    api.replies(200, {}, TOKENS)
    auth = api.auth(base_url=api.server.url + "/prefix/", auth_path="auth/", refresh_path="/1/auth/refresh")
    auth.exchange_api_key("k")
    auth.refresh("r")
    assert [request.target for request in api.requests] == ["/prefix/auth/", "/prefix/1/auth/refresh"]


def test_each_exchange_has_a_connection_of_its_own(api: API) -> None:
    api.replies(200, {}, TOKENS)
    auth = api.auth()
    auth.exchange_api_key("k")
    auth.exchange_password("u", "p")
    auth.refresh("r")
    assert [request.connection for request in api.requests] == [1, 2, 3]


@pytest.mark.parametrize("call", ["exchange_api_key", "refresh", "exchange_password"])
def test_each_exchange_can_be_aborted_before_the_first_byte(api: API, call: str) -> None:
    class Aborted(Exception):
        pass

    def before_send() -> None:
        raise Aborted

    arguments = ("u", "p") if call == "exchange_password" else ("credential",)
    with pytest.raises(Aborted):
        getattr(api.auth(), call)(*arguments, before_send=before_send)
    wait_for(lambda: api.server.connections == 1)
    assert not api.requests


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, CredentialsRejected),
        (403, NotPermitted),
        (429, RateLimited),
        (503, ServiceUnavailable),
        (500, UpstreamError),
        (307, UpstreamError),
        (404, UpstreamError),
    ],
)
def test_a_refusal_is_not_tried_again_anywhere(api: API, status: int, kind: type[UpstreamError]) -> None:
    api.replies(status, {"Retry-After": "9", "Location": "/auth"}, {"message": "s3cret"})
    with pytest.raises(kind) as caught:
        api.auth().refresh("s3cret-rt")
    assert (caught.value.status, caught.value.retry_after, caught.value.sent) == (status, 9, True)
    assert "s3cret" not in str(caught.value)
    assert f"Partium token refresh: {api.server.url}/auth/refresh answered {status}" in str(caught.value)
    assert len(api.requests) == 1


def test_html_is_an_error_that_names_the_endpoint(api: API) -> None:
    api.replies(200, {"Content-Type": "text/html"}, b"<html>s3cret</html>")
    with pytest.raises(UnexpectedResponse, match=f"{api.server.url}/1/auth answered 200") as caught:
        api.auth().exchange_api_key("k")
    assert "s3cret" not in str(caught.value)


def test_a_lost_answer_is_not_asked_for_again(api: API) -> None:
    def script(peer: Peer) -> None:
        peer.request()

    api.server.script = script
    with pytest.raises(ConnectionFailed) as caught:
        api.auth().refresh("rt")
    assert caught.value.sent
    assert len(api.requests) == 1
