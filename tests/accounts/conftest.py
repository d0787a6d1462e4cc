"""The provider and the browser of ``tests.oidc``."""

from tests.oidc.conftest import (  # noqa: F401  # fixtures
    acme,
    browser,
    globex,
    op,
    other_op,
    other_provider_server,
    provider_server,
    refused,
)
