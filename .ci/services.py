#!/usr/bin/env python3
"""Start PostgreSQL, MariaDB and Redis for a command, and stop them when it ends; without a command, at Ctrl-C.

The servers are this run's own: in a temporary folder, on free ports of 127.0.0.1. So several runs can work side by side,
and no other server of the machine is touched. Run by root, it first installs the Debian packages that are missing.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import NoReturn

START_SECONDS = 60
STOP_SECONDS = 30
ATTEMPTS = 3
ROOT = os.geteuid() == 0
HELP = """
PostgreSQL, MariaDB and Redis are running. In another terminal, choose what the tests use:
  export TEST_DATABASE_URL={CI_POSTGRES_URL}
  export TEST_DATABASE_URL={CI_MARIADB_URL}   # needs: .venv/bin/pip install mysqlclient
  export TEST_CACHE_URL={CI_REDIS_URL}
Ctrl-C stops them and removes their data.
"""


@dataclass(frozen=True)
class Server:
    """The commands of one server. ``create`` makes its files, ``ready`` fails until it answers, ``admit`` lets tests in."""

    create: list[str]
    run: list[str]
    ready: list[str]
    admit: list[str]
    url: str
    stop: signal.Signals = signal.SIGTERM


# Server programs talk to their own server through a socket in its folder: whoever holds the port is never asked.
# Over TCP there is no password, so that user may use test databases only.


def postgresql(folder: Path, port: int, owner: str) -> Server:
    programs = newest_postgresql()
    (folder / "access.conf").write_text("local all all trust\nhost all test 127.0.0.1/32 trust\n")
    settings = {
        "hba_file": folder / "access.conf",
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "max_connections": 300,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    own = [f"--host={folder}", f"--port={port}"]
    initial = ["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    return Server(
        create=[f"{programs}/initdb", f"--pgdata={folder}/data", *initial],
        run=[
            f"{programs}/postgres",
            "-D",
            f"{folder}/data",
            *(f"--{name}={value}" for name, value in settings.items()),
        ],
        ready=[f"{programs}/pg_isready", *own],
        admit=[f"{programs}/createuser", *own, "--username=postgres", "--createdb", "test"],
        url=f"postgres://test@127.0.0.1:{port}/test",
        stop=signal.SIGINT,  # at SIGTERM it would wait for its clients
    )


def mariadb(folder: Path, port: int, owner: str) -> Server:
    settings = {
        "bind-address": "127.0.0.1",
        "port": port,
        "skip-name-resolve": 1,
        "pid-file": folder / "pid",
        "tmpdir": folder,
        "character-set-server": "utf8mb4",
        "collation-server": "utf8mb4_general_ci",
        "max-connections": 300,
        "innodb-flush-method": "nosync",
        "innodb-flush-log-at-trx-commit": 0,
        "innodb-doublewrite": 0,
    }
    data, own = f"--datadir={folder}/data", f"--socket={folder}/socket"
    statements = "CREATE USER test@127.0.0.1; GRANT ALL ON `test%`.* TO test@127.0.0.1"
    return Server(
        create=["mariadb-install-db", "--no-defaults", data, "--skip-test-db", f"--auth-root-socket-user={owner}"],
        run=["mariadbd", "--no-defaults", data, own, *(f"--{name}={value}" for name, value in settings.items())],
        ready=["mariadb-admin", "--no-defaults", own, "ping"],
        admit=["mariadb", "--no-defaults", own, f"--user={owner}", f"--execute={statements}"],
        url=f"mysql://test@127.0.0.1:{port}/test",
    )


def redis(folder: Path, port: int, owner: str) -> Server:
    settings = {"bind": "127.0.0.1", "port": port, "unixsocket": folder / "socket", "databases": 32, "save": ""}
    return Server(
        create=["true"],
        run=["redis-server", *(word for name, value in settings.items() for word in (f"--{name}", str(value)))],
        ready=["redis-cli", "-s", f"{folder}/socket", "ping"],
        admit=["true"],
        url=f"redis://127.0.0.1:{port}/0",
    )


class Owner:
    """Runs programs in ``folder`` as the user that the servers of this kind belong to, never as root: they refuse that."""

    def __init__(self, debian_user: str, folder: Path) -> None:
        self.name = debian_user if ROOT else pwd.getpwuid(os.geteuid()).pw_name
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._prefix = ["setpriv", "--pdeathsig", "KILL"]  # if this process is killed, the server ends, too
        if ROOT:
            self._prefix += [f"--reuid={self.name}", f"--regid={pwd.getpwnam(self.name).pw_gid}", "--clear-groups"]

    def start(self, words: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*self._prefix, *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the command first; the servers are stopped after it
            )

    def succeeds(self, words: list[str]) -> bool:
        process = self.start(words)
        try:
            return process.wait() == 0
        finally:
            process.wait()  # after a signal, too: nothing may write into the folder while it is removed

    def brings_up(self, server: Server, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while not self.succeeds(server.ready):
            if process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return self.succeeds(server.admit)


@contextmanager
def running(make: Callable[[Path, int, str], Server], debian_user: str, folder: Path) -> Iterator[str]:
    """Run one server, yield its URL, and stop it."""
    owner = Owner(debian_user, folder)
    # Somebody else can take a free port before the server binds it. Then the server ends, and we try another port.
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        server = make(folder, free_port(), owner.name)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, owner.name)
        if not owner.succeeds(server.create):
            continue
        process = owner.start(server.run)
        try:
            if owner.brings_up(server, process):
                yield server.url
                return
        finally:
            stop(process, server.stop)
    sys.exit(f"{owner.log.stem} does not start:\n{owner.log.read_text(errors='replace')[-3000:]}")


def stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def newest_postgresql() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs: Debian keeps them outside of PATH."""
    folders = (initdb.parent for initdb in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


def install_missing(*, for_tests: bool) -> None:
    """Install the Debian packages that are missing, or end with a sentence that names them."""
    found: dict[str, object] = {
        "postgresql": newest_postgresql(),
        "mariadb-server": shutil.which("mariadbd"),
        "redis-server": shutil.which("redis-server"),
    }
    if for_tests:
        found |= {
            "python3-venv": find_spec("ensurepip"),
            "build-essential": shutil.which("cc")
            and shutil.which("make"),  # to compile mysqlclient, with the next three
            "pkg-config": shutil.which("pkg-config"),
            "python3-dev": shutil.which("python3-config"),
            "libmariadb-dev": shutil.which("mariadb_config"),
            "chromium": shutil.which("chromium"),
            "chromium-driver": shutil.which("chromedriver"),
            "nodejs": shutil.which("node"),
            "npm": shutil.which("npm"),
        }
    missing = " ".join(package for package, program in found.items() if not program)
    if not missing:
        return
    if not ROOT:
        sys.exit(f"Some programs are missing. Install them first: sudo apt-get install {missing}")
    print(f"Installing {missing} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in ("update -qq", f"install -yqq {missing}"):
        subprocess.run(
            ["apt-get", *words.split()], env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True
        )


def run(command: list[str]) -> int:
    """Run the command to its end and return its exit code."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            stop(process, signal.SIGTERM)


def end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def main(command: list[str]) -> int:
    os.environ["PATH"] += ":/usr/sbin"  # MariaDB's place, which not everybody's PATH has
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    install_missing(for_tests=bool(command))
    with ExitStack() as stack:
        folder = Path(mkdtemp(prefix="partium-services-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        urls = {
            "CI_POSTGRES_URL": stack.enter_context(running(postgresql, "postgres", folder / "PostgreSQL")),
            "CI_MARIADB_URL": stack.enter_context(running(mariadb, "mysql", folder / "MariaDB")),
            "CI_REDIS_URL": stack.enter_context(running(redis, "redis", folder / "Redis")),
        }
        if command:
            os.environ |= urls
            return run(command)
        print(HELP.format(**urls), flush=True)
        signal.pause()
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
