"""A sandbox in this process."""

from __future__ import annotations

import threading
from typing import Any, Self

from .control import SandboxControls
from .core import SandboxCore
from .server import HttpServer


class PartiumSandbox(SandboxControls):
    """Partium's API on a port of this machine, served by threads of this process. Made by :meth:`start`."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="partium-sandbox", daemon=True
        )
        self._thread.start()

    @classmethod
    def start(
        cls,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        seed: dict[str, Any] | None = None,
        verbose: bool = False,
    ) -> Self:
        """Start a sandbox; it answers when this returns. Use it in a ``with``, or :meth:`stop` it.

        Args:
            port: 0 takes a free one.
            host: address to listen on. The control API answers to loopback only, whatever this is.
            seed: what exists; None for the organizations acme and globex with a user and a key each.
            verbose: one line per request on standard error.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
            ValueError: the seed is not usable.
        """
        return cls(HttpServer((host, port), SandboxCore(seed), verbose=verbose))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop: release what hangs, end all connections, free the port. A second time it does nothing."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join()

    @property
    def url(self) -> str:
        return self._server.url

    def operate(self, operation: str, **arguments: Any) -> Any:
        return self._server.core.operate(operation, arguments)
