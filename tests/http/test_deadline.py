"""The total deadline holds whatever the socket does.

Each of these servers goes on long after the deadline, and none stays silent for as long as a single read may take. That
the call ended at its deadline, and not when the server was done, shows in the server: it could not finish.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import partium_auth.http.connections
from partium_auth.exceptions import TimedOut
from partium_auth.http.transport import Transport
from tests.http.upstream import Peer, Upstream, always, answer, wait_for

Start = Callable[..., Upstream]


def was_cut_off(server: Upstream) -> bool:
    return server.gone.wait(20) and server.cut_off == 1


def test_headers_that_drip_are_cut_off(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 300 + b"\r\nContent-Length: 0\r\n\r\n")

    server = upstream(script)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", server.url + "/slow", total_seconds=1.5)
    assert caught.value.sent
    assert str(caught.value) == f"{server.url}/slow did not answer in time (at most 1.5 s in all)."
    assert was_cut_off(server)


@pytest.mark.parametrize("length", ["Content-Length: 300", "Transfer-Encoding: chunked", "X-None: none"])
def test_a_body_that_drips_is_cut_off(upstream: Start, transport: Transport, length: str) -> None:
    body = b"1\r\nx\r\n" * 50 + b"0\r\n\r\n" if "chunked" in length else b"x" * 300

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n" + length.encode() + b"\r\n\r\n")
        peer.drip(body)

    server = upstream(script)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", server.url, total_seconds=1.5)
    assert caught.value.sent
    assert was_cut_off(server)


def test_interim_answers_without_end_are_cut_off(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        for _ in range(100):
            peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.005)

    server = upstream(script)
    with pytest.raises(TimedOut):
        transport.send("GET", server.url, total_seconds=1.5)
    assert was_cut_off(server)


def test_a_silent_upstream_is_cut_off_by_the_time_out_for_reading(upstream: Start) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.hang()

    with pytest.raises(TimedOut) as caught:
        Transport(read_seconds=0.2, total_seconds=60).send("GET", upstream(script).url)
    assert caught.value.sent


def test_an_upstream_that_does_not_read_is_cut_off(upstream: Start, transport: Transport) -> None:
    release = threading.Event()

    def chunks() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 65536

    server = upstream(lambda peer: release.wait(20))
    try:
        with pytest.raises(TimedOut) as caught:
            transport.send("POST", server.url, data=chunks(), total_seconds=1.5)
        assert caught.value.sent
    finally:
        release.set()


def test_a_tls_handshake_that_drips_is_cut_off(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        # A handshake record of 16 KiB, of which a byte comes now and then.
        peer.drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 300)

    server = upstream(script)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", server.url.replace("http:", "https:"), total_seconds=0.3)
    assert not caught.value.sent
    assert was_cut_off(server)


def test_a_body_that_drips_over_tls_is_cut_off(upstream: Start, transport: Transport, tls: ssl.SSLContext) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n")
        peer.drip(b"x" * 300)

    server = upstream(script, tls=tls)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", server.url, total_seconds=1.5)
    assert caught.value.sent
    assert was_cut_off(server)


def test_a_proxy_that_drips_is_cut_off(upstream: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(b"HTTP/1.1 200 Connection established\r\nX-Slow: " + b"x" * 300 + b"\r\n\r\n")

    proxy = upstream(script)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", "https://api.example.test/", total_seconds=0.3)
    assert not caught.value.sent
    assert was_cut_off(proxy)


def test_a_kept_connection_is_watched_too(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer()
        peer.request()
        peer.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 300 + b"\r\n\r\n")

    server = upstream(script)
    transport.send("GET", server.url)
    with pytest.raises(TimedOut):
        transport.send("GET", server.url, total_seconds=1.5)
    assert server.connections == 1
    assert was_cut_off(server)


def test_a_name_that_does_not_resolve_in_time_is_given_up(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def stuck(*args: object) -> list[object]:
        release.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    try:
        with pytest.raises(TimedOut) as caught:
            transport.send("GET", "https://api.example.test/", total_seconds=0.2)
        assert not caught.value.sent
    finally:
        release.set()


def test_an_address_that_does_not_answer_is_given_up_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up, asked = socket.getaddrinfo, []

    def counting(*args: Any) -> list[Any]:
        asked.append(args)
        return look_up(*args)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    # A listener whose queue is full drops further connection attempts.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fill = [socket.socket() for _ in range(4)]
        try:
            for sock in fill:
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            with pytest.raises(TimedOut) as caught:
                Transport(connect_seconds=0.2).send("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/")
            assert not caught.value.sent
            assert len(asked) == 1
        finally:
            for sock in fill:
                sock.close()


def test_many_dead_addresses_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fill = [socket.socket() for _ in range(4)]
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [address] * 1000)
        try:
            for sock in fill:
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            with pytest.raises(TimedOut) as caught:
                Transport(connect_seconds=0.1).send("GET", "https://api.example.test/", total_seconds=0.4)
            assert not caught.value.sent
        finally:
            for sock in fill:
                sock.close()


def test_a_deadline_that_passes_while_the_connection_is_made_is_kept(
    upstream: Start, transport: Transport, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = partium_auth.http.connections._connect

    def late(connection: Any, call: Any) -> socket.socket:
        sock = connect(connection, call)
        wait_for(lambda: call.expired)
        return sock

    monkeypatch.setattr(partium_auth.http.connections, "_connect", late)
    server = upstream(always(answer()), tls=tls)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", server.url, total_seconds=0.1)
    assert not caught.value.sent
    assert server.gone.wait(20)


def test_the_watchdog_outlives_a_connection_that_was_reset_before(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        else:
            peer.request()
            peer.hang()

    server = upstream(script)
    never = threading.Event()

    def before_send() -> None:
        assert server.gone.wait(20)
        never.wait(0.3)

    with pytest.raises(TimedOut):
        transport.send("GET", server.url, total_seconds=0.2, before_send=before_send)
    with pytest.raises(TimedOut):
        transport.send("GET", server.url, total_seconds=0.2)


def test_a_call_after_one_that_timed_out_is_not_affected(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        if request.target == "/slow":
            peer.hang()
        peer.answer(body=b"fast")

    server = upstream(script)
    with pytest.raises(TimedOut):
        transport.send("GET", server.url + "/slow", total_seconds=0.1)
    assert transport.send("GET", server.url + "/fast").body == b"fast"


def test_calls_with_different_deadlines_end_in_the_order_of_their_deadlines(upstream: Start) -> None:
    """The later deadline is registered first; the watchdog has to wake up earlier than it had planned."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.hang()

    server = upstream(script)
    ended: list[float] = []

    def call(total_seconds: float) -> None:
        transport = Transport(read_seconds=30)
        with pytest.raises(TimedOut):
            transport.send("GET", server.url, total_seconds=total_seconds)
        ended.append(total_seconds)

    threads = [threading.Thread(target=call, args=(seconds,)) for seconds in (1.2, 0.6, 0.1)]
    for count, thread in enumerate(threads):
        thread.start()
        while len(server.requests) <= count and thread.is_alive():
            thread.join(0.01)
    for thread in threads:
        thread.join(20)
    assert ended == [0.1, 0.6, 1.2]


def test_there_is_one_watchdog_thread_for_all_calls(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    for _ in range(5):
        transport.send("GET", server.url)
    assert [thread.name for thread in threading.enumerate()].count("partium_auth deadlines") == 1
