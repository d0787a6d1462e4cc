"""What to look for, as a request to Partium's Find API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from partium_auth.exceptions import PayloadTooLarge, UnsupportedImage

MAX_PAYLOAD_BYTES: Final = 11 * 1024 * 1024 // 2
"""5.5 MiB a request (Partium, Find API: image search)."""

MULTIPART_BYTES: Final = 2048
"""More than the boundaries and headers of the two parts of a request with an image, and the organization's id."""

PROJECTION: Final = (
    "results.id",
    "results.partiumId",
    "results.name",
    "results.nameLanguage",
    "results.previewData",
    "results.images",
    "results.mountingLocationsCount",
    "results.createdAt",
    "results.modifiedAt",
    "results.attributes",
    "results.highlights",
)
"""All fields that are documented (Partium, Find API: expanding results)."""


class BinaryFile(Protocol):
    """A file open in binary mode; an upload of Django's is one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


Image: TypeAlias = bytes | bytearray | memoryview | BinaryFile


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchParameters:
    """The arguments of :meth:`FindClient.search`.

    Attributes:
        text: what to look for.
        image: bytes, or a file open in binary mode, read from where it stands.
        limit: the number of parts wanted at most.
        language: instead of the client's.
        projection: fields to answer with, such as ``results.name``. Default: all documented ones.
        matches: further members of ``matches``, such as filters; enough for a search of its own.
        result_options: further members of ``resultOptions``.
        total_seconds: for the call; a large image over a slow line may need more than the transport's.
    """

    text: str | None = None
    image: Image | None = field(default=None, repr=False)
    limit: int = 5
    language: str | None = None
    projection: Sequence[str] | None = None
    matches: Mapping[str, Any] | None = None
    result_options: Mapping[str, Any] | None = None
    total_seconds: float | None = None

    def body(self, *, language: str) -> Callable[[str], dict[str, Any]]:
        """Read the image from its file, and return what makes the body.

        Args:
            language: where the search names none.

        Returns:
            A function of the organization to search in (Partium's id). It returns the arguments of :meth:`Transport.send`.

        Raises:
            ValueError: there is nothing to search for, or ``matches`` names an organization.
            PayloadTooLarge: image and input are over 5.5 MiB.
            UnsupportedImage: the image is empty.
        """
        if self.text is None and self.image is None and not self.matches:
            raise ValueError("There is nothing to search for: give text, image, or both.")
        if self.matches and "organization" in self.matches:
            raise ValueError("A client searches in its own organization; make another one for another organization.")
        query: dict[str, Any] = {
            "language": self.language or language,
            "projection": list(PROJECTION if self.projection is None else self.projection),
            "matches": {**({} if self.text is None else {"text": self.text}), **(self.matches or {})},
            "resultOptions": {"limit": self.limit, **(self.result_options or {})},
        }
        image = None
        if self.image is not None:
            image = _read(self.image, MAX_PAYLOAD_BYTES - MULTIPART_BYTES - len(json.dumps(query, allow_nan=False)))

        def body_for(organization: str) -> dict[str, Any]:
            asked = {**query, "matches": {"organization": organization, **query["matches"]}}
            if image is None:
                return {"json": asked}
            part = json.dumps(asked, allow_nan=False)
            # As in Partium's sample: no file name, and no media type that would have to be right.
            return {
                "files": {"input": (None, part, "application/json"), "image": (None, image, "application/octet-stream")}
            }

        return body_for


def _read(image: Image, max_bytes: int) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        pieces = [bytes(image)]
    else:
        pieces, left = [], max_bytes + 1
        while left > 0 and (piece := image.read(left)):
            if not isinstance(piece, bytes):
                raise TypeError("The image has to be open in binary mode.")
            pieces.append(piece)
            left -= len(piece)
    data = b"".join(pieces)
    if not data:
        raise UnsupportedImage("The image is empty, or its file has been read to the end already.", sent=False)
    if len(data) > max_bytes:
        raise PayloadTooLarge(
            "The image is too large for Partium: 5.5 MiB with the input. Send a smaller one; it will not be found any worse.",
            sent=False,
        )
    return data
