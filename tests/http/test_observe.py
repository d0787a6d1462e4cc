"""``observe`` is told of each call once, when it has ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from partium_auth.exceptions import ConnectionFailed
from partium_auth.http.transport import Call, InsecureURL, Transport
from tests.http.test_connections import refusing_port
from tests.http.upstream import Upstream, always, answer

Start = Callable[..., Upstream]


def test_a_response_is_told_without_query_and_credentials(upstream: Start, transport: Transport) -> None:
    calls: list[Call] = []
    server = upstream(always(answer()))
    transport.send("post", f"{server.url}/path?secret=1", params={"secret": "2"}, bearer="secret", observe=calls.append)
    (call,) = calls
    assert call[:4] == ("POST", f"{server.url}/path", 200, "")
    assert 0 < call.seconds < 60


def test_a_call_that_reaches_nobody_is_told_with_its_error(transport: Transport) -> None:
    calls: list[Call] = []
    with refusing_port() as port, pytest.raises(ConnectionFailed):
        transport.send("GET", f"http://127.0.0.1:{port}/", observe=calls.append)
    assert [(call.status, call.error) for call in calls] == [(None, "ConnectionFailed")]


def test_what_was_never_called_is_not_told(upstream: Start, transport: Transport) -> None:
    calls: list[Call] = []
    server = upstream(always(answer()))

    def abort() -> None:
        raise RuntimeError("the lease is lost")

    with pytest.raises(RuntimeError):
        transport.send("GET", server.url, before_send=abort, observe=calls.append)
    with pytest.raises(InsecureURL):
        transport.send("GET", "http://api.example.test/", observe=calls.append)
    assert calls == []
