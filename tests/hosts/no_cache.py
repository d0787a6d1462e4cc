"""A cache that fails whoever asks it: others may write to a site's cache, so the app must not read from it."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.base import BaseCache


class NoCache(BaseCache):
    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def clear(self) -> None:
        """Do nothing. Each test begins with this."""
