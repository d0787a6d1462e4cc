"""For the tests of a site that installs this app. ``docs/testing.md`` shows each; the pytest fixtures need no import.

Importing the package costs nothing: pytest does it in every run of such a site, so the names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partium_auth.testing.people import PartiumUser, log_in
    from partium_auth.testing.test_case import PartiumTestCase

__all__ = ["PartiumTestCase", "PartiumUser", "log_in"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'test_case' if name == 'PartiumTestCase' else 'people'}"), name)
