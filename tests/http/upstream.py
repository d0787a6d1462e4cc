"""A server on raw sockets that does to a client whatever a test wants.

A test hands over a *script*: a function that gets one :class:`Peer` per connection and speaks for the server. What it
received is in ``Upstream.requests``, across connections, in order.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

#: How long the server goes on with a script before it gives up; longer than any deadline in a test.
PATIENCE_SECONDS = 20.0


@dataclass
class Request:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gone(Exception):
    """The client closed the connection."""


@dataclass
class Peer:
    """The server's end of one connection."""

    sock: socket.socket
    number: int
    seen: list[Request]
    _buffer: bytes = field(default=b"", init=False)

    def receive(self) -> bytes:
        """Some more bytes; raises Gone at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise Gone
        return data

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._buffer += self.receive()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def _read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += self.receive()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def request(self) -> Request:
        """The next request, read in full."""
        first, *lines = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._read_until(b"\r\n"), 16):
                body += self._read_exactly(size)
                self._read_exactly(2)
            self._read_until(b"\r\n")
        else:
            body = self._read_exactly(int(headers.get("content-length", "0")))
        request = Request(method, target, headers, body, self.number)
        self.seen.append(request)
        return request

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            raise Gone from None

    def drip(self, data: bytes, pause_seconds: float = 0.05) -> None:
        """Byte by byte, slower than any deadline in a test, and faster than any time-out for a single read."""
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(pause_seconds)

    def hang(self) -> None:
        """Say nothing until the client goes."""
        self.sock.settimeout(PATIENCE_SECONDS)
        while True:
            self.receive()

    def answer(
        self, status: int = 200, headers: Mapping[str, str] | None = None, body: bytes | dict[str, Any] = b""
    ) -> None:
        self.send(answer(status, headers, body))


def answer(status: int = 200, headers: Mapping[str, str] | None = None, body: bytes | dict[str, Any] = b"") -> bytes:
    """A complete answer with ``Content-Length``; a dict becomes JSON."""
    all_headers = {"Content-Type": "text/plain"}
    if isinstance(body, dict):
        all_headers, body = {"Content-Type": "application/json"}, json.dumps(body).encode()
    all_headers |= {"Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + body


Script = Callable[[Peer], None]


class Upstream:
    """The server; see the module."""

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        listener: socket.socket | None = None,
    ) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        #: How many scripts could not be spoken to the end, since the client had gone.
        self.cut_off = 0
        self.gone = threading.Event()
        self.errors: list[BaseException] = []
        self._tls = tls
        self._listener = listener or socket.create_server((host, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else host}:{self.port}"
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._socks.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._socks.append(sock)
            self.script(Peer(sock, number, self.requests))
        except (Gone, ssl.SSLError, ConnectionError):
            self.cut_off += 1
        except TimeoutError:
            pass
        except BaseException as e:  # noqa: BLE001 - shown by the fixture
            self.errors.append(e)
        finally:
            sock.close()
            self.gone.set()

    def refuse(self) -> None:
        """Accept no further connections."""
        if self._acceptor.is_alive():
            # On Linux closing alone does not wake the accepting thread.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._acceptor.join(PATIENCE_SECONDS)
        self._listener.close()

    def close(self) -> None:
        self.refuse()
        for sock in self._socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for sock in self._socks:
            sock.close()


@contextmanager
def running(script: Script, **options: Any) -> Iterator[Upstream]:
    server = Upstream(script, **options)
    try:
        yield server
    finally:
        server.close()
    assert not server.errors


def always(reply: bytes) -> Script:
    """Answers every request of a connection with the same bytes."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(reply)

    return script


def wait_for(condition: Callable[[], bool]) -> None:
    """Until the condition holds; fails the test if it does not come true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
