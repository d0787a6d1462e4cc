"""``python -m partium_auth.testing.sandbox`` as a process."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from partium_auth.testing.sandbox import ACME_KEY, SandboxControl

from .conftest import Caller

pytestmark = pytest.mark.processes


@contextmanager
def _running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the line it printed when it was ready."""
    command = [sys.executable, "-m", "partium_auth.testing.sandbox", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()


def _url(ready: str) -> str:
    assert ready.startswith("Partium sandbox ready at http://127.0.0.1:"), ready
    return ready.split()[4]


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "partium_auth.testing.sandbox", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_serves_and_stops_cleanly(number: signal.Signals) -> None:
    with _running("--port", "0") as (process, ready):
        assert ready.endswith("(organizations: acme, globex)")
        caller = Caller(_url(ready))
        with caller.session:
            assert caller.exchange(ACME_KEY).status_code == 200
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_it_stops_while_a_call_hangs() -> None:
    with _running("--port", "0") as (process, ready):
        url = _url(ready)
        hang = SandboxControl(url).hang("auth")
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /auth HTTP/1.1\r\nHost: x\r\n\r\n")
            hang.wait_until_met()
            process.terminate()
            _, errors = process.communicate(timeout=30)
            assert connection.recv(100) == b""
    assert (process.returncode, errors) == (0, "")


def test_a_port_that_does_not_exist_is_said_clearly() -> None:
    done = _run("--port", "70000")
    assert done.returncode == 1
    assert "did not start" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said_clearly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run("--port", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "not a JSON object"),
        ('{"users": [{"username": "u", "password": "hidden", "organizations": ["nowhere"]}]}', "users[0]"),
    ],
)
def test_a_seed_file_that_is_not_usable_is_said_clearly(tmp_path: Path, content: str | None, message: str) -> None:
    seed_file = tmp_path / "seed.json"
    if content is not None:
        seed_file.write_text(content)
    done = _run("--port", "0", "--seed-file", str(seed_file))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert ("hidden" in done.stderr) is False


def test_options_and_seed_file_are_applied(tmp_path: Path) -> None:
    seed_file = tmp_path / "seed.json"
    seed_file.write_text(
        json.dumps(
            {
                "settings": {"lifetime_seconds": 50, "naming": "camel"},
                "issuers": [{"url": "https://idp.example", "organizations": ["initech"]}],
                "organizations": [{"org_id": "initech"}],
                "keys": [{"organization": "initech", "value": "the-key-of-initech"}],
            }
        )
    )
    options = ["--set", "lifetime_seconds=30", "--set", "token_format=jwt", "--set", "rotate=false"]
    with _running("--port", "0", "--seed-file", str(seed_file), "--verbose", *options) as (process, ready):
        assert ready.endswith("(organizations: initech)")
        url = _url(ready)
        settings = SandboxControl(url).settings()
        caller = Caller(url)
        with caller.session:
            assert caller.exchange("the-key-of-initech").json()["expiresIn"] == 30
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert settings["token_format"] == "jwt"
    assert settings["rotate"] is False
    assert settings["naming"] == "camel"
    assert errors.splitlines() == ["POST /_sandbox/settings 200", "POST /1/auth 200"]


@pytest.mark.parametrize("setting", ["lifetime_seconds=soon", "lifetime_seconds=-1", "lifetime_seconds", "lifetime=5"])
def test_an_impossible_setting_is_refused(setting: str) -> None:
    done = _run("--port", "0", "--set", setting)
    assert done.returncode == 1
    assert "lifetime_seconds" in done.stderr
    assert "Traceback" not in done.stderr
