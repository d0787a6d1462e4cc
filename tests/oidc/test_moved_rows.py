"""Somebody who can write to the database, but has no encryption key, gets no secret by moving or redirecting rows."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY
from django.core.exceptions import ValidationError
from pytest_django import Settings

from partium_auth.exceptions import EncryptionError, LoginRequired
from partium_auth.models import ApiKey, Grant, IdentityProvider, Organization
from partium_auth.oidc import providers
from partium_auth.services import add_key, revoke_key, save_provider
from partium_auth.tokens import keys, send_credential, state
from tests.oidc.conftest import Browser, add_provider
from tests.oidc.provider import CLIENT_SECRET, BendableProvider

pytestmark = pytest.mark.django_db
ELSEWHERE = "https://evil.example/token"


def give_token(key: ApiKey) -> None:
    from partium_auth.fields import seal

    grant = Grant.objects.get(pk=key.pk)
    grant.access_token = seal(grant, "access_token", "a token of acme")
    grant.issued_at, grant.lifetime_seconds, grant.generation = 2e9, 600, 1
    grant.save()


def test_a_key_that_is_moved_gives_the_other_organization_nothing(acme: Organization, globex: Organization) -> None:
    key = add_key(acme, "pk-0123456789abcdef-acme", label="a", actor=None, verify=False)
    give_token(key)
    (seen,) = keys.read(acme.pk).candidates
    assert seen.access_token().value == "a token of acme"

    ApiKey.objects.filter(pk=key.pk).update(organization=globex)
    moved = ApiKey.objects.get(pk=key.pk)
    assert moved.secret is not None
    with pytest.raises(EncryptionError):
        moved.secret.reveal()
    (seen,) = keys.read(globex.pk).candidates
    assert seen.token is None  # it would have to be refreshed, and the key does not open

    Grant.objects.filter(pk=key.pk).update(bound_to=str(globex.pk))
    (seen,) = keys.read(globex.pk).candidates
    with pytest.raises(EncryptionError):
        seen.access_token()


def test_a_revoked_key_cannot_be_added_again(acme: Organization) -> None:
    key = add_key(acme, "pk-0123456789abcdef-acme", label="a", actor=None, verify=False)
    revoke_key(key, actor=None)
    key.refresh_from_db()
    assert key.secret is None
    with pytest.raises(ValidationError, match="revoked here"):
        add_key(acme, "pk-0123456789abcdef-acme", label="b", actor=None, verify=False)


@pytest.mark.parametrize("change", [{"token_endpoint": ELSEWHERE}, {"issuer": "https://evil.example"}, {"moved": True}])
def test_a_redirected_provider_gets_neither_client_secret_nor_refresh_token(
    op: BendableProvider, globex: Organization, change: dict[str, Any]
) -> None:
    add_provider(op)
    browser = Browser(op)
    assert browser.log_in("other").status_code == 302
    grant = Grant.objects.select_related("identity").get()
    assert send_credential.send_credential(grant, lambda: None).access_token

    rows = IdentityProvider.objects.filter(slug="other")
    rows.update(**({"organization": globex} if "moved" in change else change))
    with pytest.raises(EncryptionError):
        providers.get("other")
    # The secret can be removed: then the refresh token must not be sent either.
    rows.update(client_secret=None, client_authentication="none")
    sent = len(op.forms)
    with pytest.raises(LoginRequired, match="another one"):
        send_credential.send_credential(grant, lambda: None)
    # And the login can be bound to the redirected provider: then the refresh token does not open.
    Grant.objects.update(bound_to=rows.get().bound_to)
    grant = Grant.objects.select_related("identity").get()
    with pytest.raises(EncryptionError):
        send_credential.send_credential(grant, lambda: None)
    seen = state.read(grant.pk)
    assert seen is not None
    with pytest.raises(EncryptionError):
        seen.access_token()
    assert len(op.forms) == sent


def test_a_changed_url_needs_the_secret_again_and_ends_the_logins(op: BendableProvider, settings: Settings) -> None:
    add_provider(op)
    browser = Browser(op)
    browser.log_in("other")
    row = IdentityProvider.objects.get()
    row.scopes = "openid"
    save_provider(row, actor=None)
    assert SESSION_KEY in browser.client.session

    row.revocation_endpoint = "https://login.example.com/revoke"
    with pytest.raises(ValidationError, match="enter the client secret again") as caught:
        save_provider(row, actor=None)
    assert caught.value.code == "secret_needed"
    assert SESSION_KEY in browser.client.session

    save_provider(row, actor=None, client_secret=CLIENT_SECRET)
    assert providers.get("other").client_secret == CLIENT_SECRET
    assert Grant.objects.get().revoked_at is not None
    assert SESSION_KEY not in browser.client.session
