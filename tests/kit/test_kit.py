"""What a site's own tests use: ``partium_auth.testing``, run as such a site runs it, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import partium_auth
from partium_auth import services
from partium_auth.models import Organization
from partium_auth.testing.sandbox import PartiumSandbox

RUNNERS = {
    "django": ["-m", "django", "test", "tests.kit", "--pattern", "cases.py"],
    "pytest": [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "tests/kit/with_pytest.py",
        "tests/kit/cases.py",
    ],
}


ROOT = Path(__file__).parents[2]


@pytest.mark.processes
@pytest.mark.parametrize("runner", RUNNERS)
def test_the_tests_of_a_site_with_axes_and_required_columns(runner: str) -> None:
    run_tests(*RUNNERS[runner])


@pytest.mark.processes
def test_the_examples_of_the_page_about_testing_run(tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/testing.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for number, example in enumerate(examples):
        (tmp_path / f"test_example_{number}.py").write_text(example)
    run_tests("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path))


def run_tests(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_"))}
    environment["DJANGO_SETTINGS_MODULE"] = "tests.kit.site"
    python = [sys.executable, "-W", "error"]
    run = subprocess.run([*python, *command], capture_output=True, text=True, env=environment, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]


def use_a_key_added_now(sandbox: PartiumSandbox) -> None:
    acme = Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
    services.add_key(acme, sandbox.add_key("acme"), label="x", actor=None)
    assert partium_auth.for_organization("acme").search(text="fan").results


@pytest.mark.django_db
def test_tokens_are_refreshed_in_the_tests_own_transaction(partium_sandbox: PartiumSandbox, settings: Any) -> None:
    """A thread would not see the key: the exchange would be waited for in vain, 5 s."""
    assert settings.PARTIUM_EXECUTOR == "inline"
    use_a_key_added_now(partium_sandbox)


@pytest.mark.django_db(transaction=True)
def test_where_a_test_commits_tokens_are_refreshed_as_the_settings_say(
    partium_sandbox: PartiumSandbox, settings: Any
) -> None:
    assert not hasattr(settings, "PARTIUM_EXECUTOR")
    use_a_key_added_now(partium_sandbox)


def test_a_checkpoint_is_what_a_reset_goes_back_to() -> None:
    with PartiumSandbox.start() as sandbox:
        sandbox.add_organization("initech")
        key = sandbox.add_key("initech")
        sandbox.settings(lifetime_seconds=60)
        sandbox.checkpoint()
        sandbox.revoke_key(key)
        sandbox.settings(lifetime_seconds=5)
        sandbox.add_user("eve", "x", "initech")
        sandbox.reset()
        described = sandbox.describe()
        assert [(one["organization"], one["revoked"]) for one in described["keys"]][-1] == ("initech", False)
        assert described["settings"]["lifetime_seconds"] == 60
        assert "eve" not in str(described["users"])
