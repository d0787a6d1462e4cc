"""Stand-ins for the processes of the demo, and a demo made of them: ``python -m tests.demo.stand_ins demo PLAN``.

PLAN is a JSON file: ``directory``, ``start_seconds``, ``stop_seconds``, ``under_nohup``, ``preparations`` (name →
arguments of this module) and ``services`` (name → [port, *arguments of this module]).
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from example_project import demo

COMMAND = [sys.executable, "-m", "tests.demo.stand_ins"]


class Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()


def note_pids(file: Path) -> None:
    """Add this process and its parent (the guard, for a service) to the file of everything that must be gone later."""
    with file.open("a") as lines:
        lines.write(f"{os.getpid()}\n{os.getppid()}\n")


def linger(file: Path, *, deaf: bool) -> None:
    """Stay without listening anywhere; deaf to SIGTERM if asked to be."""
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_pids(file)
    print("lingering", flush=True)
    time.sleep(600)


def serve(port: int, file: Path, *, status: int = 200) -> None:
    Handler.status = status
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        note_pids(file)
        server.serve_forever()


def run_demo(plan_path: Path) -> int:
    plan = json.loads(plan_path.read_text())
    # Said here, since the tests themselves may run under nohup.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if plan["under_nohup"] else signal.SIG_DFL)
    environment = dict(os.environ)
    services = [
        demo.Service(name, [*COMMAND, *arguments], f"http://127.0.0.1:{port}/", environment)
        for name, (port, *arguments) in plan["services"].items()
    ]
    processes = demo.Processes(Path(plan["directory"]), stop_seconds=plan["stop_seconds"])
    preparations = {name: [*COMMAND, *arguments] for name, arguments in plan["preparations"].items()}
    welcome = "everything is up"
    return demo.supervise(processes, preparations, services, environment, welcome, start_seconds=plan["start_seconds"])


def main(role: str, *arguments: str) -> int:
    match role, arguments:
        case "demo", (plan,):
            return run_demo(Path(plan))
        case "serve", (port, file):
            serve(int(port), Path(file))
        case "serve-errors", (port, file):
            serve(int(port), Path(file), status=500)
        case "serve-deaf", (port, file):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            serve(int(port), Path(file))
        case "serve-with-deaf-child", (port, file):
            subprocess.Popen([*COMMAND, "linger-deaf", file])
            serve(int(port), Path(file))
        case "linger", (file,):
            linger(Path(file), deaf=False)
        case "linger-deaf", (file,):
            linger(Path(file), deaf=True)
        case "fail", (code,):
            print("the reason is in the log", flush=True)
            return int(code)
        case "touch", (file,):
            Path(file).touch()
        case _:
            raise SystemExit(f"unknown role {role}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
