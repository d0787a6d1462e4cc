"""``make walkthrough`` against the running demo, and without one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from tests.demo.processes import DEADLINE_SECONDS, ROOT, free_port
from tests.example.running_demo import RunningDemo

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with RunningDemo(tmp_path_factory.mktemp("walkthrough")) as running:
        yield running


def walk_through(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "example_project.walkthrough"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=3 * DEADLINE_SECONDS
    )


def test_every_step_succeeds_says_what_happened_upstream_and_no_credential(demo: RunningDemo) -> None:
    done = walk_through(demo.environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^ ?\d+  ", done.stdout, re.MULTILINE)) == 8
    assert "upstream: POST /1/auth with the API key → 200" in done.stdout
    assert "upstream: POST /1/find/search with an access token, for one person of many → 200" in done.stdout
    assert "refreshed in the background while the old one was still served" in done.stdout
    assert demo.sandbox.settings()["lifetime_seconds"] == 600, "the sandbox is left as it was"
    assert not re.search(r"[A-Za-z0-9_-]{30,}|eyJ|sandbox-key", done.stdout), "this looks like a credential"


def test_a_step_that_fails_is_named_and_ends_the_walk(demo: RunningDemo) -> None:
    with demo.sandbox.fail("search", status=503):
        done = walk_through(demo.environment)

    assert done.returncode == 1
    assert "3  Ada searches" in done.stdout
    assert "FAILED: GET" in done.stdout
    assert "answered 503" in done.stdout
    assert "upstream: POST /1/find/search with an access token of the identity provider → 503" in done.stdout
    assert "Ada searches by photo" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_without_a_demo_it_says_how_to_start_one(demo: RunningDemo) -> None:
    port = str(free_port())
    done = walk_through({**demo.environment, "DEMO_PORT": port, "DEMO_SANDBOX_PORT": port})

    assert done.returncode == 2
    assert "make demo" in done.stdout
    assert "DEMO_PORT" in done.stdout
