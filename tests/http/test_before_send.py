"""``before_send`` runs between connecting and the first byte, and can abort the request."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable

import pytest

from partium_auth.exceptions import ConnectionFailed, TimedOut
from partium_auth.http.transport import Transport
from tests.http.test_connections import refusing_port
from tests.http.upstream import Gone, Peer, Upstream, always, answer, wait_for

Start = Callable[..., Upstream]


class Aborted(Exception):
    """What a caller raises."""


@pytest.mark.parametrize("credential", [True, False])
def test_it_runs_after_connecting_and_before_the_first_byte(
    upstream: Start, transport: Transport, credential: bool
) -> None:
    release = threading.Event()
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        release.wait(20)
        peer.sock.setblocking(False)
        try:
            received.append(peer.sock.recv(1000))
        except BlockingIOError:
            received.append(b"")
        peer.sock.settimeout(20)
        looked.set()
        always(answer())(peer)

    looked = threading.Event()
    server = upstream(script)

    def before_send() -> None:
        wait_for(lambda: server.connections == 1)
        release.set()
        assert looked.wait(20)

    transport.send("POST", server.url, credential=credential, before_send=before_send)
    assert received == [b""]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "error",
    [Aborted("late"), BrokenPipeError("x"), ConnectionResetError(104, "x"), TimeoutError("x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_it_raises_comes_out_unchanged_and_nothing_is_sent(
    upstream: Start, transport: Transport, error: Exception
) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        try:
            received.append(peer.receive())
        except Gone:
            received.append(b"")

    def before_send() -> None:
        raise error

    server = upstream(script)
    with pytest.raises(type(error)) as caught:
        transport.send("POST", server.url, credential=True, before_send=before_send)
    assert caught.value is error
    assert caught.value.__cause__ is None
    wait_for(lambda: bool(received))
    assert received == [b""]
    assert server.connections == 1


def test_it_works_over_tls(upstream: Start, transport: Transport, tls: ssl.SSLContext) -> None:
    def before_send() -> None:
        raise Aborted

    server = upstream(always(answer()), tls=tls)
    with pytest.raises(Aborted):
        transport.send("POST", server.url, before_send=before_send)
    called: list[bool] = []
    transport.send("POST", server.url, before_send=lambda: called.append(True))
    assert called == [True]
    assert len(server.requests) == 1


def test_it_can_abort_on_a_kept_connection_too(upstream: Start, transport: Transport) -> None:
    def before_send() -> None:
        raise Aborted

    server = upstream(always(answer()))
    transport.send("POST", server.url)
    with pytest.raises(Aborted):
        transport.send("POST", server.url, before_send=before_send)
    transport.send("POST", server.url)
    assert len(server.requests) == 2


def test_it_does_not_run_where_there_is_no_connection(transport: Transport) -> None:
    called: list[bool] = []
    with refusing_port() as port, pytest.raises(ConnectionFailed):
        transport.send("POST", f"http://127.0.0.1:{port}/", before_send=lambda: called.append(True))
    assert not called


def test_it_may_use_the_transport_itself(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    transport.send("POST", server.url + "/outer", before_send=lambda: transport.send("GET", server.url + "/inner"))
    assert [request.target for request in server.requests] == ["/inner", "/outer"]


def test_nothing_is_sent_where_it_took_longer_than_the_call_may(upstream: Start, transport: Transport) -> None:
    server = upstream(always(answer()))
    never = threading.Event()
    with pytest.raises(TimedOut) as caught:
        transport.send("POST", server.url, total_seconds=0.1, before_send=lambda: never.wait(0.3))
    assert not caught.value.sent
    assert not server.requests
