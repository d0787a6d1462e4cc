"""Where the database fails, no variable of any frame shows a secret; see ``tests/admin/test_sentry.py``, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client

from partium_auth.accounts import matching
from partium_auth.models import ApiKey, IdentityProvider, Organization
from partium_auth.services import add_key, keys, rotate_key, save_provider, verify_key
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants
from tests.reports import frames_that_show

pytestmark = pytest.mark.django_db
CLIENT_SECRET = "client-secret-0123456789"


def fail(*args: object, **kwargs: object) -> Any:
    raise DatabaseError("the database failed")


def frames_with(secret: str, run: Callable[[], object]) -> list[str]:
    """Run what fails, and return every frame in which a variable shows the secret."""
    with pytest.raises(DatabaseError) as caught:
        run()
    return frames_that_show(caught.value, [secret])


@pytest.fixture
def acme(partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="acme")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(ApiKey, "save"), (keys, "record"), (keys, "_refuse_duplicate"), (grants, "for_key"), (keys, "fingerprint")],
)
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("rotates", [True, False])
def test_a_key_that_is_stored(
    acme: Organization,
    partium_sandbox: PartiumSandbox,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    verify: bool,
    rotates: bool,
) -> None:
    old = add_key(acme, partium_sandbox.add_key("acme"), label="old", actor=None)
    value = partium_sandbox.add_key("acme")
    monkeypatch.setattr(owner, name, fail)

    def store() -> object:
        if rotates:
            return rotate_key(old, value, label="new", actor=None, verify=verify)
        return add_key(acme, value, label="new", actor=None, verify=verify)

    assert frames_with(value, store) == []


def test_a_key_that_is_verified(
    acme: Organization, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = partium_sandbox.add_key("acme")
    key = add_key(acme, value, label="a", actor=None)
    monkeypatch.setattr(keys, "record", fail)
    assert frames_with(value, lambda: verify_key(key, actor=None)) == []


def test_a_client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    row = IdentityProvider(slug="acme", display_name="Acme", issuer="https://login.acme.example", client_id="portal")
    monkeypatch.setattr(IdentityProvider, "save", fail)
    assert frames_with(CLIENT_SECRET, lambda: save_provider(row, actor=None, client_secret=CLIENT_SECRET)) == []


@pytest.mark.parametrize(("owner", "name"), [(matching, "record_login"), (grants, "open_grant")])
def test_a_password(
    partium_sandbox: PartiumSandbox, client: Client, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    password = "correct horse battery"
    partium_sandbox.add_user("ann", password, "acme")
    monkeypatch.setattr(owner, name, fail)
    form = {"username": "ann", "password": password}
    assert frames_with(password, lambda: client.post("/partium/login/", form)) == []
