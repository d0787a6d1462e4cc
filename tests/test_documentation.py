"""What the documentation says is what there is."""

from __future__ import annotations

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
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
