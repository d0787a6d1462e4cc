"""What ``sentry_sdk`` sends when saving a posted secret fails, with the configuration in docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from partium_auth.models import ApiKey, IdentityProvider
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant, login

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:The send_default_pii")]
SECRET = "canary-0123456789-of-a-posted-secret"
KEY = {"organization": "aardvark", "label": "shop", "overlap_hours": "1", "allow_unverified": "on"}


@pytest.fixture
def browser(root: Any, monkeypatch: pytest.MonkeyPatch) -> Client:
    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError("the database failed")

    for model in (ApiKey, IdentityProvider):
        monkeypatch.setattr(model, "save", fail)
    client = login(root)
    client.raise_request_exception = False
    return client


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


def check(sent: list[str], response: Any, secret: str) -> None:
    assert response.status_code == 500
    text = "".join(sent)
    assert "the database failed" in text
    at = text.find(secret)
    assert at < 0, text[max(0, at - 300) : at + 100]


@pytest.mark.parametrize("view", ["add", "rotate"])
def test_a_pasted_key(
    ours: Tenant, sent: list[str], browser: Client, partium_sandbox: PartiumSandbox, view: str
) -> None:
    partium_sandbox.add_organization("aardvark")
    value = partium_sandbox.add_key("aardvark")
    url = reverse(f"admin:partium_auth_apikey_{view}", args=[ours.key.pk] if view == "rotate" else [])
    check(sent, browser.post(url, {**KEY, "value": value}), value)


@pytest.mark.parametrize("view", ["add", "change"])
def test_a_client_secret(ours: Tenant, sent: list[str], browser: Client, view: str) -> None:
    url = reverse(f"admin:partium_auth_identityprovider_{view}", args=[ours.provider.pk] if view == "change" else [])
    form = {
        "slug": "new",
        "display_name": "New",
        "issuer": "https://login.example.com",
        "client_id": "portal",
        "client_authentication": "client_secret_basic",
        "new_client_secret": SECRET,
        "scopes": "openid",
        "extra_parameters": "{}",
        "signing_algorithms": "RS256",
        "email_domains-TOTAL_FORMS": "0",
        "email_domains-INITIAL_FORMS": "0",
    }
    check(sent, browser.post(url, form), SECRET)
