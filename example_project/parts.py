"""What a card shows of a part. Partium documents few forms of its fields; what has another form is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.templatetags.static import static

if TYPE_CHECKING:
    from partium_auth.partium.results import Part

KEY_ATTRIBUTES = 3
"""How many attributes a card shows at once; the others are folded away."""

KINDS_WITH_PICTURE = frozenset(path.stem for path in (Path(__file__).parent / "static/portal/parts").glob("*.svg"))


@dataclass(frozen=True)
class Piece:
    """A part of a name, marked where it matches the search."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Attribute:
    """A property of a part, such as "Material: steel"."""

    name: str
    value: str


@dataclass(frozen=True)
class Card:
    """A part as it is shown."""

    number: str
    name: tuple[Piece, ...]
    image_url: str
    key_attributes: tuple[Attribute, ...]
    further_attributes: tuple[Attribute, ...]


def card(part: Part) -> Card:
    """Return what is shown of a part."""
    attributes = tuple(_attributes(part.attributes))
    return Card(
        number=part.id,
        name=tuple(marked_pieces(part.name or part.id, part.highlights)),
        image_url=_picture_of_its_kind(part) or _image_url(part),
        key_attributes=attributes[:KEY_ATTRIBUTES],
        further_attributes=attributes[KEY_ATTRIBUTES:],
    )


def _picture_of_its_kind(part: Part) -> str:
    """Return our own picture: the owner of the demo's catalog has ingested a ``kind`` as preview data of each part."""
    kind = part.preview_data.get("kind") if isinstance(part.preview_data, Mapping) else None
    return static(f"portal/parts/{kind}.svg") if isinstance(kind, str) and kind in KINDS_WITH_PICTURE else ""


def _image_url(part: Part) -> str:
    for image in (part.preview_data, *part.images):
        url = image.get("url") if isinstance(image, Mapping) else None
        if isinstance(url, str) and url.startswith(("https://", "http://")):
            return url
    return ""


def _attributes(found: Any) -> Iterable[Attribute]:
    for one in found if isinstance(found, list) else ():
        name, value = (one.get("label"), one.get("value")) if isinstance(one, Mapping) else (None, None)
        if isinstance(name, str) and isinstance(value, str | int | float):
            yield Attribute(name, str(value))


def marked_pieces(name: str, highlights: Any) -> Iterable[Piece]:
    """Cut a name where its highlights begin and end.

    Args:
        name: the whole name.
        highlights: Partium's object; ``indices.name`` is a list of ranges with ``from``, and ``to``, which is excluded
            (Partium, Find API: highlighting textual matches).
    """
    marks = [False] * len(name)
    for start, end in _ranges(highlights):
        if 0 <= start < end <= len(name):
            marks[start:end] = [True] * (end - start)
    begin = 0
    for position in range(1, len(name) + 1):
        if position == len(name) or marks[position] != marks[begin]:
            yield Piece(name[begin:position], marks[begin])
            begin = position


def _ranges(highlights: Any) -> Iterable[tuple[int, int]]:
    indices = highlights.get("indices") if isinstance(highlights, Mapping) else None
    ranges = indices.get("name") if isinstance(indices, Mapping) else None
    for one in ranges if isinstance(ranges, list) else ():
        start, end = (one.get("from"), one.get("to")) if isinstance(one, Mapping) else (None, None)
        if isinstance(start, int) and isinstance(end, int):
            yield start, end
