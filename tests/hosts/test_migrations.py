"""Tables that are not there yet, come, go, and come again."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.test import Client

from partium_auth.models import Membership, Organization

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.hosts.urls")]
CREDENTIALS = {"username": "ann", "password": "pw"}


@pytest.fixture
def _no_tables() -> Iterator[None]:
    call_command("migrate", "partium_auth", "zero", verbosity=0)
    try:
        yield
    finally:
        call_command("migrate", "partium_auth", verbosity=0)


def tables() -> set[str]:
    return {name for name in connection.introspection.table_names() if name.startswith("partium_auth")}


def test_the_migrations_go_back_and_forth() -> None:
    before = tables()
    assert before
    call_command("migrate", "partium_auth", "zero", verbosity=0)
    assert tables() == set()
    call_command("migrate", "partium_auth", verbosity=0)
    assert tables() == before
    call_command("makemigrations", "partium_auth", check=True, dry_run=True, verbosity=0)


@pytest.mark.usefixtures("_no_tables")
@pytest.mark.parametrize("atomic", [False, True])
def test_people_log_in_and_out_before_migrate_was_run(
    atomic: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    get_user_model().objects.create_user(**CREDENTIALS)
    client = Client()
    assert client.post("/local-login/", CREDENTIALS).status_code == 200
    assert SESSION_KEY in client.session  # and so the transaction of the request was not harmed
    assert "manage.py migrate" in caplog.text
    assert client.post("/partium/logout/").status_code == 302
    assert SESSION_KEY not in client.session
    call_command("check", stdout=StringIO())


@pytest.mark.usefixtures("_no_tables")
def test_an_outer_transaction_goes_on() -> None:
    user = get_user_model().objects.create_user(**CREDENTIALS)
    with transaction.atomic():
        Client().force_login(user, "django.contrib.auth.backends.ModelBackend")
        get_user_model().objects.create_user("bob")
    assert get_user_model().objects.filter(username="bob").exists()


def test_other_errors_of_the_database_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only missing tables are; a table with a column too few is an error."""
    user = get_user_model().objects.create_user(**CREDENTIALS)
    organization = Organization.objects.create(org_id="acme")
    Membership.objects.create(user=user, organization=organization)
    monkeypatch.setattr(Organization._meta.get_field("display_name"), "column", "nonsense")
    with pytest.raises((OperationalError, ProgrammingError)):
        Client().force_login(user, "django.contrib.auth.backends.ModelBackend")


def test_a_database_that_is_gone_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from partium_auth import policy

    def gone(user: Any) -> Any:
        raise OperationalError("the connection is lost")

    user = get_user_model().objects.create_user(**CREDENTIALS)
    monkeypatch.setattr(policy, "memberships_by_joining", gone)
    with pytest.raises(OperationalError):
        Client().force_login(user, "django.contrib.auth.backends.ModelBackend")
