"""What to look for, as a request to Partium's Find API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias

from partium_auth.exceptions import NothingToSearch, PayloadTooLarge, UnsupportedImage

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
"""All fields of a part that are documented (Partium, Find API: expanding results)."""

FACETS: Final = "smartFilters"
DEFAULT_LIMIT: Final = 5


class BinaryFile(Protocol):
    """A file open in binary mode; an upload of Django's is one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


Image: TypeAlias = bytes | bytearray | memoryview | BinaryFile


Values: TypeAlias = str | Sequence[str]
"""One text, or several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchParameters:
    """The arguments of :meth:`FindClient.search`; None is the default of each.

    Attributes:
        text: what to look for.
        image: bytes, or a file open in binary mode, read from where it stands.
        filters: attributes and the values wanted, such as ``{"Voltage": ["127V", "220V"], "Manufacturer": "ACME"}``. Enough
            for a search of its own (Partium, Find API: attribute filters).
        within: ids of nodes of the hierarchy; only parts below one of them. Enough on its own (hierarchy filters).
        facets: also return the filters that would narrow the results (smart filters).
        fallback_languages: tried in this order before the organization's own for names without a translation.
        limit: the number of parts wanted at most; 5.
        language: instead of the client's.
        projection: fields to answer with, such as ``results.name``. Default: all documented ones.
        matches: further members of ``matches``.
        result_options: further members of ``resultOptions``.
        total_seconds: for the call; a large image over a slow line may need more than the transport's.
    """

    text: str | None = None
    image: Image | None = field(default=None, repr=False)
    filters: Mapping[str, Values] | None = None
    within: Values | None = None
    facets: bool | None = None
    fallback_languages: Values | None = None
    limit: int | None = None
    language: str | None = None
    projection: Sequence[str] | None = None
    matches: Mapping[str, Any] | None = None
    result_options: Mapping[str, Any] | None = None
    total_seconds: float | None = None

    @property
    def results_wanted(self) -> int:
        """The most parts that one answer may have."""
        return DEFAULT_LIMIT if self.limit is None else self.limit

    def with_image_read(self, *, language: str) -> SearchParameters:
        """Return the same with the image read from its file and the language filled in, so that it can be sent again.

        Args:
            language: where the search names none.

        Raises:
            NothingToSearch: no text but space, no image, no filters, no ``within``.
            ValueError: ``matches`` names an organization.
            PayloadTooLarge: image and input are over 5.5 MiB.
            UnsupportedImage: the image is empty.
        """
        if self.matches and "organization" in self.matches:
            raise ValueError("A client searches in its own organization; make another one for another organization.")
        asked = replace(self, language=self.language or language)
        query = asked.query("")
        del query["matches"]["organization"]  # MULTIPART_BYTES includes it
        if self.image is None:
            if not query["matches"]:
                raise NothingToSearch(
                    "There is nothing to search for: give text, image, or both; or filters, or within."
                )
            return asked
        rest = MULTIPART_BYTES + len(json.dumps(query, allow_nan=False))
        return replace(asked, image=_read(self.image, MAX_PAYLOAD_BYTES - rest))

    def query(self, organization: str) -> dict[str, Any]:
        """Return the JSON object that asks for this (Partium, Find API: part search)."""
        projection = list(PROJECTION if self.projection is None else self.projection)
        if self.facets and FACETS not in projection:
            projection.append(FACETS)
        matches: dict[str, Any] = {"organization": organization}
        if self.text and not self.text.isspace():
            matches["text"] = self.text
        if self.filters:
            chosen = {label: _texts(values) for label, values in self.filters.items()}
            matches["filters"] = [{"label": label, "values": values} for label, values in chosen.items() if values]
        if self.within:
            matches["hierarchy"] = _texts(self.within)
        query: dict[str, Any] = {"language": self.language}
        if self.fallback_languages:
            query["fallbackLanguages"] = _texts(self.fallback_languages)
        return query | {
            "projection": projection,
            "matches": matches | dict(self.matches or {}),
            "resultOptions": {"limit": self.results_wanted, **(self.result_options or {})},
        }

    def body(self, organization: str) -> dict[str, Any]:
        """Return the arguments of :meth:`Transport.send`, after :meth:`with_image_read`."""
        query = self.query(organization)
        if self.image is None:
            return {"json": query}
        part = json.dumps(query, allow_nan=False)
        # As in Partium's sample: no file name, and no media type that would have to be right.
        return {
            "files": {
                "input": (None, part, "application/json"),
                "image": (None, self.image, "application/octet-stream"),
            }
        }


def _texts(values: Values) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


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
