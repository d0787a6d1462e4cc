"""What was written through the Catalog API. It is not searched: an import makes it searchable, and its path is not public."""

from __future__ import annotations

import threading
from typing import Any

_IDS: dict[str, tuple[str, ...]] = {
    "organizations": ("org_id",),
    "attributes": ("attribute_id",),
    "attribute-options": ("attribute_id", "option_id"),
    "parts": ("part_id",),
    "assemblies": ("ass_id",),
    "assignments/parts": ("part_id", "ass_id"),
    "assignments/organizations": ("ass_id", "org_id"),
}
"""What identifies an item of each list. Two names: answers count its items instead."""


class Store:
    """One catalog, as lists of objects."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[tuple[str, ...], dict[str, Any]] = {}

    def knows(self, resource: str) -> bool:
        """Whether there is such a list."""
        return resource in _IDS

    def status(self) -> dict[str, Any]:
        """The state of the catalog (Partium, Catalog API: catalog)."""
        state = "data_to_import" if self._items else "clean"
        return {"status": state, "details": "", "last_import": None, "pending_import": None}

    def write(self, resource: str, items: list[dict[str, Any]], *, remove: bool) -> dict[str, Any]:
        """Create, change or remove items, and return what became of each."""
        created: list[Any] = []
        updated: list[Any] = []
        errors: dict[str, str] = {}
        with self._lock:
            for index, item in enumerate(items):
                ids = tuple(item.get(name) for name in _IDS[resource])
                shown: Any = ids[0] if len(ids) == 1 else index
                if not all(isinstance(one, str) and one for one in ids):
                    errors[str(index)] = f"{' and '.join(_IDS[resource])} have to be strings."
                    continue
                key = (resource, *(str(one) for one in ids))
                if remove:
                    self._items.pop(key, None)
                    continue
                if key not in self._items:
                    created.append(shown)
                elif not resource.startswith("assignments/"):  # existing pairs are ignored
                    updated.append(shown)
                self._items[key] = item
        return {"created": created, "updated": updated, "errors": errors}
