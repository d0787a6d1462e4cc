"""The sandbox's HTTP/1.1 server: sockets, framing, faults on the wire, and the thin HTTP layer of the control API."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from .api import ApiError, Request, Response, json_response
from .calls import Call
from .core import SandboxCore
from .drawings import part_png, part_svg
from .faults import FaultPlan
from .state import fingerprint

logger = logging.getLogger(__name__)

_MAX_DRAINED_BYTES = 64 << 20
_MAX_CONTROL_BYTES = 8 << 20
_STOP_SECONDS = 5.0
_CORS = {
    # The Find SDK runs in pages of other origins. No cookies are involved.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After, WWW-Authenticate",
}
_FRONT_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Partium sandbox</title>
<h1>Partium sandbox</h1>
<p>It stands in for Partium's HTTP API, and is for programs: set <code>PARTIUM_API_URL</code> to this address.</p>
<ul>
<li><a href="/_sandbox/calls">What it was asked</a>, without credentials</li>
<li><a href="/_sandbox/describe">What it has</a>: organizations, users, settings</li>
</ul></html>
"""
_PREFLIGHT = _CORS | {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Partium-ExternalUserId",
    "Access-Control-Max-Age": "600",
}


_Phase = Literal["idle", "busy", "answering"]


class _HangUp(Exception):
    """Close the connection without another byte."""


class HttpServer(ThreadingHTTPServer):
    """A thread per connection.

    Args:
        address: host and port; port 0 takes a free one.
        core: what answers.
        public_url: how callers reach this server, where the ``Host`` header would not say so.
        verbose: print one line per request to standard error.

    Raises:
        OSError: the address cannot be bound.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], core: SandboxCore, *, public_url: str | None = None, verbose: bool = False
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.core = core
        self.public_url = public_url.rstrip("/") if public_url else None
        self.verbose = verbose
        self.stopping = False
        self._connections = threading.Condition()
        self._open: dict[socket.socket, _Phase] = {}
        super().__init__(address, _Handler)
        core.close_idle = self.close_idle

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the standard library, which can take seconds without a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """``http://host:port``."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Register the connection before its thread starts, so that :meth:`stop` can end it at any time."""
        with self._connections:
            self._open[request] = "idle"
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        super().shutdown_request(request)
        with self._connections:
            self._open.pop(request, None)
            self._connections.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is a defect of the sandbox."""
        if not isinstance(sys.exception(), OSError):
            logger.exception("The sandbox failed on a connection.")  # noqa: LOG004 - called inside the handler

    def mark(self, connection: socket.socket, phase: _Phase) -> None:
        """Note what a connection is doing."""
        with self._connections:
            if connection in self._open:
                self._open[connection] = phase
                self._connections.notify_all()

    def close_idle(self) -> int:
        """Close the connections that are between two requests, as real servers do after a while."""
        with self._connections:
            # Whoever has just received an answer takes its connection for idle, and rightly so.
            self._connections.wait_for(lambda: "answering" not in self._open.values(), _STOP_SECONDS)
            idle = [connection for connection, phase in self._open.items() if phase == "idle"]
            for connection in idle:
                _close(connection)
            return len(idle)

    def stop(self) -> None:
        """Stop accepting, let go of everything that waits, end all connections and release the port."""
        self.stopping = True
        self.core.faults.clear()
        self.shutdown()
        with self._connections:
            for connection in self._open:
                _close(connection)
            self._connections.wait_for(lambda: not self._open, _STOP_SECONDS)
        self.server_close()


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120  # a client that is silent for longer is gone
    _expects = False

    def parse_request(self) -> bool:
        self.server.mark(self.connection, "busy")
        self._expects = False
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        # Answered when the body is read, so that a body that is too large is refused before it is sent.
        self._expects = True
        return True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _HangUp:
            self.close_connection = True
        finally:
            self.server.mark(self.connection, "idle")

    def log_message(self, *_: Any) -> None:
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself (a malformed request line, too many headers), as JSON."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(json_response({"status": code, "error": "bad_request", "message": status.description}, code))

    def _serve(self) -> None:
        try:
            target = urlsplit(self.path)
        except ValueError:
            self.send_error(400)
            return
        try:
            if target.path.startswith("/_sandbox/"):
                response = self._control(target.path.removeprefix("/_sandbox/"), dict(parse_qsl(target.query)))
            elif target.path.startswith("/media/"):
                response = self._media(target.path)
            elif target.path == "/" and self.command in ("GET", "HEAD") and "Authorization" not in self.headers:
                # A person's browser. A program that calls Partium's API there is told that it is wrong.
                self._read_body(0, required=False)
                response = Response(200, _FRONT_PAGE, {"Content-Type": "text/html; charset=utf-8"})
            elif self.command == "OPTIONS":
                self._read_body(0, required=False)
                response = Response(204, headers=_PREFLIGHT)
            else:
                self._partium(target.path, dict(parse_qsl(target.query)))
                return
        except ApiError as error:
            response = error.response()
        self._send(response)

    do_GET = do_POST = do_HEAD = do_OPTIONS = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    # Partium's API

    def _partium(self, path: str, query: dict[str, str]) -> None:
        core = self.server.core
        epoch = core.epoch
        endpoint = core.api.endpoint(path)
        refused: ApiError | None = None
        body = b""
        try:
            limit = core.api.max_body_bytes(endpoint, self.headers.get("Content-Type", ""))
            body = self._read_body(limit, required=core.api.needs_length(endpoint, self.command))
        except ApiError as error:
            refused = error
        base_url = self.server.public_url or f"http://{self.headers.get('Host') or self.server.url[7:]}"
        request = Request(self.command, path, query, self.headers, body, base_url)
        kind, mark = core.api.credential(endpoint, request)
        external = self.headers.get("X-Partium-ExternalUserId") if endpoint == "search" else None
        call = Call(self.command, path, endpoint, kind, mark, external, core.state.now(), time.monotonic())
        core.log.begin(call)
        # Whatever happens, nobody waits for ever for this call to finish.
        try:
            if refused is not None:
                response = refused.response()
            else:
                plan = core.faults.take(endpoint, mark) if endpoint != "other" else None
                response = self._misbehave(plan, request, call, epoch) if plan else self._process(request, call)
            core.log.finish(call, response.status)
            self._send(response, _CORS)
        finally:
            if not call.finished:
                core.log.finish(call, None)

    def _process(self, request: Request, call: Call) -> Response:
        try:
            response = self.server.core.api.answer(call.endpoint, request)
        except Exception:
            logger.exception("The sandbox failed on a request.")
            response = ApiError(500, "The sandbox has a defect; see its log.").response()
        call.organization = response.organization
        call.processed = response.status < 400
        return response

    def _misbehave(self, plan: FaultPlan, request: Request, call: Call, epoch: int) -> Response:
        """Do what was asked to go wrong.

        Returns:
            the answer to send.

        Raises:
            _HangUp: the connection has to be closed now; what was to be sent has been sent.
        """
        core = self.server.core
        response = self._process(request, call) if plan.after_processing else None
        if plan.latency_seconds:
            plan.released.wait(plan.latency_seconds)
        if plan.kind == "hang":
            plan.released.wait()
        if core.epoch != epoch or self.server.stopping:
            raise _HangUp
        match plan.kind:
            case "answer":
                return core.planned_answer(plan)
            case "drop":
                if plan.after_bytes is not None:
                    response = response or self._process(request, call)
                    self.wfile.write(self._message(response, _CORS)[: plan.after_bytes])
                raise _HangUp
            case "huge":
                core.log.finish(call, 200)
                self._send_huge(plan)
                raise _HangUp
            case "drip":
                response = response or self._process(request, call)
                self._drip(plan, self._message(response, _CORS))
                core.log.finish(call, response.status)
                raise _HangUp
            case _:
                return response or self._process(request, call)

    def _drip(self, plan: FaultPlan, message: bytes) -> None:
        """Send a message a few bytes at a time; the rest at once when the fault is cleared."""
        step = plan.chunk_bytes
        for start in range(0, len(message), step):
            if plan.released.wait(plan.interval_seconds if start else 0):
                if not self.server.stopping:
                    self.wfile.write(message[start:])
                return
            self.wfile.write(message[start : start + step])

    def _send_huge(self, plan: FaultPlan) -> None:
        """A JSON string of the asked size, its length declared or not."""
        head = {"Content-Type": "application/json"} | _CORS
        framing = {"Content-Length": str(plan.size_bytes)} if plan.declared else {"Transfer-Encoding": "chunked"}
        self.wfile.write(self._head(200, head | framing))
        left = plan.size_bytes
        while left > 0 and not plan.released.is_set():
            piece = b"[" * min(left, 65_536)
            left -= len(piece)
            self.wfile.write(piece if plan.declared else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not plan.declared and left == 0:
            self.wfile.write(b"0\r\n\r\n")

    # SessionAccess and writing

    def _read_body(self, limit: int, *, required: bool) -> bytes:
        """The request's body.

        Raises:
            ApiError: 411 or 413.
            _HangUp: the client went away in the middle of it.
        """
        lengths = set(self.headers.get_all("Content-Length", []))
        length = lengths.pop() if len(lengths) == 1 else None
        invalid = bool(lengths) or (length is not None and not (length.isascii() and length.isdecimal()))
        if invalid or "Transfer-Encoding" in self.headers or (required and length is None):
            self.close_connection = True
            raise ApiError(411, "Content-Length is missing or invalid.")
        # 20 digits are more than any address space, and int() refuses thousands of them.
        size = int(length[:20]) if length else 0
        if size > limit:
            if not self._expects:
                self._drain(size)
            self.close_connection = True
            raise ApiError(413, "The payload is too large.")
        if size and self._expects:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(size)
        if len(body) < size:
            raise _HangUp
        return body

    def _drain(self, size: int) -> None:
        """Read on for a while, so that the client sees the refusal and not a reset connection."""
        left = min(size, _MAX_DRAINED_BYTES)
        while left > 0 and (piece := self.rfile.read(min(left, 1 << 16))):
            left -= len(piece)

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        now = self.server.core.state.now()
        lines = [
            f"HTTP/1.1 {status} {_phrase(status)}",
            "Server: PartiumSandbox",
            f"Date: {self.date_time_string(int(now))}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.close_connection:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _message(self, response: Response, more_headers: dict[str, str]) -> bytes:
        """Head and body in one piece: two writes would wait for each other (Nagle and delayed acknowledgement)."""
        headers = response.headers | more_headers
        if response.status >= 200 and response.status != 204:
            headers = headers | {"Content-Length": str(len(response.body))}
        body = b"" if self.command == "HEAD" or response.status in (204, 304) else response.body
        return self._head(response.status, headers) + body

    def _send(self, response: Response, more_headers: dict[str, str] | None = None) -> None:
        if self.server.verbose:
            # Never the query: a path has no secret, a query might.
            print(f"{self.command} {urlsplit(self.path).path} {response.status}", file=sys.stderr, flush=True)  # noqa: T201
        self.server.mark(self.connection, "answering")
        self.wfile.write(self._message(response, more_headers or {}))

    # Pictures and control

    def _media(self, path: str) -> Response:
        """``/media/parts/<id>.svg`` and ``.png``; anybody may see them."""
        self._read_body(0, required=False)
        name, _, kind = path.removeprefix("/media/parts/").rpartition(".")
        picture = part_svg(name) if kind == "svg" else part_png(name) if kind == "png" else None
        if picture is None or self.command not in ("GET", "HEAD"):
            raise ApiError(404, "There is no such picture.")
        mime = "image/svg+xml" if kind == "svg" else "image/png"
        return Response(200, picture, {"Content-Type": mime, "Cache-Control": "public, max-age=86400"} | _CORS)

    def _control(self, name: str, query: dict[str, str]) -> Response:
        """``POST /_sandbox/<operation>`` with its arguments as a JSON object; GET with a query for what only reads.

        Loopback only, by address and by ``Host`` (a page in a browser could otherwise get here by DNS rebinding), and
        only with a content type that a page of another origin cannot send without a preflight, which is never granted.
        """
        body = self._read_body(_MAX_CONTROL_BYTES, required=False)
        if not _is_loopback(str(self.client_address[0])) or not _names_loopback(self.headers.get("Host", "localhost")):
            raise ApiError(403, "The sandbox is controlled from the same machine only.")
        if self.command == "POST":
            arguments = self._control_arguments(body)
        elif self.command == "GET" and self.server.core.is_read(name):
            arguments = {key: _int(value) if key == "status" else value for key, value in query.items()}
        else:
            raise ApiError(405, "Use POST.", headers={"Allow": "POST"})
        if "value" in arguments:  # for people with curl; the Python client sends fingerprints
            arguments["credential"] = fingerprint(str(arguments.pop("value")))
        try:
            return json_response({"result": self.server.core.operate(name, arguments)})
        except LookupError as error:
            return json_response({"error": "LookupError", "message": str(error)}, 404)
        except ValueError as error:
            return json_response({"error": "ValueError", "message": str(error)}, 422)

    def _control_arguments(self, body: bytes) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise ApiError(422, "The content type has to be application/json.")
        try:
            arguments = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise ApiError(422, "This is not JSON.") from None
        if not isinstance(arguments, dict):
            raise ApiError(422, "This is not a JSON object.")
        return arguments


def _names_loopback(host_header: str) -> bool:
    try:
        host = urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Sandbox"


def _int(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
