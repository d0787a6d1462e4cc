"""Stand-ins for the services of the demo, and a demo made of them: ``python -m tests.demo.stand_ins demo PLAN``.

PLAN is a JSON file: ``directory``, ``start_seconds``, ``stop_seconds`` and ``services`` (name → [port, role]).
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
from pathlib import Path

from example_project import demo


class Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()


def serve(port: int) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.serve_forever()


def run_demo(plan_path: Path) -> int:
    plan = json.loads(plan_path.read_text())
    demo.START_SECONDS, demo.STOP_SECONDS = plan["start_seconds"], plan["stop_seconds"]
    directory = Path(plan["directory"])
    services = [
        demo.Service(
            name,
            (sys.executable, "-m", "tests.demo.stand_ins", role, str(port), str(directory / "pids")),
            f"http://127.0.0.1:{port}/",
            directory / f"{name}.log",
        )
        for name, (port, role) in plan["services"].items()
    ]
    try:
        demo.run(services, os.environ, "everything is up")
    except demo.DemoError as error:
        print(error)
        return 1
    print("Stopped.")
    return 0


def run_service(role: str, port: int, pids: Path) -> int:
    if role == "serve-deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pids.open("a") as lines:  # of everything that must be gone later
        lines.write(f"{os.getpid()}\n")
    match role:
        case "serve" | "serve-deaf":
            serve(port)
        case "serve-errors":
            Handler.status = 500
            serve(port)
        case "linger":
            print("lingering", flush=True)
            threading.Event().wait()
        case "fail":
            print("the reason is in the log", flush=True)
            return 3
        case _:
            raise SystemExit(f"unknown role {role}")
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "demo":
        sys.exit(run_demo(Path(sys.argv[2])))
    sys.exit(run_service(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
