"""Keeping the app's own views out of a host's ``ATOMIC_REQUESTS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections, transaction

V = TypeVar("V", bound=Callable[..., Any])


def outside_of_them(view: V) -> V:
    """Return a view that runs outside of ``ATOMIC_REQUESTS``, whatever database has it.

    The app's views wait for other servers: a transaction held meanwhile keeps a connection busy, and on SQLite everybody
    else from writing, the renewal that the view waits for among them. What belongs together is in transactions of its own.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
