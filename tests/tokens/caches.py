"""Caches that misbehave, and one that counts."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache


class CountingCache(LocMemCache):
    """Memory, and a list of the calls that would be round trips."""

    calls: ClassVar[list[str]] = []

    def get_many(self, keys: Any, version: int | None = None) -> dict[str, Any]:
        self.calls.append("get_many")
        found = {}
        for key in keys:
            value = super().get(key, version=version)
            if value is not None:
                found[key] = value
        return found

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append("get")
        return super().get(*args, **kwargs)

    def set(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("set")
        super().set(*args, **kwargs)

    def add(self, *args: Any, **kwargs: Any) -> bool:
        self.calls.append("add")
        return bool(super().add(*args, **kwargs))


class BrokenCache(BaseCache):
    """Every call raises."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _broken(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ConnectionError("the cache is down")

    get = set = add = touch = delete = get_many = set_many = delete_many = clear = _broken


class SwallowingCache(BaseCache):
    """Down, and says nothing: ``IGNORE_EXCEPTIONS`` of django-redis."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def get_many(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}

    def set_many(self, *args: Any, **kwargs: Any) -> list[str]:
        return []

    get = set = touch = delete = clear = _nothing  # type: ignore[assignment]
