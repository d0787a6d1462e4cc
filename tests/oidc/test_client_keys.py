"""``private_key_jwt``: this site proves itself with a key pair, publishes its public half, and replaces it with an overlap."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import jwt
import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from partium_auth.exceptions import EncryptionError
from partium_auth.management import doctor
from partium_auth.models import AuditEvent, ClientKey, IdentityProvider
from partium_auth.oidc import client_keys, documents, providers, token_endpoint
from partium_auth.oidc.errors import Refused, RegistrationRefused
from partium_auth.policy import SessionActor
from partium_auth.sealed import encryption
from partium_auth.services import create_client_key, reseal, save_provider
from partium_auth.services.client_keys import OVERLAP
from tests.oidc.conftest import Browser, Refusals, add_provider
from tests.oidc.provider import CLIENT_ID, Answer, BendableProvider

pytestmark = pytest.mark.django_db
ALGORITHMS = "token_endpoint_auth_signing_alg_values_supported"


@pytest.fixture
def signs(op: BendableProvider, settings: Settings) -> BendableProvider:
    """The provider of the settings, which takes ``private_key_jwt`` only."""
    op.client_authentication = "private_key_jwt"
    settings.OIDC_RP_CLIENT_AUTHENTICATION = "private_key_jwt"
    settings.OIDC_RP_CLIENT_SECRET = ""
    return op


def jwks(slug: str = "default") -> list[dict[str, Any]]:
    response = Client().get(f"/partium/jwks/{slug}/")
    assert response.status_code == 200
    keys: list[dict[str, Any]] = response.json()["keys"]
    return keys


def move_clock(by: dt.timedelta) -> None:
    """Let time pass for the keys."""
    for key in ClientKey.objects.all():
        key.used_from -= by
        key.published_until = key.published_until and key.published_until - by
        key.save()


@pytest.mark.parametrize(
    ("offered", "algorithm"),
    [(["RS256", "PS256", "ES256"], "ES256"), (["RS256", "PS256"], "PS256"), (["RS256"], "RS256"), (None, "RS256")],
)
def test_code_refresh_token_and_revocation_are_signed_for(
    signs: BendableProvider, offered: list[str] | None, algorithm: str
) -> None:
    signs.metadata = {ALGORITHMS: offered}
    create_client_key(None, actor=None)
    signs.client_jwks = jwks()
    assert [key["alg"] for key in signs.client_jwks] == [algorithm]
    browser = Browser(signs)
    assert browser.log_in().status_code == 302
    assert browser.user is not None
    op = providers.get("default")
    (refresh_token,) = signs.refresh_tokens
    refreshed = token_endpoint.refresh(op, refresh_token).refresh_token
    assert refreshed is not None
    assert token_endpoint.revoke(op, refreshed) is True
    assert signs.revoked == [refreshed]
    assert len(signs.used_assertions) == 3


@pytest.mark.parametrize("method", ["private_key_jwt", "private_key_jwt token_endpoint"])
def test_the_audience_is_the_issuer_unless_the_token_endpoint_is_asked_for(
    signs: BendableProvider, settings: Settings, method: str
) -> None:
    """Of one provider only: an assertion for several could be used at another one."""
    settings.OIDC_RP_CLIENT_AUTHENTICATION = method
    create_client_key(None, actor=None)
    signs.client_jwks = jwks()
    signs.assertion_audience = signs.url if method == "private_key_jwt" else f"{signs.url}/token"
    assert Browser(signs).log_in().status_code == 302


def test_the_key_set_is_public_and_shows_public_keys_only(signs: BendableProvider) -> None:
    key = create_client_key(None, actor=None)
    response = Client().get("/partium/jwks/default/")
    assert response.headers["Cache-Control"] == "public, max-age=300"
    (shown,) = response.json()["keys"]
    assert shown.keys() == {"kty", "n", "e", "kid", "use", "alg"}
    assert shown["kid"] == str(key.pk)
    assert Client().get("/partium/jwks/made-up/").status_code == 404
    assert Client().post("/partium/jwks/default/").status_code == 405


def test_a_key_is_published_before_it_signs_and_after(signs: BendableProvider) -> None:
    first = create_client_key(None, actor=None)
    op = providers.get("default")
    second = create_client_key(None, actor=None)
    assert client_keys.current(op) == first
    assert {key["kid"] for key in jwks()} == {str(first.pk), str(second.pk)}
    move_clock(OVERLAP)
    assert client_keys.current(op) == second
    assert {key["kid"] for key in jwks()} == {str(first.pk), str(second.pk)}
    move_clock(OVERLAP)
    assert client_keys.current(op) == second
    assert {key["kid"] for key in jwks()} == {str(second.pk)}


def test_a_key_that_others_know_is_replaced_at_once(signs: BendableProvider) -> None:
    create_client_key(None, actor=None)
    create_client_key(None, actor=None)
    last = create_client_key(None, actor=None, at_once=True)
    assert client_keys.current(providers.get("default")) == last
    assert [key["kid"] for key in jwks()] == [str(last.pk)]
    assert ClientKey.objects.count() == 1


def test_a_second_new_key_takes_the_place_of_one_that_was_not_used_yet(signs: BendableProvider) -> None:
    first = create_client_key(None, actor=None)
    create_client_key(None, actor=None)
    third = create_client_key(None, actor=None)
    assert {key["kid"] for key in jwks()} == {str(first.pk), str(third.pk)}


def test_without_a_key_pair_nobody_is_sent_to_the_provider(
    browser: Browser, signs: BendableProvider, refused: Refusals
) -> None:
    refused.check(browser.client.get("/partium/login/default/"), browser, "client_authentication", status=503)
    assert "manage.py partium_client_key default" in refused.caplog.text
    with pytest.raises(RegistrationRefused) as caught:
        token_endpoint.refresh(providers.get("default"), "x")
    assert caught.value.sent is False


def test_a_call_reads_its_key_pair_once(signs: BendableProvider) -> None:
    create_client_key(None, actor=None)
    signs.client_jwks = jwks()
    Browser(signs).log_in()
    (refresh_token,) = signs.refresh_tokens
    with CaptureQueriesContext(connection) as captured:
        token_endpoint.refresh(providers.get("default"), refresh_token)
    assert len([query for query in captured.captured_queries if "clientkey" in query["sql"]]) == 1


def test_without_a_key_pair_people_are_still_logged_out(signs: BendableProvider) -> None:
    create_client_key(None, actor=None)
    signs.client_jwks = jwks()
    browser = Browser(signs)
    browser.log_in()
    ClientKey.objects.all().delete()
    answer = Client().post("/partium/backchannel-logout/default/", {"logout_token": signs.logout_token()})
    assert answer.status_code == 200
    assert browser.user is None


def test_a_provider_in_the_admin_has_keys_of_its_own(op: BendableProvider) -> None:
    op.client_authentication = "private_key_jwt"
    row = add_provider(op, client_authentication="private_key_jwt")
    other = add_provider(op, "another", client_authentication="private_key_jwt")
    key = create_client_key(row, actor=None)
    assert [shown["kid"] for shown in jwks("other")] == [str(key.pk)]
    assert jwks("another") == []
    op.client_jwks = jwks("other")
    assert Browser(op).log_in("other").status_code == 302
    create_client_key(other, actor=None)
    other.delete()
    assert list(ClientKey.objects.all()) == [key]


@pytest.mark.parametrize("field", ["token_endpoint", "issuer"])
def test_whoever_writes_to_the_database_cannot_have_assertions_sent_elsewhere(op: BendableProvider, field: str) -> None:
    row = add_provider(op, client_authentication="private_key_jwt")
    IdentityProvider.objects.update(client_secret=None)
    create_client_key(row, actor=None)
    IdentityProvider.objects.update(**{field: "https://evil.example/token"})
    moved = IdentityProvider.objects.get()
    with pytest.raises(Refused, match="no key pair"):
        client_keys.current(providers.from_row(moved))
    ClientKey.objects.update(bound_to=moved.bound_to)
    with pytest.raises(EncryptionError):
        client_keys.assertion(providers.from_row(moved), "x")


def test_new_encryption_keys_seal_key_pairs_anew(op: BendableProvider, settings: Settings) -> None:
    row = add_provider(op, client_authentication="private_key_jwt")
    create_client_key(row, actor=None)
    before = jwks("other")
    new = encryption.generate_key()
    settings.PARTIUM_ENCRYPTION_KEYS = [new, *settings.PARTIUM_ENCRYPTION_KEYS]
    assert reseal(actor=None).failed == []
    settings.PARTIUM_ENCRYPTION_KEYS = [new]
    assert jwks("other") == before
    assert client_keys.assertion(providers.from_row(IdentityProvider.objects.get()), "x")


def test_nobody_publishes_a_key_of_their_own(op: BendableProvider) -> None:
    one, other = (add_provider(op, slug, client_authentication="private_key_jwt") for slug in ("one", "other"))
    create_client_key(one, actor=None)
    ClientKey.objects.update(provider=other, bound_to=other.bound_to)
    assert Client().get("/partium/jwks/other/").status_code == 503


def test_a_change_of_a_url_needs_a_new_key_pair(op: BendableProvider) -> None:
    row = add_provider(op, client_authentication="private_key_jwt")
    create_client_key(row, actor=None)
    row.revocation_endpoint = f"{op.url}/revoke"
    save_provider(row, actor=None, client_secret="x")
    assert not ClientKey.objects.exists()


def test_only_operators_make_keys_and_it_is_recorded(op: BendableProvider, django_user_model: Any) -> None:
    person = django_user_model.objects.create_user("ann")
    root = django_user_model.objects.create_superuser("root")
    row = add_provider(op)
    with pytest.raises(PermissionDenied):
        create_client_key(row, actor=person)
    key = create_client_key(row, actor=SessionActor(root, None, address="192.0.2.1"))
    event = AuditEvent.objects.get()
    assert (event.action, event.actor_name, event.address) == ("client_key_created", "root", "192.0.2.1")
    assert event.detail == f"Identity provider other. Key pair {key.pk}."


def test_a_provider_that_takes_none_of_our_algorithms(op: BendableProvider) -> None:
    op.metadata = {ALGORITHMS: ["HS256"]}
    with pytest.raises(Refused, match="takes 'HS256'; this site signs with ES256, PS256, RS256"):
        create_client_key(None, actor=None)


def test_the_doctor_names_a_key_that_the_provider_does_not_take_any_more(signs: BendableProvider) -> None:
    create_client_key(None, actor=None)

    def errors() -> list[str]:
        return [f.text for f in doctor.examine() if f.subject == "provider default" and f.level == "error"]

    assert errors() == []
    signs.metadata = {ALGORITHMS: ["ES384"]}
    assert errors() == ["It takes client assertions signed with 'ES384'; the key pair here is for RS256."]


def test_the_command_prints_the_public_key(signs: BendableProvider) -> None:
    out = io.StringIO()
    call_command("partium_client_key", "default", stdout=out)
    assert "BEGIN PUBLIC KEY" in out.getvalue()
    assert str(ClientKey.objects.get().pk) in out.getvalue()
    assert "PRIVATE" not in out.getvalue()
    call_command("partium_client_key", "default", "--at-once", stdout=out)
    assert ClientKey.objects.count() == 1
    with pytest.raises(CommandError, match="no such provider"):
        call_command("partium_client_key", "made-up")
    documents.forget()
    signs.answers["/.well-known/openid-configuration"] = Answer(500)
    with pytest.raises(CommandError, match="500"):
        call_command("partium_client_key", "default")


def test_the_button_in_the_admin(op: BendableProvider, django_user_model: Any) -> None:
    client, developer = Client(), Client()
    client.force_login(django_user_model.objects.create_superuser("root"))
    developer.force_login(django_user_model.objects.create_user("ann", is_staff=True))
    row = add_provider(op, client_authentication="private_key_jwt")
    url = f"/admin/partium_auth/identityprovider/{row.pk}/"
    assert developer.post(f"{url}new-key/").status_code in {302, 403}
    assert client.get(f"{url}new-key/").status_code == 302
    assert not ClientKey.objects.exists()
    assert "Create a new key pair" in client.get(f"{url}change/").content.decode()
    page = client.post(f"{url}new-key/", follow=True).content.decode()
    key = ClientKey.objects.get()
    assert f"The key pair {key.pk} was created." in page
    assert f"{key}, used from" in page
    client.post(f"{url}new-key/", {"at_once": "on"})
    assert ClientKey.objects.get() != key
    documents.forget()
    op.answers["/.well-known/openid-configuration"] = Answer(500)
    assert "No key pair was created" in client.post(f"{url}new-key/", follow=True).content.decode()


def test_an_assertion_lives_for_two_minutes_and_works_once(signs: BendableProvider) -> None:
    create_client_key(None, actor=None)
    op = providers.get("default")
    one, two = (
        jwt.decode(client_keys.assertion(op, "https://op.example"), options={"verify_signature": False}) for _ in "ab"
    )
    assert one["exp"] - one["iat"] == 120
    assert one["jti"] != two["jti"]
    assert (one["iss"], one["sub"], one["aud"]) == (CLIENT_ID, CLIENT_ID, "https://op.example")
