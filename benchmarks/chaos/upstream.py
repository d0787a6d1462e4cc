"""A strict stand-in of Partium's API: refresh tokens rotate, a second use ends the login, and every call is counted.

It is independent of the sandbox on purpose, so that one misunderstanding cannot hide in both. Run as a process of its own:
``python -m benchmarks.chaos.upstream <port> <lifetime seconds>``. ``POST /_control`` changes its mode, ``GET /_report`` counts.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class State:
    """All that the upstream knows. One lock: it is small and the calls are few."""

    def __init__(self, lifetime_seconds: float) -> None:
        self.lifetime_seconds = lifetime_seconds
        self.lock = threading.Lock()
        self.mode, self.latency_seconds, self.hang_once = "normal", 0.0, False
        self.refresh_tokens: dict[str, str] = {}  # the current one -> family
        self.used: dict[str, str] = {}
        self.ended: set[str] = set()
        self.expires_at: dict[str, float] = {}  # access token -> when
        self.last: dict[str, float] = {}  # credential's owner -> its last token
        self.counts: Counter[str] = Counter()

    def tokens(self, owner: str, *, refresh: bool) -> dict[str, Any]:
        now = time.time()
        if now - self.last.get(owner, 0.0) < self.lifetime_seconds / 3:
            self.counts["early"] += 1
        self.last[owner] = now
        access_token = secrets.token_urlsafe(24)
        self.expires_at[access_token] = now + self.lifetime_seconds
        answer: dict[str, Any] = {"access_token": access_token, "expires_in": int(self.lifetime_seconds)}
        if refresh:
            answer["refresh_token"] = token = secrets.token_urlsafe(24)
            self.refresh_tokens[token] = owner
        return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        with self.state.lock:
            self._answer(200, dict(self.state.counts))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/_control":
            with self.state.lock:
                for name, value in json.loads(body).items():
                    setattr(self.state, name, value)
            return self._answer(200, {})
        endpoint = {"/1/auth": "exchange", "/auth/refresh": "refresh"}.get(self.path, "search")
        with self.state.lock:
            self.state.counts[endpoint] += 1
            mode, latency_seconds = self.state.mode, self.state.latency_seconds
            if self.state.hang_once and endpoint == "exchange":
                self.state.hang_once, mode = False, "hang"
        if mode == "hang" or (mode == "hang-search" and endpoint == "search"):
            return self._hang()
        time.sleep(latency_seconds)
        if mode == "html":
            return self._answer(200, b"<html>Please log in to the guest network</html>")
        if mode == "403json":
            return self._answer(403, {"message": "blocked by policy"})
        with self.state.lock:
            status, answer = self._exchange() if endpoint == "exchange" else self._other(endpoint, body)
        return self._answer(status, answer)

    def _exchange(self) -> tuple[int, dict[str, Any]]:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            username = base64.b64decode(value).decode().partition(":")[0]
            return 200, self.state.tokens(f"{username}:{secrets.token_hex(4)}", refresh=True)
        return 200, self.state.tokens(value, refresh=False)

    def _other(self, endpoint: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if endpoint == "refresh":
            token = json.loads(body)["refresh_token"]
            if token in self.state.used:
                self.state.counts["reused"] += 1
                self.state.ended.add(self.state.used[token])
            owner = self.state.refresh_tokens.pop(token, None)
            if owner is None or owner in self.state.ended:
                self.state.counts["refused"] += 1
                return 401, {"error": "invalid_grant"}
            self.state.used[token] = owner
            return 200, self.state.tokens(owner, refresh=True)
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.state.expires_at.get(bearer, 0.0) < time.time():
            self.state.counts["bad_bearer"] += 1
            return 401, {"error": "invalid_token"}
        return 200, {"results": [], "sessionId": secrets.token_hex(8)}

    def _hang(self) -> None:
        with self.state.lock:
            self.state.counts["hung"] += 1
        for _ in range(600):
            time.sleep(0.2)
            if self.state.mode != "hang" and not self._still_connected():
                break
        self.close_connection = True

    def _still_connected(self) -> bool:
        self.connection.setblocking(False)
        try:
            return bool(self.connection.recv(1))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _answer(self, status: int, body: dict[str, Any] | bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(body, bytes) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            with self.state.lock:
                self.state.counts["undelivered"] += 1


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True


def main(port: int, lifetime_seconds: float) -> None:
    Handler.state = State(lifetime_seconds)
    server = Server(("127.0.0.1", port), Handler)
    print(server.server_address[1], flush=True)
    port = int(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:  # "down 80": nobody listens for 80 s
        seconds = float(line.split()[1])
        server.shutdown()
        server.server_close()
        time.sleep(seconds)
        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("up", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
