"""What Partium's public pages leave open, with the likeliest answer. A site that knows better says so in a setting."""

from __future__ import annotations

import difflib
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    """Paths and names that no public page of Partium states. ``docs/partium-api.md`` says where each one comes from.

    Paths are templates. Places that may be used: ``{session_id}``, ``{organization}``, ``{language}``, ``{root}``, ``{partium_root}``,
    ``{containing}``, ``{label}``, ``{skip}``, ``{limit}``, ``{page}`` (from 1), ``{page_from_0}``, ``{projection}`` (names
    with commas between them). A query parameter whose place is empty is left out.

    Attributes:
        page_path: further results of a search. The SDK calls the two parameters ``skip`` and ``limit``.
        hierarchy_path: the nodes below a root. Path, ``rootId`` and ``rootPartiumId`` are documented.
        attributes_path: the attributes that can be filtered by. The path is documented, the names are not.
        attribute_values_path: the values of an attribute. Partium's page has ``filters/filters/options``, probably a slip.
        relevance_event: name of the event of a relevance judgement.
        relevance_field: where that event's data hold the judgement.
    """

    page_path: str = "/1/find/search/{session_id}?skip={skip}&limit={limit}"
    hierarchy_path: str = (
        "/1/find/filters/hierarchy?rootId={root}&rootPartiumId={partium_root}&organization={organization}"
        "&language={language}&page={page}&pageSize={limit}"
    )
    attributes_path: str = (
        "/1/find/filters/attributes?text={containing}&organization={organization}&language={language}"
        "&page={page}&pageSize={limit}"
    )
    attribute_values_path: str = (
        "/1/find/filters/attributes/options?label={label}&text={containing}&organization={organization}"
        "&language={language}&page={page}&pageSize={limit}"
    )
    relevance_event: str = "part_search_relevancy"
    relevance_field: str = "relevancy"

    @classmethod
    def changed(cls, changes: Mapping[str, Any]) -> Self:
        """Return the assumptions with some of them changed.

        Raises:
            ValueError: an unknown name, a value that is no string, or an unknown place in a path.
        """
        known = asdict(cls())
        for name, value in changes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(f"Unknown name {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name!r} has to be a string.")
            if name.endswith("_path") and not value.startswith("/"):
                raise ValueError(f"{name!r} has to begin with a slash.")
            if name.endswith("_path") and (wrong := _places(value) - PLACES):
                raise ValueError(f"{name!r} has no place {min(wrong)!r}; it may have {', '.join(sorted(PLACES))}.")
        return cls(**{**known, **changes})


PLACES = frozenset(
    [
        "session_id",
        "organization",
        "language",
        "root",
        "partium_root",
        "containing",
        "label",
        "skip",
        "limit",
        "page",
        "page_from_0",
        "projection",
    ]
)


def expand(template: str, values: Mapping[str, object]) -> str:
    """Return a path with its places filled in; query parameters that stay empty are left out."""
    path, _, query = template.partition("?")
    filled = {name: str(values.get(name) or ("0" if name in {"skip", "page_from_0"} else "")) for name in PLACES}
    pairs = [(name, value.format(**filled)) for name, value in parse_qsl(query, keep_blank_values=True)]
    asked = urlencode([(name, value) for name, value in pairs if value], quote_via=quote)
    path = path.format(**{name: quote(value, safe="") for name, value in filled.items()})
    return f"{path}?{asked}" if asked else path


def _places(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
