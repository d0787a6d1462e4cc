"""The demo starts everything, stops everything and leaves nothing behind: real processes, stand-ins for the real ones."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_project import demo
from tests.demo.processes import DEADLINE_SECONDS, ROOT, eventually, free_port

pytestmark = pytest.mark.processes


def is_running(pid: int) -> bool:
    try:
        # The state follows the command's name in brackets; a zombie has ended and waits for its parent to notice.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class StandInDemo:
    """A demo of stand-ins in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory / "output"
        self.services: dict[str, tuple[int, str]] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def service(self, name: str, role: str = "serve") -> StandInDemo:
        self.services[name] = (free_port(), role)
        return self

    def start(
        self, *, terminal: int | None = None, start_seconds: float = DEADLINE_SECONDS, stop_seconds: float = 60
    ) -> StandInDemo:
        plan = {
            "directory": str(self.directory),
            "services": self.services,
            "start_seconds": start_seconds,
            "stop_seconds": stop_seconds,
        }
        path = self.directory / "plan.json"
        path.write_text(json.dumps(plan))
        command = [sys.executable, "-m", "tests.demo.stand_ins", "demo", str(path)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command if terminal is None else ["setsid", "--ctty", *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=output,
                stderr=output,
            )
        return self

    def start_until_up(self, *, terminal: int | None = None, stop_seconds: float = 60) -> StandInDemo:
        self.start(terminal=terminal, stop_seconds=stop_seconds)
        assert self.process is not None
        process = self.process
        eventually(lambda: "everything is up" in self.said() or process.poll() is not None, self.said)
        assert "everything is up" in self.said()
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE_SECONDS)

    def said(self) -> str:
        return self.output.read_text()

    def pids(self) -> set[int]:
        file = self.directory / "pids"
        return {int(line) for line in file.read_text().split()} if file.exists() else set()

    def running(self) -> set[int]:
        return {pid for pid in self.pids() if is_running(pid)}


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandInDemo]:
    stand_in_demo = StandInDemo(tmp_path)
    yield stand_in_demo
    if stand_in_demo.process is not None:
        stand_in_demo.process.kill()
        stand_in_demo.process.wait(DEADLINE_SECONDS)
    for pid in stand_in_demo.running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_starts_everything_and_a_signal_stops_all_of_it(stand_ins: StandInDemo, number: signal.Signals) -> None:
    stand_ins.service("provider").service("sandbox").service("site").start_until_up()
    assert len(stand_ins.running()) == 3
    stand_ins.signal(number)
    assert stand_ins.wait() == 0
    assert stand_ins.said() == "everything is up\nStopped.\n"
    assert stand_ins.running() == set()


def test_ctrl_c_ends_the_services_too_and_is_no_fault_of_theirs(stand_ins: StandInDemo) -> None:
    window, terminal = os.openpty()
    stand_ins.service("provider").service("sandbox").service("site").start_until_up(terminal=terminal)
    os.write(window, b"\x03")
    assert stand_ins.wait() == 0
    assert stand_ins.said() == "everything is up\nStopped.\n"
    assert stand_ins.running() == set()
    os.close(terminal)
    os.close(window)


def test_closing_the_terminal_stops_all_of_it(stand_ins: StandInDemo) -> None:
    window, terminal = os.openpty()
    stand_ins.service("provider").service("site").start_until_up(terminal=terminal)
    os.close(terminal)
    os.close(window)
    eventually(lambda: not stand_ins.running(), lambda: "something is left")
    assert stand_ins.wait() == -signal.SIGHUP


def test_what_does_not_stop_by_itself_is_killed(stand_ins: StandInDemo) -> None:
    stand_ins.service("deaf", "serve-deaf").service("site").start_until_up(stop_seconds=0.2)
    stand_ins.signal(signal.SIGTERM)
    assert stand_ins.wait() == 0
    assert stand_ins.running() == set()


def test_a_signal_before_everything_is_up_stops_it(stand_ins: StandInDemo) -> None:
    stand_ins.service("site").service("silent", "linger").start()
    eventually(lambda: len(stand_ins.pids()) == 2, lambda: "the services do not start")
    stand_ins.signal(signal.SIGTERM)
    assert stand_ins.wait() == 0
    assert stand_ins.said() == "Stopped.\n"
    assert stand_ins.running() == set()


def test_when_one_dies_it_says_which_and_stops_the_others(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").start_until_up()
    (provider,) = stand_ins.pids()
    os.kill(provider, signal.SIGKILL)
    assert stand_ins.wait() == 1
    assert "The provider ended with exit code -9" in stand_ins.said()
    assert str(stand_ins.directory / "provider.log") in stand_ins.said()


def test_a_service_that_fails_at_once_is_named_with_the_end_of_its_log(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").service("sandbox", "fail").start()
    assert stand_ins.wait() == 1
    assert "The sandbox ended with exit code 3" in stand_ins.said()
    assert "    the reason is in the log" in stand_ins.said()
    assert "everything is up" not in stand_ins.said()
    assert stand_ins.running() == set()


@pytest.mark.parametrize("role", ["linger", "serve-errors"])
def test_a_service_that_never_answers_is_named_with_its_log(stand_ins: StandInDemo, role: str) -> None:
    stand_ins.service("site", role).start(start_seconds=3)
    assert stand_ins.wait() == 1
    assert "The site does not answer at http://127.0.0.1:" in stand_ins.said()
    assert str(stand_ins.directory / "site.log") in stand_ins.said()
    assert stand_ins.running() == set()


def run_demo(directory: Path, ports: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "example_project.demo"],
        cwd=ROOT,
        env={**os.environ, **ports, "DEMO_DIRECTORY": str(directory)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_ports_in_use_end_the_demo_with_a_command_that_chooses_others(tmp_path: Path) -> None:
    ports = {name: str(free_port()) for name in demo.DEFAULT_PORTS}
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        site, sandbox = (int(taken.getsockname()[1]) for taken in (one, other))
        done = run_demo(tmp_path, {**ports, "DEMO_PORT": str(site), "DEMO_SANDBOX_PORT": str(sandbox)})
    assert done.returncode == 1
    assert f"{site} (DEMO_PORT), {sandbox} (DEMO_SANDBOX_PORT)." in done.stdout
    assert f"DEMO_PORT={site + 1} DEMO_SANDBOX_PORT={sandbox + 1} make demo" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the log files of the other demo are there"


def test_two_of_the_three_cannot_share_a_port() -> None:
    port = str(free_port())
    with pytest.raises(demo.DemoError, match=rf"{port} \(DEMO_IDP_PORT\)"):
        demo.choose_ports({"DEMO_PORT": port, "DEMO_IDP_PORT": port, "DEMO_SANDBOX_PORT": str(free_port())})


def test_free_ports_are_used_as_they_are() -> None:
    chosen = {name: free_port() for name in demo.DEFAULT_PORTS}
    assert demo.choose_ports({name: str(port) for name, port in chosen.items()}) == chosen


def test_the_secrets_are_written_once_and_only_we_can_read_them(tmp_path: Path) -> None:
    file = tmp_path / "env"
    demo.write_secrets(file)
    written = file.read_text()
    demo.write_secrets(file)
    assert file.read_text() == written
    assert {line.partition("=")[0] for line in written.splitlines()} == {"DJANGO_SECRET_KEY", "PARTIUM_ENCRYPTION_KEYS"}
    assert file.stat().st_mode & 0o077 == 0
