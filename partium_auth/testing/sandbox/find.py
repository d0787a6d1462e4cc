"""Searching a catalog: by words (in one language, forgiving typos) and by image. Pure; no HTTP, no organization rules."""

from __future__ import annotations

import hashlib
import re
import struct
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .catalog import CATEGORIES, LANGUAGES, Catalog, Part, catalog_of, category_of

_WORD = re.compile(r"\w+")
_NAME, _KEYWORD, _ATTRIBUTE = 3.0, 2.0, 1.0
_MAX_FOUND = 500
_MAX_SIMILAR = 60


def _plain(text: str) -> str:
    """Lower case without accents, so that "lufter" finds "Lüfter"."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def _squeezed(text: str) -> str:
    """A part number without what people leave out or put in between."""
    return "".join(one for one in _plain(text) if one.isalnum())


def within_edits(left: str, right: str, most: int) -> int | None:
    """The number of edits (insert, delete, replace, swap neighbors) between two words, or None where over ``most``."""
    if abs(len(left) - len(right)) > most:
        return None
    before: list[int] = []
    above = list(range(len(right) + 1))
    for row, one in enumerate(left, 1):
        line = [row]
        for column, other in enumerate(right, 1):
            cost = min(above[column] + 1, line[column - 1] + 1, above[column - 1] + (one != other))
            if row > 1 and column > 1 and one == right[column - 2] and left[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            line.append(cost)
        if min(line) > most:
            return None
        before, above = above, line
    return above[-1] if above[-1] <= most else None


class _Index:
    """The words of one catalog in one language."""

    def __init__(self, catalog: Catalog, language: int) -> None:
        postings: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for index, part in enumerate(catalog.parts):
            attributes = " ".join(one["value"] for one in part.attributes(language))
            for weight, text in (
                (_ATTRIBUTE, attributes),
                (_KEYWORD, part.category.keywords[language]),
                (_NAME, part.name(language)),
            ):
                for word in _WORD.findall(_plain(text)):
                    postings[word][index] = weight
        self.postings = dict(postings)
        self.vocabulary = sorted(self.postings)

    def similar(self, word: str) -> dict[str, float]:
        """Known words that an asked word may mean, with how well they fit (0 to 1)."""
        found = {word: 1.0} if word in self.postings else {}
        if len(word) >= 2:
            for position in range(bisect_left(self.vocabulary, word), len(self.vocabulary)):
                known = self.vocabulary[position]
                if not known.startswith(word):
                    break
                found.setdefault(known, 0.75 + 0.2 * len(word) / len(known))
        if len(word) >= 4:
            for known in self.vocabulary:
                if word in known:
                    # German compounds: "lüfter" in "Schaltschranklüfter" is worth more than a mere keyword.
                    found.setdefault(known, 0.68 + 0.15 * len(word) / len(known))
            if not found and not word.isdecimal():
                most = 1 if len(word) < 8 else 2
                for known in self.vocabulary:
                    edits = within_edits(word, known, most)
                    if edits is not None:
                        found[known] = 0.5 - 0.1 * edits
        return found


@lru_cache(maxsize=64)
def _index(org_id: str, language: int) -> _Index:
    return _Index(catalog_of(org_id), language)


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        parts: indexes into the catalog, best first.
        words: the known words that were meant, with the asked word each.
    """

    parts: tuple[int, ...]
    words: dict[str, str]


def search_text(org_id: str, language: int, text: str) -> Found:
    """The parts that fit a text, best first: an exact part number, then by words.

    Every word that is known at all has to fit; only where no part fits all of them do those that fit most come.

    Args:
        org_id: whose catalog.
        language: index into :data:`~.catalog.LANGUAGES`; names are searched in this language only.
        text: what a person typed.
    """
    catalog, index = catalog_of(org_id), _index(org_id, language)
    scores: defaultdict[int, float] = defaultdict(float)
    fitting: defaultdict[int, int] = defaultdict(int)
    words: dict[str, str] = {}
    for asked in dict.fromkeys(_WORD.findall(_plain(text))):
        best: dict[int, float] = {}
        for known, fit in index.similar(asked).items():
            words.setdefault(known, asked)
            for part, weight in index.postings[known].items():
                best[part] = max(best.get(part, 0.0), fit * weight)
        for part, score in best.items():
            scores[part] += score
            fitting[part] += 1
    most = max(fitting.values(), default=0)

    def rank(part: int) -> tuple[float, int, int, str]:
        one = catalog.parts[part]
        return -round(scores[part], 6), len(one.name(language)), -one.mounting_locations_count, one.id

    ranked = sorted((part for part, number in fitting.items() if number == most), key=rank)
    numbered = list(_by_number(catalog, _squeezed(text)))
    words |= {_plain(catalog.parts[one].id): _plain(catalog.parts[one].id) for one in numbered}
    return Found(tuple(dict.fromkeys(numbered + ranked))[:_MAX_FOUND], words)


def _by_number(catalog: Catalog, number: str) -> Iterator[int]:
    """Parts whose own or manufacturer's number is this one, then those whose own number begins with it."""
    if len(number) < 4 or number.isalpha():
        return
    begins = []
    for index, part in enumerate(catalog.parts):
        own = part.id.lower()
        if number in (own, _squeezed(part.manufacturer_part_number)):
            yield index
        elif own.startswith(number):
            begins.append(index)
    yield from begins


def search_image(org_id: str, language: int, image: bytes, text: str | None) -> Found:
    """The parts that look like an image, best first; deterministic.

    The part whose number the image carries comes first, then its kind, then its category. An image without a number
    stands for a category that its bytes decide. Parts that also fit the text come before those that do not.
    """
    catalog = catalog_of(org_id)
    digest = hashlib.sha256(image).digest()
    number = part_number_in(image) or ""
    named = catalog.by_id.get(number)
    shown = catalog.parts[named] if named is not None else None
    # The number of another organization's part names a category too.
    category = category_of(number) or CATEGORIES[digest[0] % len(CATEGORIES)]

    def likeness(index: int) -> tuple[bool, bool, bytes]:
        part = catalog.parts[index]
        other_kind = shown is not None and part.variant != shown.variant
        return index != named, other_kind, hashlib.sha256(digest + part.id.encode()).digest()

    alike = sorted((index for index, part in enumerate(catalog.parts) if part.category is category), key=likeness)
    if not text:
        return Found(tuple(alike[:_MAX_SIMILAR]), {})
    found = search_text(org_id, language, text)
    fits = set(found.parts)
    alike.sort(key=lambda index: index not in fits)
    return Found(tuple(alike[:_MAX_SIMILAR]), found.words)


def image_format(image: bytes) -> str | None:
    """The media type of an image by its first bytes, or None where the format is not recognized."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if image.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return "image/webp"
    if image.startswith((b"II*\0", b"MM\0*")):
        return "image/tiff"
    if image[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "image/heic"
    return "image/bmp" if image.startswith(b"BM") and len(image) > 26 else None


def part_number_in(image: bytes) -> str | None:
    """The part number that an image carries: a PNG ``tEXt`` chunk or a JPEG comment ``PartNumber``."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        position = 8
        while position + 8 <= len(image):
            (length,) = struct.unpack(">I", image[position : position + 4])
            data = image[position + 8 : position + 8 + length]
            if image[position + 4 : position + 8] == b"tEXt" and data.startswith(b"PartNumber\0"):
                return data[11:].decode("latin-1")
            position += 12 + length
    elif image.startswith(b"\xff\xd8"):
        position = 2
        while position + 4 <= len(image) and image[position] == 0xFF and image[position + 1] != 0xDA:
            (length,) = struct.unpack(">H", image[position + 2 : position + 4])
            data = image[position + 4 : position + 2 + length]
            if image[position + 1] == 0xFE and data.startswith(b"PartNumber="):
                return data[11:].decode("latin-1")
            position += 2 + max(2, length)
    return None


def ranges(text: str, words: dict[str, str]) -> list[dict[str, int]]:
    """Where a text fits what was asked: ``[{"from": 6, "to": 9}, …]``, counted from 0, without the character at ``to``."""
    found = []
    for match in _WORD.finditer(text):
        word = _plain(match.group())
        asked = words.get(word)
        if asked is None:
            continue
        start, end = match.span()
        inside = word.find(asked)
        # Where letters were split or joined ("ß") positions differ, and a typo has no position: mark the whole word.
        if inside >= 0 and len(word) == end - start:
            start, end = start + inside, start + inside + len(asked)
        found.append({"from": start, "to": end})
    return found


def highlights(part_id: str, name: str, attributes: list[dict[str, str]], words: dict[str, str]) -> dict[str, Any]:
    """Why a part was found (Partium, Find API: highlighting textual matches).

    Returns:
        ``{"snippet": "Material: Steel", "indices": {"id": […], "name": […], "snippet": […]}}`` with :func:`ranges`; the
        snippet is the first attribute that fits, and empty where none does.
    """
    fitting = (f"{one['name']}: {one['value']}" for one in attributes if ranges(one["value"], words))
    snippet = next(fitting, "")
    texts = {"id": part_id, "name": name, "snippet": snippet}
    return {"snippet": snippet, "indices": {field: ranges(text, words) for field, text in texts.items()}}


def language_index(language: str, fallback: str) -> int:
    """The index of a language tag (``de``, ``de-AT``), of the fallback where it is not one of the catalog's."""
    for tag in (language, fallback):
        if (short := tag.lower().replace("_", "-").split("-")[0]) in LANGUAGES:
            return LANGUAGES.index(short)
    return 0


def result(part: Part, language: int, words: dict[str, str], media_url: str) -> dict[str, Any]:
    """Every projectable field of one result, by its name within ``results``."""
    name, attributes = part.name(language), part.attributes(language)
    return {
        "id": part.id,
        "partiumId": part.partium_id,
        "name": name,
        "nameLanguage": LANGUAGES[language],
        "previewData": {"url": f"{media_url}/{part.id}.svg", "mimeType": "image/svg+xml", "width": 160, "height": 160},
        "images": [
            {"url": f"{media_url}/{part.id}.{kind}", "mimeType": mime}
            for kind, mime in (("svg", "image/svg+xml"), ("png", "image/png"))
        ],
        "mountingLocationsCount": part.mounting_locations_count,
        "createdAt": part.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "modifiedAt": part.modified_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "attributes": attributes,
        "highlights": highlights(part.id, name, attributes, words),
    }
