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
        self.pids_file = directory / "pids"
        self.output = directory / "output"
        self.plan: dict[str, object] = {
            "directory": str(directory / "logs"),
            "start_seconds": DEADLINE_SECONDS,
            "stop_seconds": DEADLINE_SECONDS,
            "under_nohup": False,
            "preparations": {},
        }
        self.services: dict[str, list[object]] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def service(self, name: str, role: str = "serve") -> StandInDemo:
        port = free_port()
        arguments = [str(port), str(self.pids_file)] if role.startswith("serve") else [str(self.pids_file)]
        self.services[name] = [port, role, *arguments]
        return self

    def start(self, *, terminal: int | None = None, **plan: object) -> StandInDemo:
        path = self.directory / "plan.json"
        path.write_text(json.dumps({**self.plan, "services": self.services, **plan}))
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.demo.stand_ins", "demo", str(path)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def start_until_up(self, *, terminal: int | None = None, **plan: object) -> StandInDemo:
        self.start(terminal=terminal, **plan)
        eventually(lambda: "everything is up" in self.said() or self.exit_code() is not None, self.said)
        assert "everything is up" in self.said()
        return self

    def exit_code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE_SECONDS)

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def pids(self) -> set[int]:
        """The services and their guards, grandchildren included."""
        return {int(line) for line in self.pids_file.read_text().split()} if self.pids_file.exists() else set()

    def running(self) -> set[int]:
        return {pid for pid in self.pids() if is_running(pid)}


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandInDemo]:
    stand_in_demo = StandInDemo(tmp_path)
    yield stand_in_demo
    if stand_in_demo.process is not None and stand_in_demo.process.poll() is None:
        stand_in_demo.process.kill()
        stand_in_demo.process.wait(DEADLINE_SECONDS)
    for pid in stand_in_demo.running():
        with contextlib.suppress(ProcessLookupError):  # it ends by itself, too
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", demo.STOP_SIGNALS, ids=lambda number: number.name)
def test_it_starts_everything_and_a_signal_stops_all_of_it(stand_ins: StandInDemo, number: signal.Signals) -> None:
    stand_ins.service("provider").service("sandbox").service("site").start_until_up()
    assert len(stand_ins.running()) == 6  # three services, three guards
    stand_ins.signal(number)
    assert stand_ins.wait() == 0
    assert "Stopped." in stand_ins.said()
    assert stand_ins.running() == set()


def test_closing_the_terminal_stops_it_without_any_signal(stand_ins: StandInDemo) -> None:
    window, terminal = os.openpty()
    stand_ins.service("site").start_until_up(terminal=terminal)
    os.close(terminal)
    os.close(window)
    assert stand_ins.wait() == 0
    assert stand_ins.running() == set()


def test_under_nohup_a_hang_up_does_not_stop_it(stand_ins: StandInDemo) -> None:
    stand_ins.service("site").start_until_up(under_nohup=True)
    assert stand_ins.process is not None
    status = Path(f"/proc/{stand_ins.process.pid}/status").read_text()
    (ignored,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    assert ignored & 1 << (signal.SIGHUP - 1)


def test_every_service_has_a_process_group_of_its_own(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").service("site").start_until_up()
    assert stand_ins.process is not None
    groups = {os.getpgid(pid) for pid in stand_ins.running()}
    assert len(groups) == 2
    assert os.getpgid(stand_ins.process.pid) not in groups


def test_what_does_not_stop_by_itself_is_killed(stand_ins: StandInDemo) -> None:
    stand_ins.service("deaf", "serve-deaf").service("site", "serve-with-deaf-child").start_until_up(stop_seconds=0.2)
    eventually(lambda: len(stand_ins.pids()) == 5, lambda: "the grandchild does not start")
    stand_ins.signal(signal.SIGTERM)
    assert stand_ins.wait() == 0
    eventually(lambda: not stand_ins.running(), lambda: "something is left")


def test_a_killed_demo_leaves_nothing_running(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").service("site", "serve-with-deaf-child").start_until_up()
    eventually(lambda: len(stand_ins.pids()) == 5, lambda: "the grandchild does not start")
    stand_ins.signal(signal.SIGKILL)
    assert stand_ins.wait() == -signal.SIGKILL
    eventually(lambda: not stand_ins.running(), lambda: "something is left")


def test_a_demo_killed_while_it_starts_leaves_nothing_running(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").service("silent", "linger").start()
    eventually(lambda: len(stand_ins.pids()) == 4, lambda: "the services do not start")
    stand_ins.signal(signal.SIGKILL)
    stand_ins.wait()
    eventually(lambda: not stand_ins.running(), lambda: "something is left")


def test_when_one_dies_it_says_which_and_stops_the_others(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").start_until_up()
    (service,) = stand_ins.pids() - {os.getpgid(pid) for pid in stand_ins.pids()}
    os.kill(service, signal.SIGKILL)
    assert stand_ins.wait() == 1
    assert "provider ended by itself with exit code 137" in stand_ins.said()
    assert stand_ins.running() == set()


def test_a_guard_that_is_killed_takes_its_service_with_it(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").service("site").start_until_up()
    guards = {os.getpgid(pid) for pid in stand_ins.pids()}
    os.kill(min(guards), signal.SIGKILL)
    assert stand_ins.wait() == 1
    eventually(lambda: not stand_ins.running(), lambda: "something is left")


def test_a_service_that_fails_at_once_is_named_with_the_end_of_its_log(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider")
    stand_ins.services["sandbox"] = [free_port(), "fail", "3"]
    stand_ins.start()
    assert stand_ins.wait() == 1
    assert "sandbox ended by itself with exit code 3" in stand_ins.said()
    assert "    the reason is in the log" in stand_ins.said()
    assert "everything is up" not in stand_ins.said()
    assert stand_ins.running() == set()


def test_a_service_that_never_answers_is_named_with_the_end_of_its_log(stand_ins: StandInDemo) -> None:
    stand_ins.service("provider").service("silent", "linger").start(start_seconds=2)
    assert stand_ins.wait() == 1
    assert "silent did not answer at http://127.0.0.1:" in stand_ins.said()
    assert "    lingering" in stand_ins.said()
    assert "provider did not answer" not in stand_ins.said()
    assert stand_ins.running() == set()


def test_an_answer_of_500_is_no_sign_of_life(stand_ins: StandInDemo) -> None:
    stand_ins.service("site", "serve-errors").start(start_seconds=2)
    assert stand_ins.wait() == 1
    assert "site did not answer" in stand_ins.said()


def test_preparations_run_to_their_end_one_after_the_other(stand_ins: StandInDemo, tmp_path: Path) -> None:
    preparations = {"migrate": ["touch", str(tmp_path / "first")], "seed": ["touch", str(tmp_path / "second")]}
    stand_ins.service("site").start_until_up(preparations=preparations)
    assert (tmp_path / "first").stat().st_mtime_ns < (tmp_path / "second").stat().st_mtime_ns


def test_a_failed_preparation_shows_why_and_starts_nothing(stand_ins: StandInDemo) -> None:
    stand_ins.service("site").start(preparations={"migrate": ["fail", "2"]})
    assert stand_ins.wait() == 1
    assert "“migrate” failed with exit code 2:\n    the reason is in the log" in stand_ins.said()
    assert stand_ins.pids() == set()


def test_a_signal_during_a_preparation_stops_it(stand_ins: StandInDemo) -> None:
    stand_ins.service("site").start(preparations={"migrate": ["linger", str(stand_ins.pids_file)]})
    eventually(lambda: len(stand_ins.pids()) == 2, lambda: "the preparation does not start")
    stand_ins.signal(signal.SIGINT)
    assert stand_ins.wait() == 0
    assert stand_ins.running() == set()
    assert "everything is up" not in stand_ins.said()


def test_a_command_that_does_not_exist_is_said_in_its_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "example_project.demo", "guard", str(tmp_path / "nothing")],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 127
    assert "cannot start" in done.stdout


def run_demo(directory: Path, ports: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The real demo, where it comes to its end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "example_project.demo"],
        cwd=ROOT,
        env={**os.environ, **ports, "DEMO_DIRECTORY": str(directory), "DJANGO_ENV_FILE": str(directory / "env")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_a_second_demo_names_the_first_and_leaves_its_files_alone(tmp_path: Path) -> None:
    log = tmp_path / "site.log"
    log.write_text("of the first")
    ports = {name: str(free_port()) for name in demo.PORT_VARIABLES}
    with demo.claim(tmp_path) as claimed:
        demo.write_address(claimed, demo.Ports(8123, 9000, 8900))
        done = run_demo(tmp_path, ports)
    assert done.returncode == 1
    assert "A demo is running already, at http://127.0.0.1:8123/" in done.stdout
    assert "DEMO_DIRECTORY=" in done.stdout
    assert log.read_text() == "of the first"
    assert {path.name for path in tmp_path.iterdir()} == {"site.log", "running"}


def test_a_demo_that_has_just_been_started_has_no_address_yet(tmp_path: Path) -> None:
    with demo.claim(tmp_path), pytest.raises(demo.DemoError, match="A demo is running already, in "):
        demo.claim(tmp_path)


def test_what_a_demo_left_behind_stops_no_other(tmp_path: Path) -> None:
    with demo.claim(tmp_path) as claimed:
        demo.write_address(claimed, demo.Ports(8123, 9000, 8900))
    with demo.claim(tmp_path) as claimed:
        claimed.seek(0)
        assert claimed.read() == ""


@pytest.mark.parametrize("variable", list(demo.PORT_VARIABLES))
def test_a_taken_port_ends_the_demo_with_the_variable_to_change(variable: str, tmp_path: Path) -> None:
    ports = {name: str(free_port()) for name in demo.PORT_VARIABLES}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[variable] = str(taken.getsockname()[1])
        done = run_demo(tmp_path, ports)
    assert done.returncode == 1
    assert done.stdout == f"Port {ports[variable]} is in use. Choose another one with {variable}=… make demo\n"


def test_ports_that_another_demo_has_are_named_all_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        site, sandbox = (str(taken.getsockname()[1]) for taken in (one, other))
        chosen = {"DEMO_PORT": site, "DEMO_IDP_PORT": str(free_port()), "DEMO_SANDBOX_PORT": sandbox}
        with pytest.raises(demo.DemoError) as caught:
            demo.choose_ports(chosen)
    assert str(caught.value) == (
        f"Ports {site} and {sandbox} are in use: does a demo run already? "
        "Choose others with DEMO_PORT=… DEMO_SANDBOX_PORT=… make demo"
    )


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "80.5"])
def test_what_is_no_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(demo.DemoError, match="DEMO_IDP_PORT must be a port number"):
        demo.choose_ports({"DEMO_PORT": str(free_port()), "DEMO_IDP_PORT": text})


def test_two_of_the_three_cannot_share_a_port() -> None:
    port = str(free_port())
    with pytest.raises(demo.DemoError, match=f"DEMO_IDP_PORT and DEMO_PORT are both {port}"):
        demo.choose_ports({"DEMO_PORT": port, "DEMO_IDP_PORT": port})


def test_free_ports_are_taken_as_they_are() -> None:
    site, provider, sandbox = free_port(), free_port(), free_port()
    chosen = demo.choose_ports(
        {"DEMO_PORT": str(site), "DEMO_IDP_PORT": str(provider), "DEMO_SANDBOX_PORT": str(sandbox)}
    )
    assert chosen == demo.Ports(site, provider, sandbox)


def test_tokens_live_ten_minutes_or_as_long_as_somebody_says() -> None:
    assert demo.choose_token_minutes({}) == 10
    assert demo.choose_token_minutes({"DEMO_TOKEN_MINUTES": "1"}) == 1


@pytest.mark.parametrize("text", ["0", "61", "1.5", "long"])
def test_what_is_no_lifetime_is_refused_by_name(text: str) -> None:
    with pytest.raises(demo.DemoError, match="DEMO_TOKEN_MINUTES"):
        demo.choose_token_minutes({"DEMO_TOKEN_MINUTES": text})


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("FIRST", "SECOND"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / ".env"


def test_a_missing_env_file_is_made_for_our_eyes_only(env_file: Path) -> None:
    assert demo.append_missing(env_file, {"FIRST": lambda: "1", "SECOND": lambda: "2"}) == ["FIRST", "SECOND"]
    assert env_file.read_text() == "FIRST=1\nSECOND=2\n"
    assert env_file.stat().st_mode & 0o077 == 0


def test_what_the_env_file_has_stays_as_it_is(env_file: Path) -> None:
    env_file.write_text("# mine\nexport FIRST = kept\n#SECOND=commented out\nOTHER=x")
    assert demo.append_missing(env_file, {"FIRST": lambda: "1", "SECOND": lambda: "2"}) == ["SECOND"]
    assert env_file.read_text() == "# mine\nexport FIRST = kept\n#SECOND=commented out\nOTHER=x\nSECOND=2\n"


def test_a_second_run_changes_nothing_and_makes_no_value(env_file: Path) -> None:
    demo.append_missing(env_file, {"FIRST": lambda: "1"})
    assert demo.append_missing(env_file, {"FIRST": lambda: pytest.fail("made again")}) == []


def test_what_the_environment_has_is_not_written_down(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "from outside")
    assert demo.append_missing(env_file, {"FIRST": lambda: "1"}) == []
    assert not env_file.exists()


def test_each_value_may_need_the_ones_before_it(env_file: Path) -> None:
    demo.append_missing(env_file, {"FIRST": lambda: "1", "SECOND": lambda: str(len(env_file.read_text()))})
    assert env_file.read_text() == "FIRST=1\nSECOND=8\n"


def test_a_services_environment_is_not_shown() -> None:
    assert "hot" not in repr(demo.Service("site", ["run"], "http://127.0.0.1:1/", {"OIDC_RP_CLIENT_SECRET": "hot"}))
