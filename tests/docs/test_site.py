"""The documentation's site needs no other host, and its links lead to its own pages. ``make docs`` builds it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What ``mkdocs.yml`` names as its hooks."""
    monkeypatch.syspath_prepend(ROOT / "docs/_site")
    return importlib.import_module("hooks")


@pytest.mark.parametrize(
    ("html", "fetched"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example/css">', ["//fonts.example/css"]),
        ('<img src="http://cdn.example/x.png">', ["http://cdn.example/x.png"]),
        ("<style>@import 'https://fonts.example/css'</style>", ["https://fonts.example/css"]),
        ('<a href="https://www.partium.io">Partium</a> <link rel="canonical" href="https://docs.example/">', []),
        ('<script src="assets/x.js"></script><link rel="stylesheet" href="../x.css"><img src="data:,x">', []),
    ],
)
def test_the_build_finds_what_a_page_fetches_from_elsewhere(hooks: ModuleType, html: str, fetched: list[str]) -> None:
    assert hooks.fetched_from_elsewhere(html) == fetched


def test_the_build_finds_what_a_style_sheet_fetches_from_elsewhere(hooks: ModuleType) -> None:
    css = "a{background:url(x.png)} b{src:url('https://fonts.example/x.woff2')}"
    assert hooks.fetched_from_elsewhere(css, is_css=True) == ["https://fonts.example/x.woff2"]


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("start.md", "[README](../README.md#install-it)", "[README](index.md#install-it)"),
        ("guides/csp.md", "[README](../../README.md)", "[README](../index.md)"),
        ("guides/csp.md", "[settings](../settings.md)", "[settings](../settings.md)"),
        ("start.md", "[setup.py](../setup.py)", "setup.py"),
        ("start.md", "[the tests](../tests/conftest.py)", "the tests (`tests/conftest.py` in the source distribution)"),
        ("index.md", "[changes](CHANGELOG.md)", "[changes](changelog.md)"),
        ("start.md", "![a picture](images/results.png)", "![a picture](images/results.png)"),
    ],
)
def test_links_lead_to_pages_of_the_site(hooks: ModuleType, page: str, link: str, there: str) -> None:
    assert hooks.without_links_out(link, page) == there


def test_a_package_index_gets_links_to_the_site(hooks: ModuleType) -> None:
    readme = importlib.import_module("readme")
    there = readme.with_absolute_links((ROOT / "README.md").read_text(), "https://docs.example/1.0/")
    links = re.findall(r"\]\(([^)]+)\)", there)
    assert [link for link in links if not link.startswith("https://")] == []
    assert "https://docs.example/1.0/guides/logins/" in links
    assert "https://docs.example/1.0/images/results.png" in links
    assert "https://docs.example/1.0/vulnerabilities/" in links
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*")} | set(hooks.FROM_ROOT.values())
    for link in links:
        if link.startswith("https://docs.example/1.0/"):
            path = link.removeprefix("https://docs.example/1.0/").partition("#")[0]
            assert (f"{path[:-1]}.md" if path.endswith("/") else path) in pages


def test_the_navigation_names_every_page() -> None:
    named = set(re.findall(r"^ +- (?:.*: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    assert pages <= named


def test_the_source_distribution_can_build_the_site() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text()
    names = ["mkdocs.yml", "Makefile", "requirements*.in", "requirements*.txt", "graft docs"]
    names += ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
    assert [name for name in names if name not in manifest] == []
