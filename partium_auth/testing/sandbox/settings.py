"""How the sandbox behaves where Partium documents nothing, or where a test needs something else."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_type_hints


@dataclass(frozen=True)
class Settings:
    """The settings; ``docs/sandbox.md`` says what each does. What Partium does not document is a setting."""

    lifetime_seconds: float = 600
    refresh_lifetime_seconds: float = 30 * 86_400
    token_format: Literal["opaque", "jwt"] = "opaque"
    rotate: bool = True
    grace_seconds: float = 0
    refresh_token_in: Literal["all", "exchange", "none"] = "all"
    send_expires_in: bool = True
    naming: Literal["snake", "camel"] = "snake"
    strict: bool = False
    form: Literal["common", "other"] = "common"
    send_total: bool = False
    maintenance: bool = False
    rate_limit_per_second: float = 150
    auth_paths: tuple[str, ...] = ("/auth", "/auth/", "/1/auth", "/1/auth/")
    refresh_paths: tuple[str, ...] = ("/auth/refresh", "/1/auth/refresh")
    clock_offset_seconds: float = 0
    clock_frozen: bool = False

    def changed(self, changes: dict[str, Any]) -> Settings:
        """A copy with some settings changed.

        Raises:
            ValueError: an unknown name (with the nearest known one), or a value of the wrong type or range.
        """
        known = asdict(self)
        for name, value in changes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(f"Unknown setting {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
            if not _fits(name, value, known[name]):
                raise ValueError(f"The setting {name!r} cannot be {value!r}.")
        lists_as_tuples = {name: tuple(one) if isinstance(one, list) else one for name, one in changes.items()}
        return Settings(**(known | lists_as_tuples))


def _fits(name: str, value: Any, present: Any) -> bool:
    if isinstance(present, str):
        return value in get_args(get_type_hints(Settings)[name])
    if isinstance(present, bool):
        return isinstance(value, bool)
    if isinstance(present, tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, int | float) and (value >= 0 or name == "clock_offset_seconds")
