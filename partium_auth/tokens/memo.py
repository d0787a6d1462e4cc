"""A bounded dictionary per process that forgets the least recently used entries first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from partium_auth.host.per_process import PerProcess

T = TypeVar("T")


class Memo(Generic[T]):
    """A bounded dictionary, one per process, for any number of threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: PerProcess[_Kept[T]] = PerProcess(_Kept)

    def get(self, key: Hashable) -> T | None:
        kept = self._kept()
        with kept.lock:
            if key not in kept.entries:
                return None
            kept.entries.move_to_end(key)
            return kept.entries[key]

    def put(self, key: Hashable, value: T) -> None:
        kept = self._kept()
        with kept.lock:
            kept.entries[key] = value
            kept.entries.move_to_end(key)
            if len(kept.entries) > self._limit:
                kept.entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything; for tests."""
        kept = self._kept()
        with kept.lock:
            kept.entries.clear()


class _Kept(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: OrderedDict[Hashable, T] = OrderedDict()
