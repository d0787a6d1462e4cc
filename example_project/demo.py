"""Start the whole demo with one command, and stop all of it again: ``python -m example_project.demo`` (``make demo``).

Three processes: the company's identity provider (``example_project.demo_provider``), the Partium sandbox
(``partium_auth.testing.sandbox``) and the example site. Their output goes to ``.demo/*.log``.

Every process runs under a *guard*: this module again, as a small process that leads a process group of its own, starts
the real command in it and holds the read end of a pipe whose write end only the demo has. However the demo ends,
``kill -9`` included, the guard reads the end of that pipe and ends its group, so nothing is left running. (Linux has
PR_SET_PDEATHSIG for this; the pipe works everywhere and reaches grandchildren too.)

Environment: ``DEMO_PORT`` (8000), ``DEMO_IDP_PORT`` (9000), ``DEMO_SANDBOX_PORT`` (8900), ``DEMO_TOKEN_MINUTES`` (10,
the lifetime of access tokens; 1 to watch a renewal), ``DEMO_DIRECTORY`` (``.demo``). ``DATABASE_URL`` is respected;
without it SQLite in that directory. ``DJANGO_ENV_FILE`` names another file than ``.env``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import json
import os
import queue
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self, TextIO
from urllib.parse import quote, urlsplit

from example_project.demo_provider import (
    AUDIENCE,
    CLAIMS_PARAMETER,
    ORGANIZATIONS_CLAIM,
    ROLES_CLAIM,
    Cast,
    read_cast,
)
from partium_auth.testing.sandbox import ACME, ACME_PASSWORD, ACME_USERNAME

ROOT = Path(__file__).resolve().parent.parent
CALLBACK_PATH = "/partium/callback/default/"
START_SECONDS = 60.0
STOP_SECONDS = 5.0
TAIL_LINES = 20
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """The demo cannot go on; the message is for the person at the terminal."""


class StopRequested(Exception):
    """Somebody asked the demo to stop: Ctrl-C, ``kill``, or a closed terminal."""


@dataclass(frozen=True)
class Service:
    """A process that runs as long as the demo does.

    Args:
        name: for people, and of its log file.
        command: what to run.
        url: answers over HTTP, with anything below 500, once the service is up.
        environment: all of the process's environment; it holds secrets.
    """

    name: str
    command: Sequence[str]
    url: str
    environment: Mapping[str, str] = field(repr=False)


class GuardedProcess:
    """A command under its guard, in a process group of its own, writing to a log file.

    Args:
        name: for people.
        command: what to run, from the project's directory.
        environment: all of the command's environment.
        log: the file that receives its output; what was in it is dropped.
        ended: called with this object, in a thread of its own, when the command has ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        ended: Callable[[GuardedProcess], None],
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "example_project.demo", "guard", *command],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._waiter = threading.Thread(target=self._wait, args=(ended,), daemon=True)
        self._waiter.start()

    def _wait(self, ended: Callable[[GuardedProcess], None]) -> None:
        self._process.wait()
        ended(self)

    @property
    def exit_code(self) -> int | None:
        """The command's exit code; None while it runs."""
        return self._process.returncode

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to everything in the command's process group; nothing left there is fine."""
        # PermissionError is what macOS answers for a group that holds only processes which have ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end, at most ``timeout_seconds``; whether it came."""
        self._waiter.join(max(0.0, timeout_seconds))
        return not self._waiter.is_alive()

    def close(self) -> None:
        """Let go of the pipe that the guard watches: whatever is left of the group ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def tail(self) -> str:
        """The last lines of the log, indented."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"


class Processes:
    """All processes of one demo. Use as a context manager: leaving it stops everything, whatever happened.

    Args:
        directory: where the log files go.
        stop_seconds: how long a process may take to stop by itself before it is killed.
    """

    def __init__(self, directory: Path, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._directory = directory
        self._stop_seconds = stop_seconds
        # Reentrant: a signal handler puts into it while the main thread waits on it. None: somebody asked to stop.
        self._events: queue.SimpleQueue[GuardedProcess | None] = queue.SimpleQueue()
        self._processes: list[GuardedProcess] = []

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: under nohup
                signal.signal(number, self._request_stop)
        if os.isatty(0):
            threading.Thread(target=self._request_stop_at_hang_up, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._events.put(None)

    def _request_stop_at_hang_up(self) -> None:
        # When its window is closed, only the process that leads a terminal's session gets SIGHUP. That may be make,
        # which does not pass it on.
        terminal = select.poll()
        terminal.register(0, 0)
        if any(event & select.POLLHUP for _, event in terminal.poll()):
            self._events.put(None)

    def _next_ended(self, timeout_seconds: float | None) -> GuardedProcess | None:
        """The next process to end, or None after ``timeout_seconds``. Raises StopRequested."""
        try:
            event = self._events.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if event is None:
            raise StopRequested
        return event

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> GuardedProcess:
        """Start a command and return at once."""
        log = self._directory / f"{name}.log"
        process = GuardedProcess(name, command, environment, log, self._events.put)
        self._processes.append(process)
        return process

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a command to its end.

        Raises:
            DemoError: it failed.
            StopRequested: somebody asked to stop before its end.
        """
        process = self.start(name, command, environment)
        while self._next_ended(None) is not process:
            continue
        # Its number may belong to somebody else by the time that everything is stopped.
        self._processes.remove(process)
        process.close()
        if process.exit_code:
            raise DemoError(f"“{name}” failed with exit code {process.exit_code}:\n{process.tail()}")

    def start_and_wait(self, services: Sequence[Service], *, timeout_seconds: float = START_SECONDS) -> None:
        """Start all services and wait until every one answers.

        Raises:
            DemoError: one ended, or did not answer within ``timeout_seconds``.
            StopRequested: somebody asked to stop.
        """
        started = {service.name: self.start(service.name, service.command, service.environment) for service in services}
        waiting = {service.name: service.url for service in services}
        deadline = time.monotonic() + timeout_seconds
        while waiting:
            waiting = {name: url for name, url in waiting.items() if not _answers(url)}
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise DemoError(
                    "\n".join(
                        f"{name} did not answer at {url} within {timeout_seconds:g} seconds. The end of its log "
                        f"({started[name].log}):\n{started[name].tail()}"
                        for name, url in waiting.items()
                    )
                )
            self._fail_if_ended(self._next_ended(0.1))

    def watch(self) -> NoReturn:
        """Wait for ever.

        Raises:
            DemoError: a process ended.
            StopRequested: somebody asked to stop.
        """
        while True:
            self._fail_if_ended(self._next_ended(None))

    @staticmethod
    def _fail_if_ended(process: GuardedProcess | None) -> None:
        if process is not None:
            raise DemoError(
                f"{process.name} ended by itself with exit code {process.exit_code}. The end of its log "
                f"({process.log}):\n{process.tail()}"
            )

    def stop(self) -> None:
        """Stop everything: SIGTERM to every group, and SIGKILL to what is left of it after ``stop_seconds``."""
        for process in self._processes:
            process.signal_group(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        for process in self._processes:
            process.wait(deadline - time.monotonic())
        for process in self._processes:
            process.signal_group(signal.SIGKILL)
        for process in self._processes:
            process.wait(self._stop_seconds)
            process.close()
        self._processes.clear()


def guard(command: Sequence[str]) -> int:
    """Run ``command`` in this process's group, and end the group when standard input ends. Returns its exit code."""
    # What is sent to the group is meant for the command; the guard leaves when the command does. A handler, unlike
    # SIG_IGN, is not inherited by the command.
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        _say(f"cannot start {command[0]}: {error.strerror}")
        return 127

    demo_is_gone = threading.Event()

    def end_with_the_demo() -> None:
        while os.read(0, 1):
            pass
        demo_is_gone.set()
        os.killpg(0, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        os.killpg(0, signal.SIGKILL)

    watcher = threading.Thread(target=end_with_the_demo, daemon=True)
    watcher.start()
    code = process.wait()
    if demo_is_gone.is_set():  # whatever the command started may still be there
        watcher.join()
    return code if code >= 0 else 128 - code


def _answers(url: str) -> bool:
    """Whether something answers ``GET url`` with less than 500. No proxy is asked, no redirect followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    site: int
    provider: int
    sandbox: int


PORT_VARIABLES = {"DEMO_PORT": 8000, "DEMO_IDP_PORT": 9000, "DEMO_SANDBOX_PORT": 8900}


def choose_ports(environment: Mapping[str, str]) -> Ports:
    """Read the three ports and make sure that they are free.

    Raises:
        DemoError: one is not a port, is taken, or may not be used; the message names the variables to change.
    """
    chosen: dict[str, int] = {}
    in_use: list[str] = []
    for variable, default in PORT_VARIABLES.items():
        text = environment.get(variable) or str(default)
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise DemoError(f"{variable} must be a port number from 1 to 65535.")
        port = int(text)
        for other, taken in chosen.items():
            if port == taken:
                raise DemoError(f"{variable} and {other} are both {port}: give one of them another port.")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise DemoError(
                        f"Port {port} cannot be used ({error.strerror}). Choose another one with {variable}=… make demo"
                    ) from None
                in_use.append(variable)
        chosen[variable] = port
    if len(in_use) == 1:
        raise DemoError(f"Port {chosen[in_use[0]]} is in use. Choose another one with {in_use[0]}=… make demo")
    if in_use:
        *first, last = (str(chosen[variable]) for variable in in_use)
        raise DemoError(
            f"Ports {', '.join(first)} and {last} are in use: does a demo run already? "
            f"Choose others with {' '.join(f'{variable}=…' for variable in in_use)} make demo"
        )
    return Ports(chosen["DEMO_PORT"], chosen["DEMO_IDP_PORT"], chosen["DEMO_SANDBOX_PORT"])


def claim(directory: Path) -> TextIO:
    """Take a directory for one demo, until the file that is returned is closed, by the end of this process at the latest.

    Raises:
        DemoError: another demo has it; the message says where that one is.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (directory / "running").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            address = file.read()
        raise DemoError(
            f"A demo is running already, {f'at {address}' if address else f'in {directory}'}. "
            "Stop it with Ctrl-C where it was started.\n"
            "A second one needs a folder and ports of its own: "
            "DEMO_DIRECTORY=.demo/second DEMO_PORT=8001 DEMO_IDP_PORT=9001 DEMO_SANDBOX_PORT=8901 make demo\n"
            "Open it in a private window: a browser keeps one login for both."
        ) from None
    file.truncate(0)
    return file


def write_address(claimed: TextIO, ports: Ports) -> None:
    """Write down where the demo is, for whoever starts another one."""
    claimed.write(f"http://127.0.0.1:{ports.site}/")
    claimed.flush()


def variables_in(env_file: Path) -> frozenset[str]:
    """The names that an env file sets; none where there is no file."""
    if not env_file.exists():
        return frozenset()
    return frozenset(re.findall(r"^\s*(?:export\s+)?(\w+)\s*=", env_file.read_text(encoding="utf-8"), re.MULTILINE))


def append_missing(env_file: Path, makers: Mapping[str, Callable[[], str]]) -> list[str]:
    """Append the variables that neither ``env_file`` nor the environment has; what is there stays as it is.

    Args:
        env_file: made if missing, readable by us alone.
        makers: variable → what makes its value; called only if it is missing, after the ones before it are written.

    Returns:
        The names that were appended.
    """
    added = []
    for variable, make in makers.items():
        if variable in os.environ or variable in variables_in(env_file):
            continue
        value = make()
        env_file.touch(mode=0o600)
        text = env_file.read_text(encoding="utf-8")
        newline = "" if not text or text.endswith("\n") else "\n"
        with env_file.open("a", encoding="utf-8") as file:
            file.write(f"{newline}{variable}={value}\n")
        added.append(variable)
    return added


def _site_environment(ports: Ports, directory: Path, env_file: Path, client_secret: str) -> dict[str, str]:
    """The environment of the site and of its management commands."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DEBUG": "1",
        "PARTIUM_API_URL": f"http://127.0.0.1:{ports.sandbox}",
        "OIDC_OP_DISCOVERY_ENDPOINT": f"http://127.0.0.1:{ports.provider}/.well-known/openid-configuration",
        "OIDC_OP_NAME": "Demo identity provider",
        "OIDC_RP_CLIENT_ID": "example-site",
        "OIDC_RP_CLIENT_SECRET": client_secret,
        "OIDC_RP_SCOPES": "openid email profile",
        "OIDC_AUTH_REQUEST_EXTRA_PARAMS": json.dumps({"claims": CLAIMS_PARAMETER}),
        "PARTIUM_ORGANIZATIONS_CLAIM": ORGANIZATIONS_CLAIM,
        "PARTIUM_ROLES_CLAIM": ROLES_CLAIM,
        "PARTIUM_PASSWORD_ORGANIZATION": ACME,
        # Logs are read while the demo runs.
        "PYTHONUNBUFFERED": "1",
        # A proxy for the internet is no way to this machine's own ports.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    if "DATABASE_URL" not in {*os.environ, *variables_in(env_file)}:
        environment["DATABASE_URL"] = f"sqlite:///{quote(str(directory / 'db.sqlite3'))}"
    return environment


def choose_token_minutes(environment: Mapping[str, str]) -> int:
    """Read ``DEMO_TOKEN_MINUTES``. Raises DemoError: it is no number of minutes from 1 to 60."""
    text = environment.get("DEMO_TOKEN_MINUTES") or "10"
    if not text.isdecimal() or not 1 <= int(text) <= 60:
        raise DemoError("DEMO_TOKEN_MINUTES must be a whole number from 1 to 60.")
    return int(text)


def _services(ports: Ports, directory: Path, environment: Mapping[str, str], token_minutes: int) -> list[Service]:
    issuer = f"http://127.0.0.1:{ports.provider}"
    provider = [sys.executable, "-m", "example_project.demo_provider", "--port", str(ports.provider)]
    provider += ["--directory", str(directory / "provider")]
    provider += ["--access-token-minutes", str(token_minutes)]
    for host in ("127.0.0.1", "localhost"):
        provider += ["--callback-url", f"http://{host}:{ports.site}{CALLBACK_PATH}"]
    sandbox = [sys.executable, "-m", "partium_auth.testing.sandbox", "--port", str(ports.sandbox)]
    sandbox += ["--oidc-issuer", issuer, "--oidc-claim", ORGANIZATIONS_CLAIM, "--oidc-audience", AUDIENCE]
    sandbox += ["--lifetime", str(token_minutes * 60), "--verbose"]
    site = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{ports.site}"]
    return [
        Service("provider", provider, f"{issuer}/.well-known/openid-configuration", environment),
        Service("sandbox", sandbox, f"http://127.0.0.1:{ports.sandbox}/", environment),
        Service("site", site, f"http://127.0.0.1:{ports.site}/", environment),
    ]


def _welcome(ports: Ports, cast: Cast, directory: Path) -> str:
    width = max(len(person.username) for person in cast.people) + 2
    people = "\n".join(
        f"    {person.username:<{width}}{person.email:<22}{person.description}" for person in cast.people
    )
    return f"""
The demo is running.

  The site            http://127.0.0.1:{ports.site}/
  Its API keys        http://127.0.0.1:{ports.site}/keys/     for developers
  Its stock admin     http://127.0.0.1:{ports.site}/admin/    for “{cast.operator_username}”, the superuser
  Partium sandbox     http://127.0.0.1:{ports.sandbox}/

  Sign in as (everybody's password is “{cast.password}”):
{people}

  Or with a Partium account: {ACME_USERNAME}, password “{ACME_PASSWORD}”

  Logs are in {directory}. Stop with Ctrl-C."""


def _say(text: str) -> None:
    # After a hang-up there is no terminal to write to, and stopping must go on all the same.
    with contextlib.suppress(OSError):
        print(text, flush=True)


def supervise(
    processes: Processes,
    preparations: Mapping[str, Sequence[str]],
    services: Sequence[Service],
    environment: Mapping[str, str],
    welcome: str,
    *,
    start_seconds: float = START_SECONDS,
) -> int:
    """Run the preparations one after the other, then the services until somebody stops them or one of them ends.

    Args:
        processes: not entered yet.
        preparations: name → command, run to its end.
        services: started together when the preparations are done.
        environment: of the preparations.
        welcome: said when every service answers.
        start_seconds: how long the services may take until they answer.

    Returns:
        The exit code: 0 if somebody stopped the demo, 1 if something went wrong.
    """
    try:
        with processes:
            for name, command in preparations.items():
                processes.run(name, command, environment)
            processes.start_and_wait(services, timeout_seconds=start_seconds)
            _say(welcome)
            processes.watch()
    except StopRequested:
        _say("\nStopped.")
        return 0
    except DemoError as error:
        _say(f"\n{error}")
        return 1


def main() -> int:
    """Run the demo until it is stopped. Returns the exit code."""
    directory = ROOT / (os.environ.get("DEMO_DIRECTORY") or ".demo")
    env_file = ROOT / (os.environ.get("DJANGO_ENV_FILE") or ".env")
    manage = [sys.executable, "manage.py"]
    try:
        claimed = claim(directory)
        ports = choose_ports(os.environ)
        write_address(claimed, ports)
        token_minutes = choose_token_minutes(os.environ)
        environment = _site_environment(ports, directory, env_file, secrets.token_urlsafe(32))

        def encryption_key() -> str:
            command = [*manage, "partium_generate_encryption_key"]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise DemoError(f"manage.py partium_generate_encryption_key failed:\n{done.stderr}")
            return done.stdout.strip()

        added = append_missing(
            env_file,
            {"DJANGO_SECRET_KEY": lambda: secrets.token_urlsafe(50), "PARTIUM_ENCRYPTION_KEYS": encryption_key},
        )
    except DemoError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 0
    if added:
        _say(f"Wrote {' and '.join(added)} to {env_file.name}.")
    _say("Starting the demo …")
    with claimed:
        return supervise(
            Processes(directory),
            {"migrate": [*manage, "migrate", "--noinput"], "seed": [*manage, "seed_demo"]},
            _services(ports, directory, environment, token_minutes),
            environment,
            _welcome(ports, read_cast(), directory),
        )


if __name__ == "__main__":
    sys.exit(guard(sys.argv[2:]) if sys.argv[1:2] == ["guard"] else main())
