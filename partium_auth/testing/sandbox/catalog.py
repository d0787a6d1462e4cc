"""The catalog in ``catalog.json``: machines with their assemblies, spare parts, and translations of every word.

Texts in the file are English; ``translations`` has the other languages, in the order of ``languages``. A machine with
``organizations`` is visible to these only, every other one to all (Partium's Catalog API: assignments of organizations).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_FILE: dict[str, Any] = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))
_PARTIUM_IDS = uuid.UUID("6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10")

LANGUAGES: tuple[str, ...] = tuple(_FILE["languages"])


def partium_id(catalog_id: str) -> str:
    """The UUID that Partium would give to a part or an assembly at ingestion; here it is derived from the id."""
    return str(uuid.uuid5(_PARTIUM_IDS, catalog_id))


def translated(text: str, language: str) -> str:
    """A text of the catalog in a language, or in English where the catalog has no translation."""
    position = LANGUAGES.index(language)
    words = _FILE["translations"].get(text)
    return str(words[position - 1]) if words and position else text


@dataclass(frozen=True)
class Assembly:
    """A machine (without parent), or an assembly within one."""

    id: str
    name: str
    parent: str | None = None
    organizations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A spare part. Its texts are English; :func:`translated` has the other languages.

    Attributes:
        kind: such as ``fan``; the example project has a picture of each kind.
        size: follows the name, the same in every language.
        assemblies: where it is mounted.
        attributes: labels and values.
    """

    id: str
    kind: str
    name: str
    size: str
    assemblies: tuple[str, ...]
    attributes: dict[str, str]

    def full_name(self, language: str) -> str:
        """Name and size."""
        return f"{translated(self.name, language)} {self.size}"

    def translated_attributes(self, language: str) -> list[tuple[str, str]]:
        """Labels and values in a language, the size first."""
        whole = {"Size": self.size} | self.attributes
        return [(translated(label, language), translated(value, language)) for label, value in whole.items()]


ASSEMBLIES: dict[str, Assembly] = {
    one["id"]: Assembly(one["id"], one["name"], one.get("parent"), tuple(one.get("organizations", ())))
    for one in _FILE["machines"]
}
PARTS: tuple[Part, ...] = tuple(
    Part(one["id"], one["kind"], one["name"], one["size"], tuple(one["in"]), one["attributes"])
    for one in _FILE["parts"]
)
KINDS: tuple[str, ...] = tuple(dict.fromkeys(part.kind for part in PARTS))


def is_visible(assembly: str, organization: str) -> bool:
    """Whether an organization sees an assembly: by the machine that it is part of."""
    found = ASSEMBLIES[assembly]
    if found.parent is not None:
        return is_visible(found.parent, organization)
    return not found.organizations or organization in found.organizations


@lru_cache(maxsize=32)
def parts_of(organization: str) -> tuple[Part, ...]:
    """The parts that an organization sees, in the order of the file."""
    return tuple(part for part in PARTS if any(is_visible(one, organization) for one in part.assemblies))
