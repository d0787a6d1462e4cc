"""What the documentation shows can be typed: it compiles, and the names, settings and commands in it exist.

Blocks that a test also runs are in ``test_guides.py`` here, and beside what they are about.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.template import engines

from partium_auth.conf import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OURS = [name for name, app in get_commands().items() if app == "partium_auth"]


def _blocks(*languages: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            if match[1] in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(textwrap.dedent(match[2]), id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("block", _blocks("python", "py"))
def test_python_compiles_and_what_it_imports_is_there(block: str) -> None:
    compile(block, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("partium_auth"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")
    named = set(re.findall(r"\b(PARTIUM_[A-Z_]+) = ", block))
    assert named <= set(SETTINGS)


@pytest.mark.parametrize("block", _blocks("django"))
def test_templates_compile(block: str) -> None:
    engines["django"].from_string(block)


@pytest.mark.parametrize("block", _blocks("json"))
def test_json_can_be_read(block: str) -> None:
    json.loads(block)


def _calls_of_our_commands() -> Iterator[Any]:
    for page in PAGES:
        for line in re.findall(r"manage\.py (partium_[^`\n|<]+)", page.read_text()):
            yield pytest.param(
                line.partition("  #")[0].partition(" …")[0].partition(')"')[0], id=f"{page.name}: {line}"[:80]
            )


@pytest.mark.parametrize("line", list(_calls_of_our_commands()))
def test_commands_and_their_options_exist(line: str) -> None:
    line = line.partition('")')[0] if line.count('"') % 2 else line  # the end of a text in Python
    name, *arguments = shlex.split(re.sub(r"[.,;:)]+(?=\s|$)", "", line))
    assert name in OURS
    parsers = [load_command_class("partium_auth", name).create_parser("manage.py", name)]
    for action in parsers[0]._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += [parser for word, parser in action.choices.items() if word in arguments]
    known = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    assert {word for word in arguments if word.startswith("--")} <= known
