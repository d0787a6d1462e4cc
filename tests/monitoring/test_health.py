"""The health view: for probes, off unless asked for, and without anything secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from partium_auth.models import Grant
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens.manager import token_manager
from tests.tokens.conftest import age

pytestmark = pytest.mark.django_db
THREADS_PER_UPSTREAM = 2
WELL = {"database": True, "migrations": True, "encryption": True}


@pytest.fixture
def on(settings: Settings) -> Any:
    settings.PARTIUM_HEALTH = True
    return settings


def get(client: Client) -> Any:
    return client.get(reverse("partium_auth:health"))


def test_it_is_off_by_default(client: Client) -> None:
    assert get(client).status_code == 404


def test_a_process_that_is_well(on: Any, client: Client, partium_sandbox: PartiumSandbox) -> None:
    response = get(client)
    assert (response.status_code, response.json()) == (200, {"status": "ok", "checks": WELL, "refresh_queue": {}})
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    assert partium_sandbox.count() == 0
    assert client.post(reverse("partium_auth:health")).status_code == 405


def test_a_database_that_does_not_answer_is_503(on: Any, client: Client) -> None:
    def refuse(*args: Any) -> None:
        raise OperationalError("password=DATABASE-SECRET")

    with connection.execute_wrapper(refuse):
        response = get(client)
    assert response.status_code == 503
    assert response.json()["checks"] == {"database": False, "migrations": False, "encryption": True}
    assert "SECRET" not in response.content.decode()


def test_a_migration_that_was_not_applied_is_503(on: Any, client: Client) -> None:
    MigrationRecorder(connection).record_unapplied("partium_auth", "0001_initial")
    response = get(client)
    assert (response.status_code, response.json()["checks"]) == (503, WELL | {"migrations": False})


@pytest.mark.parametrize("keys", [[], ["no key"], "a string"])
def test_a_missing_encryption_key_is_503(on: Any, client: Client, keys: Any) -> None:
    on.PARTIUM_ENCRYPTION_KEYS = keys
    response = get(client)
    assert (response.status_code, response.json()["checks"]) == (503, WELL | {"encryption": False})


def test_it_is_never_redirected_to_the_login_page(on: Any, client: Client) -> None:
    on.MIDDLEWARE = [*on.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert get(client).status_code == 200


def test_it_reads_no_session(on: Any, partium_user: PartiumUser) -> None:
    tables = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        tables.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        assert get(partium_user.client).status_code == 200
    assert tables
    assert "django_session" not in "".join(tables)


@pytest.mark.django_db(transaction=True)
def test_the_queue_shows_refreshes_that_wait_for_a_thread(
    on: Any, client: Client, password_grant: Callable[[], Grant], partium_sandbox: PartiumSandbox
) -> None:
    ageing = [age(password_grant(), 120) for _ in range(THREADS_PER_UPSTREAM + 3)]
    with partium_sandbox.hang("refresh") as hang:
        for seen in ageing:
            token_manager.obtain(seen)
        hang.wait_until_met(THREADS_PER_UPSTREAM)
        assert get(client).json()["refresh_queue"] == {"partium": 3}
