"""What ``sentry_sdk`` sends when saving a posted secret fails, with the configuration in docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant
from tests.admin.posted_secrets import VIEWS, assert_hidden, failing_browser, post

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:The send_default_pii")]


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The envelopes, as text."""
    envelopes: list[str] = []

    class Local(Transport):
        def capture_envelope(self, envelope: Envelope) -> None:
            envelopes.append(envelope.serialize().decode())

    sentry_sdk.init(
        "https://key@sentry.example/1",
        transport=Local,
        send_default_pii=True,
        include_local_variables=False,
        max_request_body_size="never",
    )
    yield envelopes
    sentry_sdk.get_client().close()
    sentry_sdk.init()


@pytest.mark.parametrize("view", VIEWS)
def test_a_posted_secret(
    ours: Tenant,
    root: Any,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
    partium_sandbox: PartiumSandbox,
    view: str,
) -> None:
    response, secret = post(failing_browser(root, monkeypatch), ours, partium_sandbox, view)
    assert_hidden("".join(sent), response, secret)
