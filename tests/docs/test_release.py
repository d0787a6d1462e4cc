"""The workflows name what the repository has, and what is built is checked before it is published."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from partium_auth.version import __version__

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = [*ROOT.glob(".github/workflows/*.yml")]

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="the source distribution has no workflows")


@pytest.fixture
def check_dist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_dist", ROOT / ".ci/check_dist.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_can_be_read_and_runs_what_is_there(workflow: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = workflow.read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert all("timeout-minutes" in job for job in jobs.values())
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for command in commands:
        assert set(re.findall(r"\.ci/\w+(?:\.py)?", command)) <= {f".ci/{path.name}" for path in ROOT.glob(".ci/*")}
        if made := re.match(r"make ((?:[a-z]+ ?)+)", command):
            assert set(made[1].split()) <= targets
    for expression in re.findall(r"\$\{\{(.*?)\}\}", "\n".join(commands)):
        assert expression.strip().startswith("steps."), "what others can write is passed by the environment"


def test_only_the_job_that_publishes_may_sign() -> None:
    yaml = pytest.importorskip("yaml")
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    may = {name for name, job in release["jobs"].items() if "id-token" in job.get("permissions", {})}
    assert (may, release["permissions"]) == ({"publish"}, {"contents": "read"})
    assert release["jobs"]["publish"]["environment"] == "release"


def test_what_a_wheel_lacks_or_has_too_much_is_named(check_dist: ModuleType, tmp_path: Path) -> None:
    name = f"partium_auth-{__version__}"
    subprocess.run(
        ["git", "archive", f"--prefix={name}/", "-o", tmp_path / f"{name}.tar.gz", "HEAD"], cwd=ROOT, check=True
    )
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("partium_auth/__init__.py", "")
        wheel.writestr("tests/settings.py", "")
        wheel.writestr(f"{name}.dist-info/METADATA", "[settings](docs/settings.md) [Partium](https://www.partium.io)")
    found = check_dist.problems(__version__, tmp_path)
    assert "The wheel lacks partium_auth/conf.py." in found
    assert "The wheel has tests/settings.py, which is not the package's." in found
    assert [text for text in found if "link" in text] == ["The description has a relative link: docs/settings.md"]


def test_another_version_is_named(check_dist: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "partium_auth-0.0.1.tar.gz").touch()
    assert "partium_auth-0.0.1.tar.gz" in check_dist.problems(__version__, tmp_path)[0]
