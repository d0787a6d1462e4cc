"""What the tests need of a real provider, and what each can do (``Traits``)."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.real_providers.visitor import Visitor

CLIENT_ID = "site"
CLIENT_SECRET = "a-secret-of-the-tests"


@dataclass(frozen=True)
class Traits:
    """What a provider can do, as docs/providers.md says it; each is shown by a test."""

    version: str
    back_channel: bool
    disabled_ends_login: bool
    """Whether somebody who was disabled there gets no new tokens for an old refresh token."""


class RealProvider(abc.ABC):
    """A server's process and its administration: one person, ann, and one client, the site."""

    name: ClassVar[str]
    traits: ClassVar[Traits]
    issuer: str
    subject: str
    """ann's, since ``begin()``."""

    @abc.abstractmethod
    def __init__(self, home: Path, directory: Path, site: str) -> None:
        """Prepare a server that is installed in ``home`` and keeps its data in ``directory``, for the site at this URL."""

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def stop(self) -> None: ...

    @abc.abstractmethod
    def site_settings(self) -> dict[str, Any]:
        """Return the settings of docs/providers.md, as far as they are not the same for all."""

    @abc.abstractmethod
    def begin(self) -> None:
        """Make ann anew, a developer of acme and a member of globex. Refresh tokens do not rotate."""

    @abc.abstractmethod
    def rotate_refresh_tokens(self) -> None: ...

    @abc.abstractmethod
    def take_rights(self) -> None:
        """Take ann out of globex, and her role from her."""

    @abc.abstractmethod
    def disable(self) -> None:
        """Disable ann's account."""

    @abc.abstractmethod
    def end_logins(self) -> None:
        """End ann's logins, as an operator there does."""

    @abc.abstractmethod
    def replace_key(self) -> None:
        """Sign with a new key from now on."""

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Answer nobody for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @abc.abstractmethod
    def asks_who(self, page: requests.Response) -> bool:
        """Tell whether this is the page that asks for a user name or a password."""

    def sign_in(self, visitor: Visitor, page: requests.Response) -> requests.Response:
        """Answer that page."""
        assert self.asks_who(page), page.text
        return visitor.submit(page, username="ann", password="demo")

    def log_in(self, visitor: Visitor, next_url: str = "/page/home/") -> requests.Response:
        return self.sign_in(visitor, visitor.open_login(next_url))
