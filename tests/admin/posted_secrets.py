"""Posting a secret to each admin page that takes one, while the database fails."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse

from partium_auth.models import ApiKey, IdentityProvider
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant, login

SECRET = "canary-0123456789-of-a-posted-secret"
VIEWS = ("apikey_add", "apikey_rotate", "identityprovider_add", "identityprovider_change")
FAILURE = "the database failed"
_KEY = {"organization": "aardvark", "label": "shop", "overlap_hours": "1", "allow_unverified": "on"}
_PROVIDER = {
    "slug": "new",
    "display_name": "New",
    "issuer": "https://login.example.com",
    "client_id": "portal",
    "client_authentication": "client_secret_basic",
    "new_client_secret": SECRET,
    "scopes": "openid",
    "extra_parameters": "{}",
    "signing_algorithms": "RS256",
    "is_active": "on",
    "email_domains-TOTAL_FORMS": "0",
    "email_domains-INITIAL_FORMS": "0",
}


def failing_browser(root: Any, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Return an operator's browser, for which no key and no provider can be saved."""

    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError(FAILURE)

    for model in (ApiKey, IdentityProvider):
        monkeypatch.setattr(model, "save", fail)
    client = login(root)
    client.raise_request_exception = False
    return client


def post(browser: Client, ours: Tenant, sandbox: PartiumSandbox, view: str) -> tuple[Any, str]:
    """Post a secret to one of :data:`VIEWS`; return the response and the secret."""
    changed = {"apikey_rotate": ours.key, "identityprovider_change": ours.provider}.get(view)
    url = reverse(f"admin:partium_auth_{view}", args=[changed.pk] if changed else [])
    if view.startswith("identityprovider"):
        return browser.post(url, _PROVIDER), SECRET
    sandbox.add_organization("aardvark")
    value = sandbox.add_key("aardvark")
    return browser.post(url, {**_KEY, "value": value}), value


def assert_hidden(text: str, response: Any, secret: str) -> None:
    """Check that a text reports the failure, and does not show the secret."""
    assert response.status_code == 500
    assert FAILURE in text
    at = text.find(secret)
    assert at < 0, text[max(0, at - 900) : at + 100]
