"""What goes over the wire, where to, and what comes back."""

from __future__ import annotations

import base64
import gzip
import logging
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partium_auth.exceptions import ConnectionFailed, UnexpectedResponse, UpstreamError
from partium_auth.http.transport import InsecureURL, Response, Transport
from partium_auth.version import __version__
from tests.http.upstream import Peer, Upstream, always, answer

Start = Callable[..., Upstream]
SECRET = "s3cret-Value"


# --- requests


def test_a_request_says_who_asks_and_what_it_takes(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    transport.send("get", server.url + "/path", params={"a": "b c"}, headers={"X-One": "1"})
    request = server.requests[0]
    assert (request.method, request.target) == ("GET", "/path?a=b+c")
    assert request.headers["user-agent"] == f"partium_auth/{__version__}"
    assert request.headers["accept-encoding"] == "gzip"
    assert request.headers["x-one"] == "1"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("arguments", "content_type", "body"),
    [
        ({"json": {"a": 1}}, "application/json", b'{"a": 1}'),
        ({"data": {"a": "b&c"}}, "application/x-www-form-urlencoded", b"a=b%26c"),
        ({"data": b"raw"}, None, b"raw"),
        ({"data": "text: ü"}, None, "text: ü".encode()),
        ({}, None, b""),
    ],
)
def test_a_body_has_a_length(
    upstream: Start, transport: Transport, arguments: dict[str, Any], content_type: str | None, body: bytes
) -> None:
    server = upstream(always(answer()))
    transport.send("POST", server.url, **arguments)
    request = server.requests[0]
    assert request.body == body
    assert request.headers["content-length"] == str(len(body))
    assert request.headers.get("content-type") == content_type


def test_files_become_multipart(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    transport.send("POST", server.url, files={"image": ("a.png", b"png", "image/png")})
    assert server.requests[0].headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="image"; filename="a.png"' in server.requests[0].body


def test_basic_authentication_is_utf_8(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    transport.send("POST", server.url, basic=("jürgen@例", "pässwörd:€"))
    scheme, _, value = server.requests[0].headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value).decode("utf-8") == "jürgen@例:pässwörd:€"


def test_a_bearer_is_sent_as_such(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    transport.send("POST", server.url, bearer="abc.def")
    assert server.requests[0].headers["authorization"] == "Bearer abc.def"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"basic": (f"a:{SECRET}", "p")}, "colon"),
        ({"basic": (f"a\n{SECRET}", "p")}, "control characters"),
        ({"basic": ("a", f"p\0{SECRET}")}, "control characters"),
        ({"basic": ("a", SECRET), "bearer": SECRET}, "not both"),
        ({"bearer": f"{SECRET}\n"}, "printable ASCII"),
        ({"bearer": f"a {SECRET}"}, "printable ASCII"),
        ({"bearer": f"ü{SECRET}"}, "printable ASCII"),
        ({"bearer": ""}, "printable ASCII"),
        ({"headers": {"X-Key": f"{SECRET}\r\nX-Other: 1"}}, "'X-Key' has characters"),
        ({"headers": {"X-Key": f"€{SECRET}"}}, "'X-Key' has characters"),
        ({"headers": {"X-Key": f" {SECRET}"}}, "'X-Key' has characters"),
        ({"headers": {"X Key": SECRET}}, "'X Key' has characters"),
        ({"json": {"a": float("nan"), "b": SECRET}}, "no form for"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_being_quoted(
    upstream: Start, transport: Transport, arguments: dict[str, Any], text: str
) -> None:
    server = upstream(always(answer()))
    with pytest.raises(ValueError, match=text) as caught:
        transport.send("POST", server.url, **arguments)
    assert SECRET not in str(caught.value)
    assert server.connections == 0


# --- where to


@pytest.mark.parametrize(
    "url",
    [
        "http://api.partium.io/1/auth",
        "http://10.0.0.1/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://2130706433/",
        "http://[::2]/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "//localhost/",
        "/1/auth",
        "localhost",
        "https://",
        "https:///path",
        "https://host:port/",
        "https://*.example.test/",
        "http://[::1/",
        "",
        "https://name:password@api.partium.io/",
        "https://api.partium.io@evil.example/",
        "http://localhost\\@evil.example/",
    ],
)
def test_an_insecure_url_is_refused_before_anything_is_sent(transport: Transport, url: str) -> None:
    with pytest.raises(InsecureURL) as caught:
        transport.send("POST", url, bearer=SECRET)
    assert not caught.value.sent
    assert caught.value.status is None
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_plain_http_to_loopback_is_fine(upstream: Start, transport: Transport, host: str) -> None:
    server = upstream(always(answer(body=b"ok")), host="0.0.0.0")
    assert transport.send("GET", f"http://{host}:{server.port}/").body == b"ok"


def test_plain_http_to_loopback_is_fine_over_ip_version_6(upstream: Start, transport: Transport) -> None:
    import socket

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    server = upstream(always(answer(body=b"ok")), listener=listener)
    assert transport.send("GET", f"http://[::1]:{server.port}/").body == b"ok"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(upstream: Start, transport: Transport, status: int) -> None:
    server = upstream(always(answer(status, {"Location": "/elsewhere"}, b"moved")))
    response = transport.send("POST", server.url, json={"a": SECRET})
    assert (response.status, response.body) == (status, b"moved")
    assert [request.target for request in server.requests] == ["/"]


def test_the_body_of_a_redirect_is_limited_too(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(302, {"Location": "/"}, b"x" * 2000)))
    with pytest.raises(UnexpectedResponse):
        transport.send("GET", server.url, max_bytes=1000)


def test_cookies_are_not_kept(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(headers={"Set-Cookie": "session=1; Path=/"})))
    transport.send("GET", server.url)
    transport.send("GET", server.url)
    assert server.connections == 1
    assert all("cookie" not in request.headers for request in server.requests)


def test_netrc_is_not_read(
    upstream: Start, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = upstream(always(answer(302, {"Location": "/elsewhere"})))
    transport.send("GET", server.url)
    transport.send("GET", server.url, bearer="abc")
    assert [request.headers.get("authorization") for request in server.requests] == [None, "Bearer abc"]


# --- TLS and proxies


def test_a_certificate_that_nobody_signed_is_refused(
    upstream: Start, transport: Transport, tls_files: tuple[ssl.SSLContext, Path]
) -> None:
    server = upstream(always(answer()), tls=tls_files[0])
    with pytest.raises(ConnectionFailed, match="certificate that is not trusted") as caught:
        transport.send("POST", server.url)
    assert not caught.value.sent
    assert not server.requests


def test_the_bundle_of_the_environment_is_trusted(upstream: Start, transport: Transport, tls: ssl.SSLContext) -> None:
    server = upstream(always(answer(body=b"ok")), tls=tls)
    assert [transport.send("GET", server.url).body for _ in range(2)] == [b"ok", b"ok"]
    assert server.connections == 1


def test_a_certificate_for_another_name_is_refused(upstream: Start, transport: Transport, tls: ssl.SSLContext) -> None:
    server = upstream(always(answer()), tls=tls)
    with pytest.raises(ConnectionFailed, match=r"not valid for '127\.0\.0\.1'") as caught:
        transport.send("POST", f"https://127.0.0.1:{server.port}/")
    assert not caught.value.sent


def test_a_server_that_does_not_speak_tls_is_an_error(
    upstream: Start, transport: Transport, tls: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = upstream(script)
    with pytest.raises(ConnectionFailed, match="TLS") as caught:
        transport.send("POST", f"https://localhost:{server.port}/")
    assert not caught.value.sent


@pytest.mark.parametrize("bundle", ["missing.pem", "empty.pem"])
def test_a_bundle_that_cannot_be_read_says_so(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / bundle))
    with pytest.raises(ConnectionFailed, match="REQUESTS_CA_BUNDLE") as caught:
        transport.send("GET", "https://localhost:1/")
    assert not caught.value.sent


def test_a_folder_of_certificates_is_trusted(
    upstream: Start,
    transport: Transport,
    tls_files: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An empty folder trusts nobody: what counts here is that it is taken for a folder, and that it replaces certifi's.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[1].parent))
    with pytest.raises(ConnectionFailed, match="certificate that is not trusted"):
        transport.send("GET", upstream(always(answer()), tls=tls_files[0]).url)


def test_https_goes_through_the_proxy_of_the_environment(
    upstream: Start, transport: Transport, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(peer: Peer) -> None:
        assert peer.request().target == "api.example.test:443"
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        try:
            always(answer(body=b"through"))(peer)
        finally:
            peer.sock.close()

    proxy = upstream(script)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:secret@"))
    for _ in range(2):
        response = transport.send("POST", "https://api.example.test/1/auth", bearer="abc")
        assert response.body == b"through"
    connect, first, second = proxy.requests
    assert connect.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert "authorization" not in connect.headers
    assert "proxy-authorization" not in first.headers
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer abc"


@pytest.mark.parametrize("reply", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"garbage\r\n"])
def test_a_proxy_that_refuses_is_an_error_and_nothing_was_sent(
    upstream: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply)

    monkeypatch.setenv("HTTPS_PROXY", upstream(script).url)
    with pytest.raises(UpstreamError) as caught:
        transport.send("POST", "https://api.example.test/1/auth", bearer="abc")
    assert not caught.value.sent


def test_loopback_never_goes_through_a_proxy(
    upstream: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = upstream(always(answer(body=b"proxy"))), upstream(always(answer(body=b"direct")))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    assert transport.send("GET", server.url).body == b"direct"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "https://proxy.example.test:3128"])
def test_another_kind_of_proxy_is_refused(transport: Transport, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConnectionFailed, match="SOCKS and https:// proxies are not supported") as caught:
        transport.send("GET", "https://api.example.test/")
    assert not caught.value.sent


@pytest.mark.parametrize("proxy", ["127.0.0.1:{port}", "http://127.0.0.1:{port}", "http://:@127.0.0.1:x/", "http://["])
def test_a_proxy_that_cannot_be_reached_is_named_as_the_cause(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=9))
    with pytest.raises(ConnectionFailed, match="through the proxy that the environment names") as caught:
        transport.send("GET", "https://api.example.test/")
    assert not caught.value.sent


# --- answers


def test_a_response_holds_what_came(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(201, {"Content-Type": "Application/JSON; charset=utf-8", "X-A": "b"}, b'{"a": 1}')))
    response = transport.send("GET", server.url + "/p?q=1")
    assert (response.status, response.json(), response.content_type) == (201, {"a": 1}, "application/json")
    assert response.headers["x-a"] == "b"
    assert response.url == server.url + "/p"


def test_the_repr_of_a_response_shows_no_secret() -> None:
    response = Response(200, {"Set-Cookie": SECRET}, SECRET.encode(), "https://api.example.test/")
    assert repr(response) == "Response(status=200, url='https://api.example.test/')"


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"", "application/json", "an empty body"),
        (b" \n", "application/json", "an empty body"),
        (b"<html>s3cret-Value</html>", "text/html", r"something else \(text/html\)"),
        (b"<html>", "te xt<b>/html", "something else where"),
        (b"", "", "an empty body"),
        (b'{"a": NaN}', "application/json", "something else"),
        (b'{"a": Infinity}', "application/json", "something else"),
        (b"\xff\xfe\xfd", "application/json", "something else"),
        (b"[" * 100_000, "application/json", "something else"),
        (b"1" * 5000, "application/json", "something else"),
        (b'{"a": 1', "application/json", "something else"),
    ],
)
def test_a_body_that_is_not_json_is_named_and_not_shown(body: bytes, content_type: str, problem: str) -> None:
    response = Response(200, {"Content-Type": content_type}, body, "https://api.example.test/1/auth")
    with pytest.raises(UnexpectedResponse, match=problem) as caught:
        response.json()
    assert str(caught.value).startswith("https://api.example.test/1/auth answered 200 with ")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("identity", bytes),
    ],
)
def test_a_compressed_body_is_decompressed(
    upstream: Start, transport: Transport, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(b"x" * 100_000)
    server = upstream(always(answer(headers={"Content-Encoding": encoding}, body=body)))
    assert transport.send("GET", server.url).body == b"x" * 100_000


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "deflate"])
def test_an_encoding_that_was_not_asked_for_is_an_error(upstream: Start, transport: Transport, encoding: str) -> None:
    body = gzip.compress(gzip.compress(b"x"))
    server = upstream(always(answer(headers={"Content-Encoding": encoding}, body=body)))
    with pytest.raises(UnexpectedResponse, match="encoding that was not asked for"):
        transport.send("GET", server.url)


def test_a_body_that_cannot_be_decompressed_is_an_error(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(headers={"Content-Encoding": "gzip"}, body=b"not gzip")))
    with pytest.raises(UnexpectedResponse, match="cannot be decompressed"):
        transport.send("GET", server.url)


def test_a_compressed_body_that_ends_too_early_is_an_error(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"x" * 1000)[:-9])))
    with pytest.raises(UnexpectedResponse, match="cannot be decompressed"):
        transport.send("GET", server.url)


def test_a_decompression_bomb_is_an_error(upstream: Start, transport: Transport) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 100_000
    server = upstream(always(answer(headers={"Content-Encoding": "gzip"}, body=bomb)))
    with pytest.raises(UnexpectedResponse, match="more than 1048576 bytes") as caught:
        transport.send("GET", server.url)
    assert caught.value.status == 200


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(body=b"x" * 1000)))
    assert len(transport.send("GET", server.url, max_bytes=1000).body) == 1000
    with pytest.raises(UnexpectedResponse, match="more than 999 bytes"):
        transport.send("GET", server.url, max_bytes=999)


def test_a_body_without_end_is_an_error(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    server = upstream(script)
    with pytest.raises(UnexpectedResponse, match="more than 1048576 bytes"):
        transport.send("GET", server.url)
    assert server.gone.wait(20)


def test_head_has_no_body_whatever_its_length(upstream: Start, transport: Transport) -> None:
    server = upstream(always(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"))
    assert transport.send("HEAD", server.url).body == b""
    assert transport.send("HEAD", server.url).headers["content-length"] == "99999999"
    assert server.connections == 1


# --- what may be seen


def test_messages_tracebacks_and_logs_hold_neither_query_nor_credentials(
    upstream: Start, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    server = upstream(script)
    with pytest.raises(ConnectionFailed) as caught:
        transport.send(
            "POST",
            server.url + "/p",
            params={"q": "private"},
            bearer=SECRET,
            json={"refresh_token": SECRET},
            headers={"X-Key": SECRET},
        )
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert "private" not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert SECRET not in caplog.text


@pytest.mark.parametrize("failure", ["cut off", "too large", "aborted", "late", "no connection"])
def test_an_error_report_shows_no_credential_in_the_variables_of_any_frame(
    upstream: Start, transport: Transport, failure: str
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if failure == "late":
            peer.hang()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * (2000 if failure == "too large" else 9))

    def before_send() -> None:
        if failure == "aborted":
            raise LookupError

    server = upstream(script)
    if failure == "no connection":
        server.refuse()
    with pytest.raises((UpstreamError, LookupError)) as caught:
        transport.send(
            "POST",
            server.url,
            params={"q": SECRET},
            bearer=SECRET,
            json={"refresh_token": SECRET},
            headers={"X-Key": SECRET},
            total_seconds=1,
            max_bytes=1000,
            before_send=before_send,
        )
    report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "transport.py" in report
    assert SECRET not in report
