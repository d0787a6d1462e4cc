"""A provider for hosts, with refreshes in threads as in production."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from partium_auth.oidc import documents
from tests.oidc.conftest import provider_server  # noqa: F401  # a fixture
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, BendableProvider


@pytest.fixture
def op(provider_server: BendableProvider, settings: Settings) -> Iterator[BendableProvider]:  # noqa: F811
    """The provider of the settings, named ``default``."""
    provider_server.reset()
    documents.forget()
    settings.OIDC_OP_ISSUER = provider_server.url
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    yield provider_server
    provider_server.reset()
