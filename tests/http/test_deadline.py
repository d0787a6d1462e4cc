"""The total deadline holds whatever the socket does.

Each of these servers goes on long after the deadline, and none stays silent for as long as a single read may take. That
the call ended at its deadline, and not when the server was done, shows in the server: it could not finish.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from partium_auth.exceptions import TimedOut
from partium_auth.http.transport import Transport
from tests.http.upstream import Peer, Upstream, always, answer

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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upstream_that_does_not_read_is_cut_off(
    upstream: Start, transport: Transport, tls: ssl.SSLContext, scheme: str
) -> None:
    release = threading.Event()
    server = upstream(lambda peer: release.wait(20), tls=tls if scheme == "https" else None)
    try:
        with pytest.raises(TimedOut) as caught:
            transport.send("POST", server.url, data=b"x" * 50_000_000, total_seconds=1.5)
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
        transport.send("GET", server.url.replace("http:", "https:"), total_seconds=1.5)
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
        transport.send("GET", "https://api.example.test/", total_seconds=1.5)
    assert not caught.value.sent
    assert was_cut_off(proxy)


def test_a_kept_connection_is_cut_off_too(upstream: Start, transport: Transport) -> None:
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


def test_nothing_is_sent_where_the_look_up_of_a_name_took_longer_than_the_call_may(
    upstream: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = upstream(always(answer()))
    look_up, never = socket.getaddrinfo, threading.Event()

    def slow(*args: Any, **options: Any) -> list[Any]:
        never.wait(0.3)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(TimedOut) as caught:
        transport.send("GET", server.url, total_seconds=0.2)
    assert not caught.value.sent
    assert server.connections == 0


def test_an_address_that_does_not_answer_is_given_up_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up, asked = socket.getaddrinfo, []

    def counting(host: str, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    # A listener whose queue is full drops further connection attempts.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fill = [socket.socket() for _ in range(4)]
        try:
            for sock in fill:
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            with pytest.raises(TimedOut) as caught:
                Transport(connect_seconds=0.2).send("GET", f"http://localhost:{listener.getsockname()[1]}/")
            assert not caught.value.sent
            assert asked.count("localhost") == 1
        finally:
            for sock in fill:
                sock.close()


def test_many_dead_addresses_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fill = [socket.socket() for _ in range(4)]
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())
        look_up = socket.getaddrinfo

        def many(host: str, *args: Any, **options: Any) -> list[Any]:
            return [address] * 1000 if host == "api.example.test" else look_up(host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", many)
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


def test_a_call_after_one_that_timed_out_is_not_affected(upstream: Start, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        if request.target == "/slow":
            peer.hang()
        peer.answer(body=b"fast")

    server = upstream(script)
    with pytest.raises(TimedOut):
        transport.send("GET", server.url + "/slow", total_seconds=0.2)
    assert transport.send("GET", server.url + "/fast").body == b"fast"
