"""Pictures of parts: squares of one color, made on demand; and which part a photo shows."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib

from .catalog import PARTS

SIZES = (160, 640)
"""Widths, and heights, of a part's images in pixels."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KNOWN_FORMATS = (_SIGNATURE, b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_PART_NUMBER = re.compile(rb"PartNumber.([A-Z]{2}\d{4})", re.DOTALL)


def part_png(part_id: str, size: int = SIZES[-1]) -> bytes | None:
    """A picture of a part, as a search returns it; post it as the image of a search, and the sandbox finds the part.

    Args:
        part_id: of any organization's part.
        size: width and height in pixels.

    Returns:
        a PNG (W3C, PNG specification) in one color that names the part in a text chunk, or None for an unknown part.
    """
    if not any(part.id == part_id for part in PARTS):
        return None
    color = hashlib.sha256(part_id.encode()).digest()[:3]
    rows = bytes(1 + (size + 7) // 8) * size  # one bit a pixel, all of them the first color of the palette
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", size, size, 1, 3, 0, 0, 0)),
            (b"tEXt", b"PartNumber\0" + part_id.encode()),
            (b"PLTE", color),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )


def is_image(content: bytes) -> bool:
    """Whether this begins like a PNG, JPEG, GIF, WebP, TIFF, BMP or HEIC image."""
    return content.startswith(_KNOWN_FORMATS) or content[4:8] == b"ftyp"


def part_number_in(image: bytes) -> str | None:
    """The part number that an image carries: a PNG text chunk ``PartNumber``, or a JPEG comment ``PartNumber=…``."""
    found = _PART_NUMBER.search(image)
    return found[1].decode() if found else None
