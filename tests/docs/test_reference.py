"""Every public name is in the documentation, and what is made from the code is what the code says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.dispatch import Signal

from partium_auth import exceptions, legacy_urls, signals, urls
from partium_auth.admin import key_site
from partium_auth.conf import SETTINGS
from partium_auth.models import AuditEvent
from partium_auth.templatetags import partium
from tests.docs import reference

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "partium_auth"
TEXT = "\n".join(path.read_text() for path in ROOT.glob("docs/**/*.md"))
TEMPLATES = PACKAGE / "templates/partium_auth"


def _of_modules() -> Iterator[str]:
    for name in reference.PUBLIC_MODULES:
        module = import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            yield f"{name}.{public}" if inspect.isclass(value) or inspect.isroutine(value) else public


def _url_names() -> list[str]:
    own = [f"partium_auth:{pattern.name}" for pattern in urls.urlpatterns if hasattr(pattern, "name")]
    legacy = [getattr(pattern, "name", None) for pattern in legacy_urls.urlpatterns]
    return own + [name for name in legacy if name]


def _found(pattern: str, *paths: Path) -> set[str]:
    return {name for path in paths for name in re.findall(pattern, path.read_text())}


PUBLIC: dict[str, Callable[[], object]] = {
    "name of a module's __all__": _of_modules,
    "URL": _url_names,
    "setting": lambda: SETTINGS,
    "command": lambda: [name for name, app in get_commands().items() if app == "partium_auth"],
    "system check": lambda: {f"partium_auth.{n}" for n in _found(r'"([EW]\d{3})"', *PACKAGE.rglob("checks*.py"))},
    "exception": lambda: [
        f"partium_auth.exceptions.{name}"
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    ],
    "signal": lambda: [name for name, value in vars(signals).items() if isinstance(value, Signal)],
    "endpoint of upstream_called": lambda: signals.ENDPOINTS,
    "template tag": lambda: partium.register.tags,
    "template": lambda: [f"partium_auth/{path.name}" for path in TEMPLATES.glob("*.html")],
    "block": lambda: _found(r"{% block (\w+)", *TEMPLATES.glob("*.html")),
    "JavaScript event": lambda: {f"partium:{n}" for n in _found(r'announce\("(\w+)"\)', *PACKAGE.rglob("find-sdk.js"))},
    "fixture": lambda: _found(r"(?m)^def ([a-z]\w+)\(", PACKAGE / "testing/pytest_plugin.py"),
    "action of an event": lambda: AuditEvent.Action.values,
    "admin page": lambda: [cls.__name__ for cls in key_site._registry],
}


@pytest.mark.parametrize("kind", PUBLIC)
def test_the_documentation_names_every(kind: str) -> None:
    names = list(PUBLIC[kind]())  # type: ignore[call-overload]
    assert names
    text = (ROOT / "docs/reference/urls.md").read_text() if kind == "URL" else TEXT
    missing = [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)]
    assert missing == []


def test_the_reference_is_made_from_the_code() -> None:
    pages = {path: path.read_text() for path in reference.PAGES.rglob("*.md")}
    stale = [path.name for path, text in pages.items() if reference.made_from_the_code(text) != text]
    assert stale == [], "Run: make reference"


def test_every_module_with_public_names_is_known() -> None:
    """A new ``__all__`` is documented, or said to be inside."""
    having = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^__all__", path.read_text(), re.MULTILINE)
    }
    assert having - {"partium_auth.http.transport"} == set(reference.PUBLIC_MODULES)
