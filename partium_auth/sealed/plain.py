"""``Plain``, the type of a secret in memory, from the form that it is typed into to the byte that is sent. No Django."""

from __future__ import annotations

from typing import Final

MASK: Final = "••••••••"


class Plain:
    """A secret that is not sealed. Its ``str`` and ``repr`` are masks.

    An error report shows the variables of every frame, whatever ``sensitive_variables`` says: Sentry does not read it, and
    the frame of that decorator itself holds the arguments.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of(cls, value: str | Plain) -> Plain:
        """Return a secret as ``Plain``, whichever it is. Give the result the name of the argument: that hides it."""
        return cls(value) if isinstance(value, str) else value

    def reveal(self) -> str:
        """Return the secret itself. Do not give it a name in a frame that goes on."""
        return self._value

    def strip(self) -> Plain:
        """Return the secret without the space around it."""
        return Plain(self._value.strip())

    def __len__(self) -> int:
        return len(self._value)

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__
