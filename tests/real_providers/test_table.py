"""docs/providers.md says what the tests of ``make providers`` show. Needs no provider."""

from __future__ import annotations

import re

from tests.demo.processes import ROOT
from tests.real_providers.conftest import HOMES


def test_the_table_of_the_docs_is_that_of_the_tests() -> None:
    page = (ROOT / "docs" / "providers.md").read_text()
    for kind in HOMES:
        (row,) = re.findall(
            rf"^\| {re.escape(kind.name)} {re.escape(kind.traits.version)} \|(.*)\|$", page, re.MULTILINE
        )
        assert [cell.strip() for cell in row.split("|")] == [
            "rotates, or not",
            "yes",
            "yes",
            "yes",
            "yes" if kind.traits.back_channel else "none",
            "yes",
            "out at the next refresh" if kind.traits.disabled_ends_login else "keeps refreshing",
        ]


def test_what_is_installed_is_what_the_table_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    versions = dict(re.findall(r"^(KEYCLOAK|OAUTH_TOOLKIT|SPRING) := (.*)$", makefile, re.MULTILINE))
    assert {HOMES[kind].removesuffix("_HOME"): kind.traits.version for kind in HOMES} == versions
