"""The parts of the reference that are made from the code: ``make reference`` writes them into the pages."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from django.core.checks.registry import registry
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.utils import translation

PAGES = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"(<!-- from the code: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
PUBLIC_MODULES = (
    *(
        "partium_auth",
        "partium_auth.session",
        "partium_auth.partium.client",
        "partium_auth.views",
        "partium_auth.services",
    ),
    *("partium_auth.models", "partium_auth.admin", "partium_auth.fields", "partium_auth.contrib.claims"),
    *("partium_auth.testing", "partium_auth.testing.sandbox"),
)
"""The modules with an ``__all__`` whose names are for sites. The other one, ``partium_auth.http.transport``, is inside."""


def directives(module_name: str) -> Iterator[str]:
    """Yield what makes mkdocstrings describe each class and function of a module's ``__all__``."""
    module = importlib.import_module(module_name)
    for name in module.__all__:
        if inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value):
            yield f"::: {module_name}.{name}\n"


def constants(module_name: str) -> Iterator[str]:
    """Yield the names of a module's ``__all__`` that are neither classes nor functions."""
    module = importlib.import_module(module_name)
    values = {name: getattr(module, name) for name in module.__all__}
    names = [name for name, value in values.items() if not (inspect.isclass(value) or inspect.isroutine(value))]
    if names:
        yield f"Values in `{module_name}`: {', '.join(f'`{name}`' for name in names)}.\n"


def exceptions() -> Iterator[str]:
    """Yield what makes mkdocstrings describe each exception."""
    from partium_auth import exceptions as module

    for name, value in vars(module).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            yield f"::: partium_auth.exceptions.{name}\n"


def checks() -> Iterator[str]:
    """Yield a table of the system checks, from the first lines of their docstrings."""
    yield "| id | level | what is wrong |"
    yield "|---|---|---|"
    found: dict[str, str] = {}
    for check in registry.get_checks(include_deployment_checks=True):
        if check.__module__.startswith("partium_auth."):
            deploy = ", only with `--deploy`" if check in registry.deployment_checks else ""
            summary = (check.__doc__ or "").partition("\n\n")[0].replace("``", "`")
            for number, text in re.findall(r"([EW]\d{3}) (.+?)(?:[;.]?\Z|[;.]\s)", " ".join(summary.split())):
                level = "error" if number[0] == "E" else "warning"
                found[number] = f"| `partium_auth.{number}` | {level}{deploy} | {text} |"
    yield from (found[number] for number in sorted(found, key=lambda number: (number[1:], number)))


def commands() -> Iterator[str]:
    """Yield a section for each command, with its arguments."""
    everywhere = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    for name in sorted(name for name, app in get_commands().items() if app == "partium_auth"):
        parser = load_command_class("partium_auth", name).create_parser("manage.py", name)
        yield f"## `{name}`\n"
        yield _paragraphs(parser.description or "")
        yield from _arguments(parser, everywhere)


def _arguments(parser: argparse.ArgumentParser, left_out: set[str]) -> Iterator[str]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield f"### `{parser.prog.split()[-1]} {name}`\n"
                yield _paragraphs(sub.description or "")
                yield from _arguments(sub, left_out)
        elif not left_out.intersection(action.option_strings):
            flags = ", ".join(action.option_strings) or action.metavar or action.dest
            value = f" {action.metavar or action.dest.upper()}" if action.option_strings and action.nargs != 0 else ""
            required = " (required)" if action.required and action.option_strings else ""
            rows.append(f"| `{flags}{value}`{required} | {action.help or ''} |")
    if rows:
        yield "\n".join(["| argument | what it does |", "|---|---|", *rows]) + "\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")) + "\n"


def events() -> Iterator[str]:
    """Yield a table of the actions of events."""
    from partium_auth.models import AuditEvent

    yield "| action | what happened |"
    yield "|---|---|"
    with translation.override("en"):
        yield from (f"| `{value}` | {label} |" for value, label in AuditEvent.Action.choices)


SOURCES: dict[str, Callable[[], Iterator[str]]] = {
    "checks": checks,
    "commands": commands,
    "events": events,
    "exceptions": exceptions,
}


def made_from_the_code(page: str) -> str:
    """Return a page's text with every part between its marks made anew."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name in SOURCES:
            lines = SOURCES[name]()
        elif name.startswith("values of "):
            lines = constants(name.removeprefix("values of "))
        else:
            lines = directives(name)
        return match[1] + "\n" + "\n".join(lines) + "\n" + match[3]

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    import django

    django.setup()
    for path in PAGES.rglob("*.md"):
        path.write_text(made_from_the_code(path.read_text()))
