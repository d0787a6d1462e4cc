"""Serves the host on a listening socket that is passed on: ``server.py asgi|wsgi <descriptor>``."""

from __future__ import annotations

import os
import socket
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.hosts.served"


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class ThreadingWSGIServer(ThreadingMixIn, WSGIServer):
    """One thread per request, as threads of a real server."""

    daemon_threads = True


def be_patient() -> None:
    """Wait for a refresh as long as for a search; see the settings."""
    from partium_auth.conf import conf
    from partium_auth.tokens import manager

    manager.PATIENCE_SECONDS = conf.timeout_seconds


def main(kind: str, descriptor: int) -> None:
    if kind == "asgi":
        import uvicorn
        from django.core.asgi import get_asgi_application

        asgi_application = get_asgi_application()
        be_patient()
        uvicorn.run(asgi_application, fd=descriptor, log_level="warning", lifespan="off")
        return
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
    be_patient()
    server = ThreadingWSGIServer(("127.0.0.1", 0), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=descriptor)
    server.server_name, server.server_port = server.socket.getsockname()
    server.setup_environ()
    server.set_app(application)
    server.serve_forever(0.1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
