"""One part that Partium found. Where Partium documents a field and not its form, every likely form is understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any, Self

_NAMES = ("label", "name", "key", "attributeId", "attribute_id")
_VALUES = ("values", "value")


class Attributes(Mapping[str, str]):
    """A part's attributes: label → value, in the language of the search; several values have commas between them.

    Attributes:
        lists: label → all its values.
        raw: what came.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.lists: dict[str, list[str]] = {}
        pairs: list[tuple[Any, Any]] = list(raw.items()) if isinstance(raw, Mapping) else []
        for one in raw if isinstance(raw, list) else ():
            pairs += [(first_of(one, _NAMES), first_of(one, _VALUES))] if isinstance(one, Mapping) else []
        for label, value in pairs:
            if texts := _values(value):
                self.lists.setdefault(text_of(label), []).extend(texts)
        self.lists.pop("", None)

    def __getitem__(self, label: str) -> str:
        return ", ".join(self.lists[label])

    def __iter__(self) -> Iterator[str]:
        return iter(self.lists)

    def __len__(self) -> int:
        return len(self.lists)

    def __repr__(self) -> str:
        return f"Attributes({dict(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributes) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]  # as a list's


@dataclass(frozen=True, slots=True)
class PartImage:
    """One size of one image of a part.

    Attributes:
        url: where it is.
        width: in pixels; None: not told.
        raw: the object that came.
    """

    url: str
    width: int | None
    raw: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text, marked where it matches the search."""

    text: str
    marked: bool


class Highlighted(str):
    """A text in pieces. In a template it is HTML with ``<mark>``, everything else escaped; anywhere else the plain text.

    Attributes:
        pieces: the text, cut where marks begin and end.
    """

    pieces: tuple[Piece, ...]

    def __new__(cls, pieces: tuple[Piece, ...]) -> Self:
        made = super().__new__(cls, "".join(piece.text for piece in pieces))
        made.pieces = pieces
        return made

    def __html__(self) -> str:
        shown = ((escape(piece.text), piece.marked) for piece in self.pieces)
        return "".join(f"<mark>{text}</mark>" if marked else text for text, marked in shown)


@dataclass(frozen=True, slots=True)
class Part:
    """One part that was found. What the response lacks, or has in another type, is empty.

    Attributes:
        id: the part's id in the catalog.
        partium_id: its id in Partium.
        name: in the language of the search, or the first fallback language that has one.
        name_language: the language of ``name``.
        preview_data: data of the catalog's owner.
        images: links to and details of the part's images, as they came; see :meth:`image`.
        mounting_locations_count: how often the part occurs in the bill of materials.
        created_at: aware.
        modified_at: aware.
        attributes: properties with translated labels: ``part.attributes["Voltage"]``.
        highlights: where the search text occurs: ``{"snippet": …, "indices": {"id": […], "name": […], "snippet": […]}}``
            with ranges ``{"from": 0, "to": 3}`` (Partium, Find API: highlighting textual matches).
        raw: the whole object as it came.
        index: its position in the list of everything found, from 0.
        session_id: of the search that found it.
    """

    id: str
    partium_id: str | None
    name: str | None
    name_language: str | None
    preview_data: Any
    images: list[Any]
    mounting_locations_count: int | None
    created_at: datetime | None
    modified_at: datetime | None
    attributes: Attributes
    highlights: Any
    raw: Mapping[str, Any] = field(repr=False)
    index: int | None = field(default=None, compare=False)
    session_id: str | None = field(default=None, compare=False)

    def image(self, min_width: int = 0) -> PartImage | None:
        """Return the smallest image that is wide enough, else the widest; None where there is none.

        Args:
            min_width: in pixels. The images of which no width is told come last.
        """
        known = sorted(_images(self.images), key=lambda one: one.width or 0)
        return next((one for one in known if (one.width or 0) >= min_width > 0), None) or (known[-1] if known else None)

    @property
    def name_highlighted(self) -> Highlighted:
        """The name, or the id where there is none, marked where it matches the search."""
        text = self.name or self.id
        marks = [False] * len(text)
        for start, end in _ranges(self.highlights, "name" if self.name else "id"):
            if 0 <= start < end <= len(text):
                marks[start:end] = [True] * (end - start)
        cuts = [at for at in range(1, len(text)) if marks[at] != marks[at - 1]]
        ends = zip([0, *cuts], [*cuts, len(text)], strict=True) if text else ()
        return Highlighted(tuple(Piece(text[start:end], marks[start]) for start, end in ends))


def parse_part(raw: Mapping[str, Any], index: int | None = None, session_id: str | None = None) -> Part:
    """Return a part from one of a response's ``results``."""
    images, count, part_id = raw.get("images"), raw.get("mountingLocationsCount"), raw.get("id")
    return Part(
        id=str(part_id) if isinstance(part_id, (str, int)) else "",
        partium_id=optional_text(raw.get("partiumId")),
        name=optional_text(raw.get("name")),
        name_language=optional_text(raw.get("nameLanguage")),
        preview_data=raw.get("previewData"),
        images=images if isinstance(images, list) else [],
        mounting_locations_count=whole_number(count),
        created_at=_time(raw.get("createdAt")),
        modified_at=_time(raw.get("modifiedAt")),
        attributes=Attributes(raw.get("attributes")),
        highlights=raw.get("highlights"),
        raw=raw,
        index=index,
        session_id=session_id,
    )


def first_of(raw: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first member that is there and not None."""
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def optional_text(value: object) -> str | None:
    """Return a string; None for anything else."""
    return value if isinstance(value, str) else None


def whole_number(value: object) -> int | None:
    """Return a whole number that is not negative; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text_of(value: object) -> str:
    """Return a text, a number as one, or the first translation of ``{language: text}``; empty for anything else."""
    if isinstance(value, Mapping):
        return text_of(first_of(value, ("value", "text", "name")) or next(iter(value.values()), None))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)


def _values(value: object) -> list[str]:
    found = [text_of(one) for one in (value if isinstance(value, list) else [value])]
    return [text for text in found if text]


def _images(found: Any, width: int | None = None) -> Iterator[PartImage]:
    """Yield every address in a structure whose form is not documented."""
    if isinstance(found, Mapping):
        width = whole_number(found.get("width")) or width
    for one in found.values() if isinstance(found, Mapping) else found:
        if isinstance(one, str) and one.startswith(("https://", "http://")):
            yield PartImage(one, width, found)
        elif isinstance(one, Mapping | list):
            yield from _images(one, width)


def _ranges(highlights: Any, name: str) -> Iterator[tuple[int, int]]:
    indices = highlights.get("indices") if isinstance(highlights, Mapping) else None
    ranges = indices.get(name) if isinstance(indices, Mapping) else None
    for one in ranges if isinstance(ranges, list) else ():
        start, end = (one.get("from"), one.get("to")) if isinstance(one, Mapping) else (None, None)
        if isinstance(start, int) and isinstance(end, int):
            yield start, end


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
