"""What a card shows of a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.templatetags.static import static

from partium_auth.partium.part import Highlighted, Part

KEY_ATTRIBUTES = 3
"""How many attributes a card shows at once; the others are on the part's page."""

KINDS_WITH_PICTURE = frozenset(path.stem for path in (Path(__file__).parent / "static/portal/parts").glob("*.svg"))


@dataclass(frozen=True)
class Card:
    """A part as it is shown."""

    part: Part
    number: str
    name: Highlighted
    image_url: str
    key_attributes: tuple[tuple[str, str], ...]
    further_attributes: tuple[tuple[str, str], ...]


def card(part: Part) -> Card:
    """Return what is shown of a part."""
    attributes = tuple(part.attributes.items())
    image = part.image(min_width=160)
    return Card(
        part=part,
        number=part.id,
        name=part.name_highlighted,
        image_url=_picture_of_its_kind(part) or (image.url if image else ""),
        key_attributes=attributes[:KEY_ATTRIBUTES],
        further_attributes=attributes[KEY_ATTRIBUTES:],
    )


def _picture_of_its_kind(part: Part) -> str:
    """Return our own picture: the owner of the demo's catalog has ingested a ``kind`` as preview data of each part."""
    kind = part.preview_data.get("kind") if isinstance(part.preview_data, Mapping) else None
    return static(f"portal/parts/{kind}.svg") if isinstance(kind, str) and kind in KINDS_WITH_PICTURE else ""
