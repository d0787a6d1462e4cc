from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from partium_auth.http.transport import Transport
from tests.http.certificates import server_context
from tests.http.upstream import Script, Upstream, running


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle", "netrc"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def upstream() -> Iterator[Callable[..., Upstream]]:
    """Starts a server with a script; keyword arguments as :class:`Upstream` has them."""
    with ExitStack() as stack:

        def start(script: Script, **options: Any) -> Upstream:
            return stack.enter_context(running(script, **options))

        yield start


@pytest.fixture
def transport(upstream: object) -> Iterator[Transport]:
    """Patient with single reads, so that only the total deadline can end a drip. Closed before the servers are."""
    transport = Transport(connect_seconds=10, read_seconds=10, total_seconds=10)
    yield transport
    transport.close()


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return server_context(folder, "localhost", "api.example.test"), folder / "ca.pem"


@pytest.fixture
def tls(tls_files: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server context that the transport trusts."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[1]))
    return tls_files[0]
