"""What a run starts for itself: a PostgreSQL cluster in a temporary folder, the strict upstream, and the site under gunicorn."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]


def wait_for(port: int, *, seconds: float = 30.0) -> None:
    """Wait until something listens on a port of this machine."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A cluster of its own. ``initdb`` refuses root, so root runs it as Debian's user ``postgres``."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        on_path = shutil.which("initdb")
        if not found and on_path is None:
            raise SystemExit("PostgreSQL's server is not installed (Debian: apt install postgresql).")
        self._bin = found[-1] if found else Path(str(on_path)).parent
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        self.port = free_port()
        self._data = folder / "data"
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync")
        with_options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
        )
        self._start = ("-D", str(self._data), "-w", "-l", str(folder / "log"), "-o", with_options)
        self._run("pg_ctl", *self._start, "start")
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "chaos")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *arguments], capture_output=True, text=True, cwd="/"
        )
        if done.returncode:
            raise SystemExit(f"{program} failed: {done.stderr or done.stdout}")

    def restart_at_once(self) -> None:
        """Kill and start it, as a crash does."""
        self._run("pg_ctl", *self._start, "-m", "immediate", "restart")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "stop")


class Upstream:
    """The strict upstream, in a process of its own."""

    def __init__(self, lifetime_seconds: float) -> None:
        command = [sys.executable, "-m", "benchmarks.chaos.upstream", "0", str(lifetime_seconds)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, env=os.environ.copy()
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def set(self, **values: Any) -> None:
        data = json.dumps(values).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_control", data), timeout=10).read()

    def report(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/_report", timeout=10) as answer:
            return dict(json.load(answer))

    def down(self, seconds: float) -> None:
        """Nobody listens for so long; returns at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"down {seconds}\n")
        self._process.stdin.flush()

    def wait_until_up(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Site:
    """The site under gunicorn, four workers with four threads each."""

    def __init__(self, code: Path, folder: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.log = folder / "site.log"
        command = [
            *(sys.executable, "-m", "gunicorn", "--workers", "4", "--threads", "4", "--bind", f"127.0.0.1:{self.port}"),
            *("--timeout", "120", "--keep-alive", "30", "--log-level", "error", "chaos.wsgi:application"),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, "PYTHONPATH": f"{code}:{HERE / 'benchmarks'}"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self.port)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="partium-chaos-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
