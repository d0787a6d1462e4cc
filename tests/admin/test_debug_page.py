"""With ``DEBUG`` on, the page that Django shows for an error hides the secret that was posted."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from partium_auth.models import ApiKey, IdentityProvider
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant, login

pytestmark = pytest.mark.django_db
SECRET = "canary-0123456789-of-a-posted-secret"
KEY = {"organization": "aardvark", "label": "shop", "overlap_hours": "1", "allow_unverified": "on"}


@pytest.fixture
def browser(root: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Client:
    settings.DEBUG = True

    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError("the database failed")

    for model in (ApiKey, IdentityProvider):
        monkeypatch.setattr(model, "save", fail)
    client = login(root)
    client.raise_request_exception = False
    return client


def check(response: Any, secret: str) -> None:
    page = response.content.decode()
    assert response.status_code == 500
    assert "the database failed" in page
    at = page.find(secret)
    assert at < 0, page[max(0, at - 900) : at + 100]


@pytest.mark.parametrize("view", ["add", "rotate"])
def test_a_pasted_key(ours: Tenant, browser: Client, partium_sandbox: PartiumSandbox, view: str) -> None:
    partium_sandbox.add_organization("aardvark")
    value = partium_sandbox.add_key("aardvark")
    url = reverse(f"admin:partium_auth_apikey_{view}", args=[ours.key.pk] if view == "rotate" else [])
    check(browser.post(url, {**KEY, "value": value}), value)


@pytest.mark.parametrize("view", ["add", "change"])
def test_a_client_secret(ours: Tenant, browser: Client, view: str) -> None:
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
    check(browser.post(url, form), SECRET)
