"""Which connection a call gets, what is sent twice, and whether anything was sent."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from partium_auth.exceptions import ConnectionFailed, UnexpectedResponse, UpstreamError
from partium_auth.http.transport import Transport
from tests.http.upstream import Peer, Upstream, always, answer

Start = Callable[..., Upstream]


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can open meanwhile: it is bound and does not listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def once_then_close(peer: Peer) -> None:
    """Answers the first request of a connection; takes the next one and hangs up without a word."""
    peer.request()
    peer.answer(body=b"first")
    peer.request()


# --- keeping


def test_a_thread_keeps_its_connection(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(body=b"ok")))
    assert [transport.send("GET", server.url).body for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1


def test_threads_do_not_share_connections(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))

    def call() -> None:
        transport.send("GET", server.url)
        transport.close()

    transport.send("GET", server.url)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_credential_call_has_a_connection_of_its_own_and_closes_it(upstream: Start, transport: Transport) -> None:
    closed: list[int] = []

    def script(peer: Peer) -> None:
        try:
            always(answer())(peer)
        finally:
            closed.append(peer.number)

    server = upstream(script)
    transport.send("GET", server.url)
    transport.send("POST", server.url, credential=True)
    assert server.gone.wait(20)
    assert closed == [2]
    assert server.requests[1].headers["connection"] == "close"
    transport.send("GET", server.url)
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_a_connection_that_was_idle_for_long_is_not_used_again(upstream: Start) -> None:
    server = upstream(always(answer()))
    transport = Transport(idle_seconds=0)
    transport.send("GET", server.url)
    transport.send("GET", server.url)
    transport.close()
    assert server.connections == 2


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer()

    server = upstream(script)
    transport.send("POST", server.url)
    assert server.gone.wait(20)
    transport.send("POST", server.url)
    assert [request.connection for request in server.requests] == [1, 2]


def test_the_connection_of_a_thread_that_has_ended_is_closed(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    thread = threading.Thread(target=transport.send, args=("GET", server.url))
    thread.start()
    thread.join()
    assert server.gone.wait(20)


def test_a_thread_keeps_one_connection(upstream: Start, transport: Transport) -> None:
    first, second = upstream(always(answer())), upstream(always(answer()))
    transport.send("GET", first.url)
    transport.send("GET", second.url)
    assert first.gone.wait(20)
    transport.send("GET", second.url)
    assert second.connections == 1


def test_a_response_that_comes_after_an_interim_one_is_never_taken_for_the_next_calls(
    upstream: Start, transport: Transport
) -> None:
    """http.client takes 103 (Early Hints) for the whole response."""

    def script(peer: Peer) -> None:
        target = peer.request().target
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        peer.answer(body=target.encode())

    server = upstream(script)
    assert transport.send("GET", server.url + "/first").status == 103
    assert transport.send("GET", server.url + "/second").status == 103
    assert server.connections == 2


def test_an_error_answer_does_not_cost_the_connection(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(500, body=b"oops")))
    assert [transport.send("GET", server.url).status for _ in range(2)] == [500, 500]
    assert server.connections == 1


def test_an_answer_that_was_too_large_costs_the_connection(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer(body=b"x" * 1_000_000)))
    for _ in range(2):
        with pytest.raises(UnexpectedResponse):
            transport.send("GET", server.url, max_bytes=10)
    assert server.connections == 2


@pytest.mark.processes
@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["Python", "uWSGI"])
def test_a_forked_child_makes_connections_of_its_own(upstream: Start, fork: str) -> None:
    """uWSGI forks without Python's hooks for it."""

    def script(peer: Peer) -> None:
        while True:
            if peer.request().target == "/slow":
                peer.hang()
            peer.answer()

    server = upstream(script)
    program = f"""
import ctypes, os, sys
from partium_auth.exceptions import TimedOut
from partium_auth.http.transport import Transport
transport = Transport(read_seconds=30)
transport.send("GET", "{server.url}/parent")
child = {fork}
if not child:
    transport.send("GET", "{server.url}/child")
    try:
        transport.send("GET", "{server.url}/slow", total_seconds=0.2)
    except TimedOut:
        os._exit(7)
    os._exit(1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
transport.send("GET", "{server.url}/parent")
sys.exit(status)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60, check=False).returncode == 7
    by_target = {request.target: request.connection for request in server.requests}
    assert by_target["/parent"] == 1, "and the child did not close it"
    assert by_target["/child"] == by_target["/slow"] == 2


# --- what is sent twice


def test_a_request_on_a_kept_connection_that_was_closed_is_not_repeated(upstream: Start, transport: Transport) -> None:
    server = upstream(once_then_close)
    transport.send("POST", server.url)
    with pytest.raises(ConnectionFailed) as caught:
        transport.send("POST", server.url)
    assert caught.value.sent
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [None, b"bytes"])
def test_an_idempotent_one_is_repeated_once_on_a_new_connection(
    upstream: Start, transport: Transport, body: bytes | None
) -> None:
    server = upstream(once_then_close)
    transport.send("POST", server.url)
    assert transport.send("POST", server.url, data=body, idempotent=True).body == b"first"
    assert [(request.connection, request.body) for request in server.requests[1:]] == [
        (1, body or b""),
        (2, body or b""),
    ]


def test_an_idempotent_one_is_not_repeated_on_a_new_connection(upstream: Start, transport: Transport) -> None:
    server = upstream(lambda peer: peer.request() and None)
    with pytest.raises(ConnectionFailed) as caught:
        transport.send("GET", server.url, idempotent=True)
    assert caught.value.sent
    assert len(server.requests) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_an_idempotent_one_is_not_repeated_after_half_an_answer(
    upstream: Start, transport: Transport, reset: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer()
        peer.request()
        # More than fits between the two, so that the client has read some of it.
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n" + b"x" * 32_000_000)
        if reset:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    server = upstream(script)
    transport.send("GET", server.url)
    with pytest.raises(ConnectionFailed):
        transport.send("GET", server.url, idempotent=True, max_bytes=64_000_000)
    assert len(server.requests) == 2


def test_a_second_failure_still_says_that_something_was_sent(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer()
        peer.request()
        server.refuse()

    server = upstream(script)
    transport.send("GET", server.url)
    with pytest.raises(UpstreamError) as caught:
        transport.send("GET", server.url, idempotent=True)
    assert caught.value.sent


def test_a_refused_connection_is_tried_once_more_and_nothing_was_sent(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, asked = socket.getaddrinfo, []

    def counting(host: str, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    with refusing_port() as port, pytest.raises(ConnectionFailed, match="refuses connections") as caught:
        transport.send("POST", f"http://localhost:{port}/auth")
    assert not caught.value.sent
    assert len([name for name in asked if name == "localhost"]) == 2


def test_an_unknown_host_is_tried_once_more_and_nothing_was_sent(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def unknown(*args: object, **options: object) -> list[object]:
        asked.append(args)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailed, match="cannot be resolved") as caught:
        transport.send("POST", "https://api.example.test/auth")
    assert not caught.value.sent
    assert len(asked) == 2


def test_a_request_gets_through_when_the_second_look_up_succeeds(
    upstream: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = upstream(always(answer(body=b"ok")))
    look_up, asked = socket.getaddrinfo, []

    def flaky(host: str, *args: Any, **options: Any) -> object:
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", flaky)
    assert transport.send("POST", f"http://localhost:{server.port}/").body == b"ok"
    assert len(server.requests) == 1


def test_a_name_that_is_none_is_not_sent_to(transport: Transport) -> None:
    with pytest.raises(UpstreamError) as caught:
        transport.send("GET", f"https://{'x' * 70}.example.test/")
    assert not caught.value.sent


def test_the_next_address_is_used_where_one_cannot_be(
    upstream: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = upstream(always(answer(body=b"ok")))
    look_up = socket.getaddrinfo

    def several(host: str, *args: Any, **options: Any) -> list[Any]:
        if host != "localhost":
            return look_up(host, *args, **options)
        addresses = [("256.0.0.1", server.port), ("127.0.0.1", port), ("127.0.0.1", server.port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    with refusing_port() as port:
        assert transport.send("GET", "http://localhost:1/").body == b"ok"


# --- failures after something was sent


def test_an_answer_is_read_where_the_upstream_does_not_read_the_whole_request(
    upstream: Start, transport: Transport
) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.answer(413, body=b"too large")

    server = upstream(script)
    body = b"x" * 50_000_000  # more than fits between the two
    assert transport.send("POST", server.url, data=body).status == 413


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (b"", ConnectionFailed, "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Ty", ConnectionFailed, "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", ConnectionFailed, "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", ConnectionFailed, "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", ConnectionFailed, "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ConnectionFailed, "in the middle"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", UnexpectedResponse, "not HTTP"),
        (b"\x00\x01\x02\x03" * 50, UnexpectedResponse, "not HTTP"),
        (b"HTTP/1.1 999999 What\r\n\r\n", UnexpectedResponse, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", UnexpectedResponse, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", UnexpectedResponse, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", UnexpectedResponse, "not HTTP"),
    ],
)
def test_a_broken_answer_is_an_error_and_not_repeated(
    upstream: Start, transport: Transport, reply: bytes, kind: type[UpstreamError], text: str
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply)

    server = upstream(script)
    with pytest.raises(kind, match=text) as caught:
        transport.send("POST", server.url + "/x?query=q")
    assert caught.value.sent
    assert caught.value.status is None
    assert str(caught.value).startswith(f"{server.url}/x ")
    assert len(server.requests) == 1


def test_a_connection_that_is_reset_is_an_error(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with pytest.raises(ConnectionFailed) as caught:
        transport.send("POST", upstream(script).url)
    assert caught.value.sent


def test_an_answer_that_ends_with_the_connection_is_fine(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    assert transport.send("GET", upstream(script).url).body == b"all of it"
