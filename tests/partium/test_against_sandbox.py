"""The clients against the Partium sandbox, which implements the documented API strictly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from partium_auth.exceptions import CredentialsRejected, NotPermitted, UnprocessableRequest, UnsupportedImage
from partium_auth.http.transport import Transport
from partium_auth.partium.authentication import AuthenticationAPI
from partium_auth.partium.client import Bearer, FindClient
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.testing.sandbox.seed import ACME_KEY, ACME_PASSWORD, ACME_USERNAME

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


class KeySource:
    """Exchanges acme's key, and once more where the token is rejected."""

    def __init__(self, auth: AuthenticationAPI) -> None:
        self.auth = auth
        self.organization = "acme"
        self.token: str | None = None

    def current(self) -> Bearer:
        self.token = self.token or self.auth.exchange_api_key(ACME_KEY).access_token
        return Bearer(self.token, self.organization, "user-1")

    def replace(self, rejected: Bearer) -> Bearer:
        self.token = None
        return self.current()

    async def acurrent(self) -> Bearer:
        return await asyncio.to_thread(self.current)

    async def areplace(self, rejected: Bearer) -> Bearer:
        return await asyncio.to_thread(self.replace, rejected)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PartiumSandbox]:
    with PartiumSandbox.start() as sandbox:
        yield sandbox


@pytest.fixture
def transport(sandbox: PartiumSandbox) -> Iterator[Transport]:
    sandbox.reset()
    transport = Transport()
    yield transport
    transport.close()


@pytest.fixture
def auth(sandbox: PartiumSandbox, transport: Transport) -> AuthenticationAPI:
    return AuthenticationAPI(transport, base_url=sandbox.url, auth_path="/1/auth", refresh_path="/auth/refresh")


@pytest.fixture
def source(auth: AuthenticationAPI) -> KeySource:
    return KeySource(auth)


@pytest.fixture
def client(sandbox: PartiumSandbox, transport: Transport, source: KeySource) -> FindClient:
    return FindClient(transport, base_url=sandbox.url, source=source)


def test_credentials_are_exchanged_and_refreshed(auth: AuthenticationAPI) -> None:
    tokens = auth.exchange_password(ACME_USERNAME, ACME_PASSWORD)
    assert tokens.lifetime_seconds == 600
    assert tokens.refresh_token
    assert auth.refresh(tokens.refresh_token).access_token != tokens.access_token
    assert auth.exchange_api_key(ACME_KEY).access_token


def test_unknown_credentials_are_rejected(auth: AuthenticationAPI) -> None:
    with pytest.raises(CredentialsRejected):
        auth.exchange_api_key("unknown")
    with pytest.raises(CredentialsRejected):
        auth.exchange_password(ACME_USERNAME, "wrong")
    with pytest.raises(CredentialsRejected):
        auth.refresh("unknown")


def test_parts_are_found_by_text_and_image_page_by_page(client: FindClient) -> None:
    first = client.search(text="fan", limit=5)
    assert len(first.results) == 5
    assert all(part.name and part.created_at for part in first.results)
    assert first.session_id
    second = client.page(first.session_id, skip=5, limit=5)
    following = [page for page, _ in zip(client.pages(first, limit=5), range(2), strict=False)]
    assert following[0].results == second.results
    ids = [part.id for page in (first, *following) for part in page.results]
    assert len(set(ids)) == len(ids) == 15
    by_image = client.search(image=PNG, limit=2)
    assert by_image.image_id
    assert len(by_image.results) == 2


def test_what_the_api_refuses_is_its_exception(client: FindClient, source: KeySource) -> None:
    with pytest.raises(UnsupportedImage):
        client.search(image=b"no image")
    with pytest.raises(UnprocessableRequest):
        client.search(text="fan", limit=-1)
    source.organization = "globex"
    with pytest.raises(NotPermitted):
        client.search(text="fan")


def test_an_expired_token_is_replaced(client: FindClient, sandbox: PartiumSandbox) -> None:
    client.search(text="fan")
    sandbox.advance_clock(3600)
    assert client.search(text="fan").results
    assert asyncio.run(client.asearch(text="fan")).results
