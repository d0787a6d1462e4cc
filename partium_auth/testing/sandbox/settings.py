"""How the sandbox behaves where Partium documents nothing, or where a test needs something else."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_type_hints


@dataclass(frozen=True)
class Settings:
    """The settings. What Partium does not document is a setting, and the default is the common case.

    Attributes:
        lifetime_seconds: of new access tokens. Partium's default is 600.
        refresh_lifetime_seconds: of new refresh tokens.
        token_format: new access tokens are ``"opaque"`` or ``"jwt"`` (a signed JWT with ``exp``).
        rotate: a refresh answers with a new refresh token and the old one works no more; off, the same one stays valid.
        grace_seconds: how long the *previous* refresh token is still accepted after a rotation.
        refresh_token_in: which answers carry a refresh token: ``"all"``, only the ``"exchange"`` of a password or key
            (refreshes then do not rotate), or ``"none"``.
        send_expires_in: whether answers carry the lifetime.
        naming: ``"snake"`` (``access_token``, RFC 6749 section 5.1) or ``"camel"`` (``accessToken``).
        strict: a field of a search that Partium does not document is answered with 422; off, it is ignored.
        form: where the form of an answer is not documented: ``"common"``, or ``"other"``, an equally likely one.
        send_total: whether a search says how many parts there are in all.
        maintenance: writes to the Catalog API are answered with 503.
        rate_limit_per_second: Find calls per organization and second.
        auth_paths, refresh_paths: the paths that exist; on any other the sandbox answers 404.
        clock_offset_seconds: how far the sandbox's clock, and its ``Date`` header, is ahead of this machine's.
        clock_frozen: the clock stands still, so that only :attr:`clock_offset_seconds` moves it.
    """

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
