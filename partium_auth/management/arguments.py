"""Types of arguments that several commands have."""

from __future__ import annotations

from argparse import ArgumentTypeError


def at_least_one(text: str) -> int:
    """Return a whole number that is at least 1. Raises ``ArgumentTypeError`` for any other text."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
