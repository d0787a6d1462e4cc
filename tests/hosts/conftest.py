"""A provider for hosts, with renewals in threads as in production."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from partium_auth.oidc import documents
from tests.oidc.conftest import _provider_server  # noqa: F401  # a fixture
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, BendableProvider


@pytest.fixture
def op(_provider_server: BendableProvider, settings: Any) -> Iterator[BendableProvider]:  # noqa: F811
    """The provider of the settings, named ``default``."""
    _provider_server.reset()
    documents.forget()
    settings.OIDC_OP_ISSUER = _provider_server.url
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    yield _provider_server
    _provider_server.reset()
