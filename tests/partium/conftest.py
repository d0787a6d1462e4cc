from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest

from partium_auth.http.transport import Transport
from partium_auth.partium.authentication import AuthenticationAPI
from partium_auth.partium.client import Bearer, FindClient
from tests.http.conftest import plain_environment, upstream  # noqa: F401
from tests.http.upstream import Peer, Request, Upstream


@dataclass
class Source:
    """Bearers token-0, token-1, …: a replacement is the next one."""

    calls: list[str] = field(default_factory=list)
    number: int = 0
    organization: str = "acme"
    external_user_id: str | None = None

    def bearer(self) -> Bearer:
        return Bearer(f"token-{self.number}", self.organization, self.external_user_id)

    def current(self) -> Bearer:
        self.calls.append("current")
        return self.bearer()

    def replace(self, rejected: Bearer) -> Bearer:
        self.calls.append(f"replace {rejected.value}")
        self.number += 1
        return self.bearer()

    async def acurrent(self) -> Bearer:
        self.calls.append("acurrent")
        return self.bearer()

    async def areplace(self, rejected: Bearer) -> Bearer:
        self.calls.append(f"areplace {rejected.value}")
        self.number += 1
        return self.bearer()


@dataclass
class API:
    """Partium as a test wants it: ``answer`` is called with each request and returns what ``Peer.answer`` takes."""

    server: Upstream
    transport: Transport
    source: Source
    answer: Callable[[Request], tuple[Any, ...]]

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    @property
    def last(self) -> Request:
        return self.server.requests[-1]

    def replies(self, *reply: Any) -> None:
        """The same answer to everything: status, headers, body."""
        self.answer = lambda request: reply

    def accepts(self, *tokens: str, body: dict[str, Any] | None = None) -> None:
        """401 to every bearer but these."""
        accepted = {f"Bearer {token}" for token in tokens}
        self.answer = lambda request: (
            (200, {}, FOUND if body is None else body)
            if request.headers["authorization"] in accepted
            else (401, {"WWW-Authenticate": "Bearer"}, {"message": "s3cret"})
        )

    def find(self, **options: Any) -> FindClient:
        arguments = {"base_url": self.server.url, "source": self.source, **options}
        return FindClient(self.transport, **arguments)

    def auth(self, **options: Any) -> AuthenticationAPI:
        arguments = {"base_url": self.server.url, "auth_path": "/1/auth", "refresh_path": "/auth/refresh", **options}
        return AuthenticationAPI(self.transport, **arguments)


FOUND: dict[str, Any] = {"sessionId": "5e55", "imageId": None, "results": [{"id": "RM5119150", "name": "FAN"}]}


def parts_of(request: Request) -> dict[str, Any]:
    """A multipart body's parts by name, as another implementation reads them."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    assert not message.defects
    return {str(part.get_param("name", header="Content-Disposition")): part for part in message.iter_parts()}


@pytest.fixture
def api(upstream: Callable[..., Upstream]) -> Iterator[API]:  # noqa: F811
    def script(peer: Peer) -> None:
        while True:
            peer.answer(*made.answer(peer.request()))

    transport = Transport()
    made = API(upstream(script), transport, Source(), lambda request: (200, {}, FOUND))
    yield made
    transport.close()
