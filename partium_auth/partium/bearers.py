"""What a call of Partium's API is authenticated with, and where that comes from."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from partium_auth.exceptions import PartiumError


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a call is authenticated with, and for whom.

    Attributes:
        value: what goes behind ``Bearer``: an access token, or an API key.
        organization: Partium's id of the organization to search in, such as ``my-main-org``.
        external_user_id: unique to the end user, where users share a key (Partium, Find API: identifying unique users).
            Sent with searches only; characters other than printable ASCII are percent-encoded.
        origin: what the source knows it by.
        api_key_id: whose use this is, where the bearer is an organization's key or came from one.
    """

    value: str = field(repr=False)
    organization: str
    external_user_id: str | None = None
    origin: object = field(default=None, repr=False)
    api_key_id: uuid.UUID | None = None


class BearerSource(Protocol):
    """Where a :class:`~partium_auth.partium.client.FindClient` gets its bearer from, each time it sends.

    One that has ``accepted(bearer)`` and ``aaccepted(bearer)`` is told of every bearer that Partium answered 2xx to.
    """

    def current(self) -> Bearer:
        """The bearer to use now."""
        ...

    def replace(self, rejected: Bearer) -> Bearer:
        """Another one, since Partium answered 401 to this one."""
        ...

    async def acurrent(self) -> Bearer:
        """As :meth:`current`."""
        ...

    async def areplace(self, rejected: Bearer) -> Bearer:
        """As :meth:`replace`."""
        ...


@contextmanager
def named_in_errors(organization: str) -> Iterator[None]:
    """Begin the messages of errors with the organization: the log of a job shows nothing else that tells which one it was."""
    try:
        yield
    except PartiumError as error:
        about = f"Organization {organization!r}: "
        if not str(error).startswith(about):
            error.args = (about + str(error),)
        raise
