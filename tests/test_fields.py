"""A secret is a type of its own: what can be assigned, stored, read and looked up."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection
from django.forms import modelform_factory
from pytest_django import Settings

from partium_auth.exceptions import EncryptionError
from partium_auth.fields import MASK, seal
from partium_auth.models import Grant
from partium_auth.sealed import encryption

pytestmark = pytest.mark.django_db
CANARY = "canary-7d1f"


def grant() -> Grant:
    row = Grant(kind=Grant.Kind.PASSWORD)
    row.access_token = seal(row, "access_token", CANARY)
    row.save()
    return row


def test_a_stored_secret_comes_back_through_reveal_only() -> None:
    loaded = Grant.objects.get(pk=grant().pk)
    assert loaded.access_token.reveal() == CANARY
    shown = f"{loaded.access_token} {loaded.access_token!r} {[loaded.access_token]}"
    assert CANARY not in shown
    assert MASK in shown


def test_the_database_holds_the_ciphertext() -> None:
    grant()
    with connection.cursor() as cursor:
        cursor.execute("SELECT access_token FROM partium_auth_grant")
        (text,) = cursor.fetchone()
    assert text.startswith("v1.test.")
    assert CANARY not in text


def test_a_ciphertext_copied_to_another_row_does_not_open() -> None:
    first, second = grant(), grant()
    Grant.objects.filter(pk=second.pk).update(access_token=first.access_token)
    with pytest.raises(EncryptionError, match="another place"):
        Grant.objects.get(pk=second.pk).access_token.reveal()


def test_a_ciphertext_copied_to_another_field_does_not_open() -> None:
    row = grant()
    row.refresh_token = row.access_token
    with pytest.raises(EncryptionError, match="another place"):
        _ = row.refresh_token.reveal()


@pytest.mark.parametrize("plain", ["", "secret", b"secret", 1])
def test_plain_text_cannot_be_assigned(plain: Any) -> None:
    with pytest.raises(TypeError):
        Grant(kind=Grant.Kind.PASSWORD, access_token=plain)
    row = grant()
    with pytest.raises(TypeError):
        row.access_token = plain
    with pytest.raises(TypeError):
        Grant.objects.filter(pk=row.pk).update(access_token=plain)
    row.__dict__["access_token"] = plain  # even past the descriptor
    with pytest.raises(TypeError):
        Grant.objects.bulk_update([row], ["access_token"])
    row.pk = uuid.uuid4()
    with pytest.raises(TypeError):
        Grant.objects.bulk_create([row])


@pytest.mark.parametrize("lookup", ["exact", "iexact", "in", "contains", "startswith", "regex", "gt", "length"])
def test_every_lookup_but_isnull_is_refused(lookup: str) -> None:
    with pytest.raises(FieldError, match="sealed"):
        list(Grant.objects.filter(**{f"access_token__{lookup}": "v1"}))
    assert list(Grant.objects.filter(access_token__isnull=False)) == []


def test_dumpdata_writes_ciphertext_and_loaddata_reads_it() -> None:
    row = grant()
    dumped = serializers.serialize("json", [row])
    assert CANARY not in dumped
    Grant.objects.all().delete()
    for loaded in serializers.deserialize("json", dumped):
        loaded.save()
    assert Grant.objects.get(pk=row.pk).access_token.reveal() == CANARY


def test_a_fixture_with_plain_text_is_refused() -> None:
    dumped = serializers.serialize("python", [grant()])
    dumped[0]["fields"]["access_token"] = CANARY
    with pytest.raises(Exception, match="takes a sealed value") as caught:
        list(serializers.deserialize("python", dumped))
    assert CANARY not in str(caught.value)


def test_a_value_without_its_row_does_not_open() -> None:
    grant()
    value: Any = Grant.objects.values_list("access_token", flat=True).get()
    with pytest.raises(EncryptionError, match="without its row"):
        value.reveal()


def test_garbage_in_the_column_raises_when_opened_and_not_when_listed() -> None:
    row = grant()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE partium_auth_grant SET access_token = 'junk'")
    loaded = Grant.objects.get(pk=row.pk)
    with pytest.raises(EncryptionError, match="not a sealed value"):
        loaded.access_token.reveal()


def test_a_deferred_secret_is_loaded_on_access() -> None:
    loaded = Grant.objects.defer("access_token").get(pk=grant().pk)
    assert loaded.access_token.reveal() == CANARY


def test_the_first_key_seals_and_every_key_opens(settings: Settings) -> None:
    old = grant()
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    new = grant()
    assert new.access_token.encryption_key_id == encryption.current_encryption_key_id() != "test"
    assert Grant.objects.get(pk=old.pk).access_token.reveal() == CANARY


def test_a_removed_key_raises_and_says_which(settings: Settings) -> None:
    row = grant()
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key()]
    with pytest.raises(EncryptionError, match="'test'"):
        Grant.objects.get(pk=row.pk).access_token.reveal()


def test_another_key_under_the_same_name_raises(settings: Settings) -> None:
    row = grant()
    settings.PARTIUM_ENCRYPTION_KEYS = ["test:" + encryption.generate_key().partition(":")[2]]
    with pytest.raises(EncryptionError, match="does not open"):
        Grant.objects.get(pk=row.pk).access_token.reveal()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [([], "empty"), (["no colon"], "kid:key"), (["a:c2hvcnQ"], "kid:key"), (["a:" + "A" * 44], "32 bytes")],
)
def test_unusable_keys_say_what_to_do_and_never_quote_them(settings: Settings, keys: list[str], problem: str) -> None:
    settings.PARTIUM_ENCRYPTION_KEYS = keys
    with pytest.raises(EncryptionError, match=problem) as caught:
        encryption.seal("x", "y")
    assert all(key not in str(caught.value) for key in keys if key)


def test_no_form_field_is_made_of_it() -> None:
    form = modelform_factory(Grant, fields="__all__")
    assert "kind" in form.base_fields
    assert "access_token" not in form.base_fields
