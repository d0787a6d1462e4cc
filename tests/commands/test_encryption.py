"""Changing the encryption key while the site runs."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from partium_auth.exceptions import EncryptionError
from partium_auth.fields import seal
from partium_auth.models import ApiKey, FingerprintKey, Grant, Organization
from partium_auth.models.fingerprints import fingerprint
from partium_auth.sealed import encryption
from partium_auth.services import encryption_keys, keys


def grants(number: int) -> list[Grant]:
    made = []
    for n in range(number):
        grant = Grant(kind=Grant.Kind.PASSWORD)
        grant.access_token = seal(grant, "access_token", f"access {n}")
        grant.refresh_token = seal(grant, "refresh_token", f"refresh {n}")
        made.append(grant)
    return Grant.objects.bulk_create(made)


@pytest.fixture
def changed(db: None, settings: Settings) -> Any:
    """A new key in front of the old one, as when a site changes its key."""
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    return settings


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("partium_reencrypt", *args, stdout=out, stderr=out)
    return out.getvalue()


def test_everything_is_sealed_anew_and_the_old_key_can_go(db: None, settings: Settings) -> None:
    organization = Organization.objects.create(org_id="acme")
    key = keys.add_key(organization, "value-00000000000000", label="x", actor=None, verify=False)
    grants(250)
    before = fingerprint("api-key", "value-00000000000000")
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    current = encryption.current_encryption_key_id()
    out = run("--batch-size", "40")
    assert "502 secrets sealed anew" in out  # 250 × 2 tokens, one key, one fingerprint key
    assert f"{current}: 502 (seals)" in out
    settings.PARTIUM_ENCRYPTION_KEYS = settings.PARTIUM_ENCRYPTION_KEYS[:1]
    assert ApiKey.objects.get(pk=key.pk).secret.reveal() == "value-00000000000000"
    assert {grant.refresh_token.reveal() for grant in Grant.objects.filter(kind="password")} == {
        f"refresh {n}" for n in range(250)
    }
    assert fingerprint("api-key", "value-00000000000000") == before, "keys are found by value as before"


@pytest.mark.usefixtures("changed")
def test_an_interrupted_run_goes_on_where_it_stopped() -> None:
    with_old = encryption.current_encryption_key_id()
    grants(30)

    class Stopped(Exception):
        pass

    def stop(progress: encryption_keys.Resealed) -> None:
        if progress.resealed >= 20:
            raise Stopped

    from django.conf import settings

    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    with pytest.raises(Stopped):
        encryption_keys.reseal(actor=None, batch_size=10, progress=stop)
    assert encryption_keys.counts_by_key()[with_old] == 40
    assert encryption_keys.reseal(actor=None, batch_size=10).resealed == 40
    assert encryption_keys.counts_by_key()[with_old] == 0


def test_a_token_that_is_refreshed_meanwhile_is_not_lost(db: None, settings: Settings) -> None:
    (grant,) = grants(1)
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    reads = []

    def refresh_after_the_first_read(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("SELECT") and Grant._meta.db_table in sql:
            reads.append(sql)
            if len(reads) == 1:
                Grant.objects.filter(pk=grant.pk).update(access_token=seal(grant, "access_token", "refreshed"))
        return result

    with connection.execute_wrapper(refresh_after_the_first_read):
        encryption_keys.reseal(actor=None)
    assert len(reads) > 1
    stored = Grant.objects.get(pk=grant.pk)
    assert stored.access_token.reveal() == "refreshed"
    assert stored.refresh_token.encryption_key_id == encryption.current_encryption_key_id()


def test_a_value_that_does_not_open_is_named_and_kept_and_the_command_fails(db: None, settings: Settings) -> None:
    good, bad = grants(2)
    with connection.cursor() as cursor:
        table = Grant._meta.db_table
        cursor.execute(
            f"UPDATE {table} SET access_token = 'v1.gone.AAAA' WHERE id = %s",
            [bad.pk.hex if connection.vendor == "sqlite" else bad.pk],
        )
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 secrets are still under other keys"):
        call_command("partium_reencrypt", stdout=out, stderr=out)
    assert f"does not open: partium_auth.Grant {bad.pk} access_token" in out.getvalue()
    assert "gone: 1" in out.getvalue()
    assert Grant.objects.get(pk=good.pk).access_token.encryption_key_id == encryption.current_encryption_key_id()
    assert Grant.objects.get(pk=bad.pk).access_token.text == "v1.gone.AAAA"


def test_a_dry_run_changes_nothing(db: None, settings: Settings) -> None:
    grants(3)
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    assert "test: 6" in run("--dry-run")
    assert encryption_keys.counts_by_key() == {"test": 6}


def test_secrets_are_counted_by_key_in_as_many_statements_for_many_rows_as_for_few(db: None) -> None:
    texts = ["v1.TEST.x", "v1.b-2_c.x", "plain", "v1.no key.x", "v1..x", "v1." + "k" * 33 + ".x", "v1.x"]
    for grant, text in zip(grants(7), texts, strict=True):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE partium_auth_grant SET access_token = %s WHERE id = %s",
                [text, Grant._meta.pk.get_db_prep_value(grant.pk, connection)],
            )
    long = Grant(kind=Grant.Kind.PASSWORD)
    long.access_token = seal(long, "access_token", "x" * 100_000)
    long.save()
    with CaptureQueriesContext(connection) as captured:
        counts = encryption_keys.counts_by_key()
    assert counts == {"test": 8, "TEST": 1, "b-2_c": 1, "": 5}
    assert len(captured) == len(encryption_keys.sealed_fields()) + 1, "one more where a key is not configured"


def test_every_sealed_field_is_found(db: None) -> None:
    found = {model.__name__: set(names) for model, names in encryption_keys.sealed_fields()}
    assert found["ApiKey"] == {"secret"}
    assert found["FingerprintKey"] == {"value"}
    assert {"access_token", "refresh_token", "session_key", "id_token"} <= found["Grant"]
    assert found["IdentityProvider"] == {"client_secret"}
    assert FingerprintKey in {model for model, _names in encryption_keys.sealed_fields()}


def test_without_a_key_it_says_what_to_do(db: None, settings: Settings) -> None:
    settings.PARTIUM_ENCRYPTION_KEYS = []
    with pytest.raises(CommandError, match="partium_generate_encryption_key"):
        run()


@pytest.mark.processes
def test_a_key_is_generated_where_none_is_configured(settings: Settings) -> None:
    code = (
        "from django.conf import settings; import django\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'partium_auth'])\n"
        "django.setup()\n"
        "from django.core.management import execute_from_command_line as run\n"
        "run(['manage.py', 'partium_generate_encryption_key'])\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "PARTIUM_"))}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    settings.PARTIUM_ENCRYPTION_KEYS = made.stdout.splitlines()
    assert len(settings.PARTIUM_ENCRYPTION_KEYS) == 1
    assert encryption.unseal(encryption.seal("secret", "context"), "context") == "secret"


def test_a_site_that_has_lost_its_key_comes_back_as_the_documentation_says(db: None, settings: Settings) -> None:
    organization = Organization.objects.create(org_id="acme")
    old = keys.add_key(organization, "value-00000000000000", label="old", actor=None, verify=False)
    grants(3)
    Grant.objects.update(session_key=Grant.objects.filter(kind="password")[0].access_token)
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key()]
    with pytest.raises(EncryptionError):
        keys.add_key(organization, "value-00000000000000", label="new", actor=None, verify=False)

    text = Path("docs/administration.md").read_text()
    (steps,) = re.findall(r"```python\n(from [^`]+FingerprintKey[^`]+)```", text)
    exec(steps, {})

    new = keys.add_key(organization, "value-00000000000000", label="new", actor=None, verify=False)
    keys.revoke_key(old, actor=None)
    assert ApiKey.objects.usable().get() == new
    assert not Grant.objects.filter(kind="password", revoked_at=None).exists()


class Unrevoked(models.Manager[Grant]):
    """A default manager that hides rows, as a site's model may have for rows that are marked as deleted."""

    def get_queryset(self) -> models.QuerySet[Grant]:
        return super().get_queryset().filter(revoked_at=None)


def test_rows_that_a_models_default_manager_hides_are_sealed_anew_too(
    db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants(1)
    Grant.objects.update(revoked_at=timezone.now())
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    hiding = Unrevoked()
    hiding.model = Grant
    monkeypatch.setitem(Grant._meta.__dict__, "default_manager", hiding)
    assert not Grant._default_manager.exists()
    assert "test: 2" in run("--dry-run")
    assert "2 secrets sealed anew" in run()
