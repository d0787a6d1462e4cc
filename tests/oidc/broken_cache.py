from typing import Any, NoReturn

from django.core.cache.backends.base import BaseCache


class BrokenCache(BaseCache):
    """A cache whose server is gone."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ConnectionError("gone")

    add = set = get
