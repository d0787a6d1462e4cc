"""Connections that keep to the deadline of the call they are made for."""

from __future__ import annotations

import functools
import ipaddress
import queue
import socket
import threading
import time
from http.client import HTTPResponse, RemoteDisconnected
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family
from urllib3.util.retry import Retry

from partium_auth.exceptions import ConnectionFailed
from partium_auth.http.deadline import Call, Stop, current_call, watchdog
from partium_auth.http.environment import tls_context

_RETRY_PAUSE_SECONDS: Final = 0.1


class _Lines:
    """What ``HTTPResponse.begin`` reads from, with the last line remembered."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Answer(HTTPResponse):
    """An answer whose headers have to have an end: the standard library takes a connection's end for it."""

    def begin(self) -> None:
        file = self.fp
        lines: Any = _Lines(file)
        self.fp = lines
        super().begin()
        self.fp = file
        if lines.last not in {b"\r\n", b"\n"}:
            raise RemoteDisconnected("no end of headers")


class _Connection(HTTPConnection):
    """A connection that keeps to the deadline of the calling thread's call, and asks it before it sends."""

    response_class = _Answer
    _used_at = 0.0

    def _new_conn(self) -> socket.socket:
        call = current_call()
        try:
            sock = _connect(self, call)
        except socket.gaierror as e:
            raise NameResolutionError(self.host, self, e) from e
        except TimeoutError as e:
            raise Stop from e  # not a NewConnectionError, which would be tried again
        except OSError as e:
            raise NewConnectionError(self, "not connected") from e
        try:
            watchdog().hold(call, sock)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self._used_at < current_call().idle_seconds

    def request(self, *args: Any, **kwargs: Any) -> None:
        call = current_call()
        if self.sock is None:
            self.connect()
        elif call.descriptor is None:
            call.reused = True
            watchdog().hold(call, self.sock)
        call.leave()
        self._used_at = time.monotonic()
        self.timeout = call.total_seconds  # to send; urllib3 sets the one for reading afterwards
        super().request(*args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS: Final = {"http": _Pool, "https": _TLSPool}


class _RetryConnecting(Retry):
    """One more attempt where no connection was made; nothing else, since a request may have been sent."""

    def __init__(self, total: Any = 1, **kwargs: Any) -> None:
        super().__init__(total, **{"connect": 1, "read": False, "redirect": False, "status": 0, "other": 0, **kwargs})

    def sleep(self, response: Any = None) -> None:
        time.sleep(_RETRY_PAUSE_SECONDS)


class Adapter(HTTPAdapter):
    """Pools of one connection per host, for one thread."""

    def __init__(self) -> None:
        super().__init__(pool_connections=8, pool_maxsize=1)
        self.max_retries = _RetryConnecting()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("socks"):
            raise ConnectionFailed("SOCKS proxies are not supported; set HTTPS_PROXY to an HTTP proxy.", sent=False)
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, True, cert)
        if host["scheme"] == "https":
            pool["ssl_context"] = tls_context(verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH)
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context verifies, and would load the bundle anew for each connection otherwise."""


def _connect(connection: _Connection, call: Call) -> socket.socket:
    """A connected socket. Each address gets what is left: an upstream with many dead ones may not add up time-outs."""
    failure: OSError = OSError("no address")
    host = connection._dns_host.strip("[]")
    for family, kind, protocol, _, address in _addresses(host, connection.port, call.seconds_to_connect()):
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(call.seconds_to_connect())
            sock.connect(address)
        except OSError as e:
            failure = e
            if sock is not None:
                sock.close()
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # it holds this frame


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    """What the name stands for. A look-up cannot be interrupted, so it gets a thread that can be left behind."""
    look_up = functools.partial(socket.getaddrinfo, host, port, allowed_gai_family(), socket.SOCK_STREAM)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return look_up()
    outcome: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(look_up())
        except (OSError, UnicodeError) as e:
            outcome.put(e if isinstance(e, OSError) else socket.gaierror(socket.EAI_NONAME, "not a host name"))

    threading.Thread(target=run, name="partium_auth look-up", daemon=True).start()
    try:
        found = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found
