"""The sandbox's HTTP/1.1 server: sockets, faults, pictures, and the HTTP layer of the control API."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .api import MAX_BODY_BYTES, ApiError, Request, Response, http_date, json_response
from .calls import Call
from .core import READ_OPERATIONS, SandboxCore
from .faults import FaultPlan
from .pictures import SIZES, part_png

logger = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
_LOOPBACK = ("localhost", "127.0.0.1")
_PICTURE_PATH = re.compile(r"/media/parts/(\d{1,4})/(\w+)\.png")
_CORS = {
    # The Find SDK runs in pages of other origins. No cookies are involved.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After, WWW-Authenticate",
}
_PREFLIGHT = _CORS | {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Partium-ExternalUserId",
    "Access-Control-Max-Age": "600",
}


class _HangUp(Exception):
    """Close the connection without another byte."""


class HttpServer(ThreadingHTTPServer):
    """A thread per connection. Raises OSError where the address cannot be bound."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], core: SandboxCore, *, verbose: bool = False) -> None:
        self.core = core
        self.verbose = verbose
        self.stopping = False
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)
        self.url = f"http://{self.server_name}:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the standard library, which can take seconds without a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Register the connection before its thread starts, so that :meth:`stop` can end it at any time."""
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a defect of the sandbox; a client that went away is no error."""
        if not isinstance(sys.exception(), OSError):
            logger.exception("The sandbox failed on a connection.")  # noqa: LOG004 - called inside the handler

    def stop(self) -> None:
        """Stop accepting, release what hangs, end all connections and free the port."""
        self.stopping = True
        self.core.faults.clear()
        self.shutdown()
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _STOP_SECONDS)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120  # seconds that a client may be silent
    server_version, sys_version = "PartiumSandbox", ""

    def date_time_string(self, timestamp: Any = None) -> str:
        return super().date_time_string(int(self.server.core.state.now()))

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _HangUp:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        target = urlsplit(self.path)
        query = dict(parse_qsl(target.query))
        picture = _PICTURE_PATH.fullmatch(target.path)
        try:
            if target.path.startswith("/_sandbox/"):
                response = self._control(target.path.removeprefix("/_sandbox/"), query)
            elif picture:
                response = self._picture(int(picture[1]), picture[2])
            elif self.command == "OPTIONS":
                response = Response(204, headers=_PREFLIGHT)
            else:
                self._partium(target.path, query)
                return
        except ApiError as error:
            response = error.response()
        self._send(response)

    do_GET = do_POST = do_OPTIONS = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    # Partium's API

    def _partium(self, path: str, query: dict[str, str]) -> None:
        core = self.server.core
        endpoint = core.api.endpoint(path)
        refused: ApiError | None = None
        body = b""
        try:
            body = self._read_body(required=core.api.needs_body(endpoint, self.command))
        except ApiError as error:
            refused = error
        base_url = f"http://{self.headers.get('Host') or self.server.url[7:]}"
        request = Request(self.command, path, query, self.headers, body, base_url)
        kind, mark = core.api.credential(endpoint, request)
        external = self.headers.get("X-Partium-ExternalUserId") if endpoint == "search" else None
        call = Call(self.command, path, endpoint, kind, mark, external, core.state.now(), time.monotonic())
        core.log.begin(call)
        try:
            if refused is not None:
                response = refused.response()
            else:
                plan = core.faults.next_for(endpoint, mark) if endpoint != "other" else None
                response = self._fail(plan, request, call) if plan else self._process(request, call)
            core.log.finish(call, response.status)
            self._send(response, _CORS)
        finally:
            if not call.finished:
                core.log.finish(call, None)

    def _process(self, request: Request, call: Call) -> Response:
        response = self.server.core.api.answer(call.endpoint, request)
        call.organization = response.organization
        call.processed = response.status < 400
        return response

    # Faults

    def _fail(self, plan: FaultPlan, request: Request, call: Call) -> Response:
        """Do what a fault asks for, and return the answer to send.

        Raises:
            _HangUp: the connection has to be closed now.
        """
        core = self.server.core
        resets = core.resets
        response = self._process(request, call) if plan.after_processing else None
        if plan.kind == "hang":
            plan.released.wait()
        elif plan.latency_seconds:
            plan.released.wait(plan.latency_seconds)
        if core.resets != resets or self.server.stopping:
            raise _HangUp
        if plan.kind == "answer":
            return self._planned_answer(plan)
        if plan.kind == "drop":
            raise _HangUp
        return response or self._process(request, call)

    def _planned_answer(self, plan: FaultPlan) -> Response:
        """What a fault of the kind ``answer`` answers, by the sandbox's clock of this moment."""
        message = {"status": plan.status, "error": "sandbox_fault", "message": "The sandbox was told to answer this."}
        body = json.dumps(message).encode() if plan.body is None else plan.body
        headers = {"Content-Type": "application/json"} | plan.headers
        after = plan.retry_after
        if after is None and plan.status in (429, 503):
            after = 1
        if isinstance(after, int | float):
            # As documented: a date with 429, seconds with anything else.
            after = http_date(self.server.core.state.now() + after) if plan.status == 429 else f"{after:g}"
        if after:
            headers.setdefault("Retry-After", after)
        if plan.status == 401:
            headers.setdefault("WWW-Authenticate", 'Bearer realm="Partium", error="invalid_token"')
        return Response(plan.status, body, headers)

    # Reading and writing

    def _read_body(self, *, required: bool = False) -> bytes:
        """The request's body. Raises an ApiError with 411 or 413."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() and (required or length or "Transfer-Encoding" in self.headers):
            self.close_connection = True
            raise ApiError(411, "Content-Length is missing or invalid.")
        size = int(length or 0)
        # A body that is too large is read, too: the client then sees the answer and not a reset connection.
        body = self.rfile.read(size)
        if len(body) < size:
            raise _HangUp
        if size > MAX_BODY_BYTES:
            raise ApiError(413, "The payload is too large.")
        return body

    def _send(self, response: Response, more_headers: dict[str, str] | None = None) -> None:
        if self.server.verbose:
            # Never the query, which may hold a secret.
            print(f"{self.command} {urlsplit(self.path).path} {response.status}", file=sys.stderr, flush=True)  # noqa: T201
        self.send_response(response.status)
        for name, value in (response.headers | (more_headers or {})).items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body)

    # Pictures and control

    def _picture(self, size: int, part_id: str) -> Response:
        content = part_png(part_id, size) if size in SIZES and self.command == "GET" else None
        if content is None:
            raise ApiError(404, "There is no such picture.")
        return Response(200, content, {"Content-Type": "image/png", "Cache-Control": "public, max-age=86400"} | _CORS)

    def _control(self, name: str, query: dict[str, str]) -> Response:
        """``POST /_sandbox/<operation>`` with its arguments as a JSON object; GET with a query for what only reads.

        Loopback only, by address and by ``Host`` (a page in a browser could otherwise get here by DNS rebinding), and
        only with a content type that a page of another origin cannot send without a preflight, which is never granted.
        """
        body = self._read_body()
        host = self.headers.get("Host", "localhost").partition(":")[0]
        if not str(self.client_address[0]).startswith("127.") or host not in _LOOPBACK:
            raise ApiError(403, "The sandbox is controlled from the same machine only.")
        is_read = self.command == "GET" and name in READ_OPERATIONS
        if self.command != "POST" and not is_read:
            raise ApiError(405, "Use POST.", headers={"Allow": "POST"})
        if self.command == "POST" and self.headers.get_content_type() != "application/json":
            raise ApiError(422, "The content type has to be application/json.")
        try:
            arguments: Any = json.loads(body or b"{}")
            if is_read:
                arguments = {key: int(value) if value.isdecimal() else value for key, value in query.items()}
            return json_response({"result": self.server.core.operate(name, arguments)})
        except LookupError as error:
            return json_response({"error": "LookupError", "message": str(error)}, 404)
        except ValueError as error:
            return json_response({"error": "ValueError", "message": str(error)}, 422)
