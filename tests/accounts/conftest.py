"""The provider and the browser of ``tests.oidc``."""

from tests.oidc.conftest import (  # noqa: F401  # fixtures
    _other_provider_server,
    _provider_server,
    acme,
    browser,
    globex,
    op,
    other_op,
    refused,
)
