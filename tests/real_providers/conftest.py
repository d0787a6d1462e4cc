"""Real providers, each in a process of its own, and a site that uses one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from partium_auth import signals
from partium_auth.models import Organization
from partium_auth.oidc import documents
from tests.node_provider.conftest import chromium  # noqa: F401  # a fixture
from tests.real_providers.keycloak import Keycloak
from tests.real_providers.oauth_toolkit_provider import OAuthToolkit
from tests.real_providers.real_provider import CLIENT_ID, CLIENT_SECRET, RealProvider
from tests.real_providers.spring_provider import Spring
from tests.real_providers.visitor import Visitor

HOMES: dict[type[RealProvider], str] = {
    Keycloak: "KEYCLOAK_HOME",
    OAuthToolkit: "OAUTH_TOOLKIT_HOME",
    Spring: "SPRING_HOME",
}
"""The environment variable that says where ``make providers`` has installed each."""


def with_providers(*kinds: type[RealProvider]) -> pytest.MarkDecorator:
    """Run a test with each of these providers."""
    return pytest.mark.parametrize("provider", kinds, indirect=True, ids=[kind.name for kind in kinds])


@pytest.fixture(scope="session")
def _servers() -> Iterator[dict[type[RealProvider], RealProvider]]:
    """The providers that run, in whatever order tests need them."""
    servers: dict[type[RealProvider], RealProvider] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def provider(
    _servers: dict[type[RealProvider], RealProvider],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    live_server: Any,
    settings: Settings,
    transactional_db: None,
) -> RealProvider:
    """The parameter's provider, with ann made anew, and the site's settings for it."""
    kind = request.param
    home = os.environ.get(HOMES[kind])
    if not home:
        pytest.skip(f"needs {HOMES[kind]}; `make providers` installs it")
    if kind not in _servers:
        _servers[kind] = kind(Path(home), tmp_path_factory.mktemp("provider"), live_server.url)
        _servers[kind].start()
    server = _servers[kind]
    documents.forget()
    settings.OIDC_OP_ISSUER = server.issuer
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    settings.ROOT_URLCONF = "tests.node_provider.site"
    settings.LOGIN_REDIRECT_URL = "/page/home/"
    for name, value in server.site_settings().items():
        setattr(settings, name, value)
    for org_id in ("acme", "globex"):
        Organization.objects.create(org_id=org_id, display_name=org_id.title())
    server.begin()
    return server


@pytest.fixture
def visitor(provider: RealProvider, live_server: Any) -> Visitor:
    return Visitor(live_server.url)


@pytest.fixture
def calls(provider: RealProvider) -> Iterator[list[str]]:
    """Which of the provider's endpoints the site has called."""
    endpoints: list[str] = []

    def note(sender: object, endpoint: str, **kwargs: object) -> None:
        endpoints.append(endpoint)

    signals.upstream_called.connect(note)
    yield endpoints
    signals.upstream_called.disconnect(note)
