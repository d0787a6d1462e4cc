"""What the documentation says is what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from partium_auth.conf import SETTINGS

ROOT = Path(__file__).resolve().parent.parent


def test_every_setting_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(PARTIUM_[A-Z_]+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    assert documented == set(SETTINGS)


def test_the_example_of_an_environment_names_every_setting() -> None:
    named = set(re.findall(r"^#?(PARTIUM_[A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert named == set(SETTINGS)


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_text_of_the_package_names_a_file_that_only_the_repository_has() -> None:
    """Whoever installed the wheel has the texts, and none of ``docs/``."""
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in (ROOT / "partium_auth").rglob("*.py")
        for tree in [ast.parse(path.read_text())]
        for docstrings in [{id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if re.search(r"\bdocs/|\w\.md\b|README", node.value)
    ]
    pages = [
        path for path in (ROOT / "partium_auth").rglob("*.html") if re.search(r"\bdocs/|\w\.md\b", path.read_text())
    ]
    assert (named, pages) == ([], [])


def test_the_source_distribution_has_the_documents_that_the_readme_names() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text().splitlines()
    assert "graft docs" in manifest
    assert any(line.startswith("include CHANGELOG.md") for line in manifest)
    assert "source distribution" in (ROOT / "README.md").read_text()
