"""Searching the catalog by words or by a photo, and the form of a result. Pure: no HTTP, no credentials."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from .catalog import ASSEMBLIES, KINDS, LANGUAGES, PARTS, Part, is_visible, partium_id, parts_of, translated
from .pictures import SIZES, part_number_in

_FIRST_CREATED = datetime(2023, 6, 27, 15, 46, 26, 770379, tzinfo=UTC)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def narrowed(
    parts: tuple[Part, ...], language: str, filters: list[tuple[str, list[str]]], nodes: list[str]
) -> tuple[Part, ...]:
    """The parts that have one of each label's values, and are mounted below one of the nodes.

    Args:
        nodes: ids of machines and assemblies, the catalog's or Partium's; empty: all.
    """
    wanted = {node for node in ASSEMBLIES if node in nodes or partium_id(node) in nodes}

    def fits(part: Part) -> bool:
        values = dict(part.translated_attributes(language))
        is_below = not nodes or any(wanted & set(_path(assembly)) for assembly in part.assemblies)
        return is_below and all(values.get(label) in chosen for label, chosen in filters)

    return tuple(part for part in parts if fits(part))


def _path(assembly: str) -> list[str]:
    parent = ASSEMBLIES[assembly].parent
    return [assembly, *(_path(parent) if parent else ())]


def values_of(parts: tuple[Part, ...], language: str) -> dict[str, Counter[str]]:
    """The attributes of parts: label, value, and how many parts have it."""
    found: dict[str, Counter[str]] = {}
    for part in parts:
        for label, value in part.translated_attributes(language):
            found.setdefault(label, Counter())[value] += 1
    return found


def smart_filters(parts: tuple[Part, ...], language: str) -> list[dict[str, Any]]:
    """The attributes that would narrow the parts (Partium, Find API: smart filters)."""
    return [
        {"label": label, "values": [{"value": value, "count": count} for value, count in counted.most_common()]}
        for label, counted in values_of(parts, language).items()
        if len(counted) > 1
    ]


def nodes_below(root: str | None, organization: str, language: str) -> list[dict[str, Any]] | None:
    """The nodes directly below a root, by either id; without one the machines. None where there is no such root."""
    visible = [one for one in ASSEMBLIES.values() if is_visible(one.id, organization)]
    at = next((one.id for one in visible if root in (one.id, partium_id(one.id))), None)
    if root and at is None:
        return None
    below = [one for one in visible if one.parent == at]
    return [{"id": one.id, "partiumId": partium_id(one.id), "name": translated(one.name, language)} for one in below]


def in_other_form(result: dict[str, Any]) -> dict[str, Any]:
    """One result with another likely form of what Partium does not document."""
    changed = dict(result)
    if "attributes" in changed:
        changed["attributes"] = [{"label": one["label"], "values": [one["value"]]} for one in changed["attributes"]]
    if "images" in changed:
        changed["images"] = [
            {"sizes": {str(one["width"]): {"url": one["url"], "width": one["width"]} for one in changed["images"]}}
        ]
    return changed


def language_of(wanted: str, fallback: str) -> str:
    """The catalog's language for a tag such as ``de`` or ``de-AT``, for the fallback's tag, or English."""
    short = [tag.lower().replace("_", "-").split("-")[0] for tag in (wanted, fallback)]
    return next((tag for tag in short if tag in LANGUAGES), LANGUAGES[0])


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, as they are compared."""
    return tuple(dict.fromkeys(_comparable(text).split()))


def search_text(organization: str, language: str, words: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts in which every word occurs: in the id, the name or an attribute, in one language. Best first.

    A word may be the beginning or another piece of a longer one: "lüfter" finds "Axiallüfter".
    """

    def rank(part: Part) -> int:
        name = _comparable(part.full_name(language))
        return 0 if part.id.lower() in words else 1 if all(word in name for word in words) else 2

    found = [part for part in parts_of(organization) if words and _fits(part, language, words)]
    return tuple(sorted(found, key=rank))


def search_image(organization: str, language: str, image: bytes, words: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts of the kind that an image shows: the part itself first, then those that match the words.

    An image shows the part whose number it carries. Without a number its bytes choose a kind, always the same one.
    """
    number = part_number_in(image)
    by_chance = KINDS[hashlib.sha256(image).digest()[0] % len(KINDS)]
    kind = next((part.kind for part in PARTS if part.id == number), by_chance)
    alike = [part for part in parts_of(organization) if part.kind == kind]
    return tuple(sorted(alike, key=lambda part: (part.id != number, not _fits(part, language, words))))


def result(part: Part, organization: str, language: str, words: tuple[str, ...], media_url: str) -> dict[str, Any]:
    """Every projectable field of one result, by its name within ``results``.

    Args:
        organization: who searched; only its machines are counted.
        media_url: where the sandbox serves pictures.
    """
    name = part.full_name(language)
    attributes = part.translated_attributes(language)
    created = _FIRST_CREATED + timedelta(days=PARTS.index(part))
    has_translation = translated(part.name, language) != part.name
    return {
        "id": part.id,
        "partiumId": partium_id(part.id),
        "name": name,
        "nameLanguage": language if has_translation else LANGUAGES[0],
        "previewData": {"kind": part.kind},
        "images": [
            {"url": f"{media_url}/{size}/{part.id}.png", "mimeType": "image/png", "width": size, "height": size}
            for size in SIZES
        ],
        "mountingLocationsCount": sum(is_visible(one, organization) for one in part.assemblies),
        "createdAt": created.strftime(_TIME_FORMAT),
        "modifiedAt": (created + timedelta(days=30)).strftime(_TIME_FORMAT),
        "attributes": [{"label": label, "value": value} for label, value in attributes],
        "highlights": _highlights(part.id, name, attributes, words),
    }


def _highlights(part_id: str, name: str, attributes: list[tuple[str, str]], words: tuple[str, ...]) -> dict[str, Any]:
    """Where the words occur (Partium, Find API: highlighting textual matches); the snippet is the first attribute."""
    snippet = next((f"{label}: {value}" for label, value in attributes if _ranges(value, words)), "")
    texts = {"id": part_id, "name": name, "snippet": snippet}
    return {"snippet": snippet, "indices": {field: _ranges(text, words) for field, text in texts.items()}}


def _ranges(text: str, words: tuple[str, ...]) -> list[dict[str, int]]:
    """The places where words begin and end in a text, counted from 0, ``to`` excluded; the first of each word."""
    starts = [(_comparable(text).find(word), len(word)) for word in words]
    return [{"from": start, "to": start + length} for start, length in sorted(starts) if start >= 0]


def _fits(part: Part, language: str, words: tuple[str, ...]) -> bool:
    values = " ".join(value for _, value in part.translated_attributes(language))
    text = _comparable(f"{part.id} {part.full_name(language)} {values}")
    return all(word in text for word in words)


def _comparable(text: str) -> str:
    """Lower case without accents, so that "lufter" finds "Lüfter"; as long as the text, so that positions stay."""
    return "".join(unicodedata.normalize("NFKD", one)[0].lower()[:1] for one in text)
