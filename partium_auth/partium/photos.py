"""The photo of an image search on its way to Partium."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

from partium_auth.exceptions import PayloadTooLarge, UnsupportedImage

MAX_PAYLOAD_BYTES: Final = 11 * 1024 * 1024 // 2
"""5.5 MiB, image and input together (Partium, Find API: image search)."""


class BinaryFile(Protocol):
    """A file open in binary mode; an upload of Django's is one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


Image: TypeAlias = bytes | bytearray | memoryview | BinaryFile


class Upload:
    """The multipart body of an image search (RFC 7578), made anew each time it is iterated.

    The image's file is read piece by piece while it is sent. One that cannot tell its size is read first, up to the limit.
    """

    _PIECE_BYTES = 64 * 1024

    def __init__(self, query: Mapping[str, Any], image: Image) -> None:
        if isinstance(image, (bytes, bytearray, memoryview)):
            self._file: Any = io.BytesIO(image)
        elif _can_seek(image):
            self._file = image
        else:
            self._file = io.BytesIO(_read_bounded(image))
        self._start = self._file.tell()
        head = self._file.read(16)
        if not isinstance(head, bytes):
            raise TypeError("The image has to be open in binary mode.")
        self._file.seek(0, io.SEEK_END)
        self._image_bytes: int = self._file.tell() - self._start
        if self._image_bytes <= 0:
            raise UnsupportedImage("The image is empty, or its file has been read to the end already.", sent=False)

        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._before = (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="input"\r\n'
            "Content-Type: application/json\r\n\r\n"
            f"{json.dumps(query, allow_nan=False)}\r\n"
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="image"; filename="image"\r\n'
            f"Content-Type: {_image_type(head)}\r\n\r\n"
        ).encode()
        self._after = f"\r\n--{boundary}--\r\n".encode()
        if len(self) > MAX_PAYLOAD_BYTES:
            raise _too_large()

    def __len__(self) -> int:
        return len(self._before) + self._image_bytes + len(self._after)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        yield self._before
        left = self._image_bytes
        while left and (piece := self._file.read(min(left, self._PIECE_BYTES))):
            left -= len(piece)
            yield piece
        yield self._after


def _can_seek(file: Any) -> bool:
    try:
        file.seek(file.tell())
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        return False
    return True


def _read_bounded(file: BinaryFile) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := file.read(64 * 1024):
        if not isinstance(piece, bytes):
            raise TypeError("The image has to be open in binary mode.")
        size += len(piece)
        if size > MAX_PAYLOAD_BYTES:
            raise _too_large()
        pieces.append(piece)
    return b"".join(pieces)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        "The image is too large for Partium: 5.5 MiB with the input. Send a smaller one; it will not be found any worse.",
        sent=False,
    )


def _image_type(head: bytes) -> str:
    """The media type that the first 16 bytes stand for. Whether it is good enough is Partium's to say."""
    for prefix, media_type in _IMAGE_TYPES:
        if head.startswith(prefix):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "image/heic"
    return "application/octet-stream"


_IMAGE_TYPES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
