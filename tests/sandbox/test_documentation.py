"""The examples in ``docs/sandbox.md`` run."""

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from partium_auth.testing.sandbox import PartiumSandbox, seed
from partium_auth.testing.sandbox.settings import Settings

_PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"^```python\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(_EXAMPLES)))
def test_an_example_runs(number: int, sandbox: PartiumSandbox) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(_EXAMPLES[number], f"docs/sandbox.md, example {number}", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        assert list(inspect.signature(test).parameters) == ["partium_sandbox"]
        test(sandbox)
    assert tests or "with PartiumSandbox.start()" in _EXAMPLES[number]


def test_there_are_examples() -> None:
    assert len(_EXAMPLES) >= 6


def test_the_seed_file_of_the_page_is_usable() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
    with PartiumSandbox.start(seed=json.loads(example)) as own:
        assert [one["org_id"] for one in own.describe()["organizations"]] == ["initech", "initech-spain"]


def test_every_known_credential_is_on_the_page() -> None:
    for name in ("ACME_USERNAME", "ACME_PASSWORD", "ACME_KEY", "GLOBEX_USERNAME", "GLOBEX_PASSWORD", "GLOBEX_KEY"):
        assert (f"`{getattr(seed, name)}`" in _PAGE) is True, name


def test_every_setting_is_on_the_page() -> None:
    assert [item.name for item in fields(Settings) if f"`{item.name}`" not in _PAGE] == []
