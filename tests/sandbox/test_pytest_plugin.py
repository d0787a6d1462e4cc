"""The fixtures that a site gets, and that having them costs nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from partium_auth.testing.sandbox import ACME_KEY, PartiumSandbox

from .conftest import Caller

_seen: list[PartiumSandbox] = []


@pytest.mark.parametrize("run", [1, 2])
def test_every_test_gets_the_same_server_as_new(partium_sandbox: PartiumSandbox, caller: Caller, run: int) -> None:
    assert partium_sandbox.calls() == []
    assert partium_sandbox.settings()["lifetime_seconds"] == 600
    assert caller.exchange(ACME_KEY).status_code == 200
    partium_sandbox.settings(lifetime_seconds=run)
    partium_sandbox.revoke_key(ACME_KEY)
    partium_sandbox.fail()
    _seen.append(partium_sandbox)
    assert len({sandbox.url for sandbox in _seen}) == 1


@pytest.fixture
def api_url_before() -> Iterator[object]:
    from django.conf import settings

    before = getattr(settings, "PARTIUM_API_URL", None)
    yield before
    assert getattr(settings, "PARTIUM_API_URL", None) == before


def test_django_points_to_it_for_the_test_only(api_url_before: object, partium_sandbox: PartiumSandbox) -> None:
    from django.conf import settings

    assert getattr(settings, "PARTIUM_API_URL", None) == partium_sandbox.url


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("partium_auth.testing.pytest_plugin", ["django", "requests", "cryptography", "jwt", "http.server"]),
        ("partium_auth.testing.sandbox", ["django", "requests", "cryptography", "jwt"]),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str, unwanted: list[str]) -> None:
    code = f"import sys, pytest; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stdout.split()
    assert module in loaded
    assert not [name for name in unwanted if name in loaded]


def test_it_works_where_there_is_no_django(tmp_path: Path) -> None:
    """A whole test run of another project without pytest-django."""
    (tmp_path / "test_it.py").write_text("def test_it(partium_sandbox):\n    assert partium_sandbox.count() == 0\n")
    options = [
        "-p",
        "no:django",
        "-p",
        "no:partium_auth",
        "-p",
        "partium_auth.testing.pytest_plugin",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
