"""No credential is found anywhere it does not belong: logs, tracebacks, error reports, database, cache, cookies, dumps."""

from __future__ import annotations

import base64
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import RequestFactory
from django.views.debug import ExceptionReporter
from pytest_django import Settings

from partium_auth import services
from partium_auth.exceptions import EncryptionError, PartiumError
from partium_auth.host import upstream
from partium_auth.models import Grant, Organization
from partium_auth.partium import authentication, token_response
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import access
from partium_auth.tokens.manager import TokenManager
from tests.tokens.conftest import PASSWORD, Person, age, eventually, read

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.tokens.urls")]
LogIn = Callable[..., Person]
MakeGrant = Callable[[], Grant]


class Canaries:
    """Every credential that came into this process, and where to look for it."""

    def __init__(self) -> None:
        self.values = {PASSWORD, base64.b64encode(f"ann:{PASSWORD}".encode()).decode()}

    def look(self, where: str, text: str | bytes) -> None:
        """Fail if one is there; the credential itself is not quoted."""
        data = text.encode() if isinstance(text, str) else text
        for value in self.values:
            if value.encode() in data:
                at = data.index(value.encode())
                before = data[max(0, at - 200) : at].decode(errors="replace")
                pytest.fail(f"a credential is in {where}, after {before!r}", pytrace=False)

    def look_at(self, error: BaseException) -> None:
        """Look at all that an error report shows: every frame's variables, of the causes too."""
        name = type(error).__name__
        formatted = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        self.look(f"the traceback of {name}", "".join(formatted))
        reporter = ExceptionReporter(RequestFactory().get("/"), type(error), error, error.__traceback__)
        self.look(f"the text report of {name}", reporter.get_traceback_text())
        self.look(f"the report of {name}", reporter.get_traceback_html())


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canaries]:
    found = Canaries()

    def parse(*args: Any, **kwargs: Any) -> token_response.TokenResponse:
        tokens = token_response.parse_token_response(*args, **kwargs)
        found.values |= {tokens.access_token, tokens.refresh_token or tokens.access_token}
        return tokens

    monkeypatch.setattr(authentication, "parse_token_response", parse)
    yield found
    connection.force_debug_cursor = False
    assert len(found.values) > 4


def errors_of(person: Person, key: Grant, sandbox: PartiumSandbox) -> Iterator[BaseException]:
    """Everything that can go wrong with a credential at hand, one after another."""

    def caught(action: Callable[[], object]) -> BaseException:
        try:
            action()
        except PartiumError as error:
            return error
        raise AssertionError("nothing went wrong")

    assert person.grant is not None
    for fault in (sandbox.fail("refresh", status=503), sandbox.drop("refresh"), sandbox.garbage("refresh")):
        with fault:
            age(person.grant, 5)
            yield caught(person.token)
        Grant.objects.update(next_attempt_at=None)
    for fault in (sandbox.fail("search", status=500), sandbox.fail("search", status=401), sandbox.drop("search")):
        age(person.grant, 500)
        with fault:
            yield caught(lambda: person.partium.client.search(text="fan"))
        Grant.objects.update(next_attempt_at=None)
    for fault in (sandbox.fail("auth", status=401), sandbox.drop("auth")):
        with fault:
            yield caught(lambda: TokenManager().obtain(age(key, 5)))
        Grant.objects.update(next_attempt_at=None)
    with sandbox.fail("auth", status=401):
        yield caught(lambda: upstream.authentication_api().exchange_password("ann", PASSWORD))
    Grant.objects.filter(pk=person.grant.pk).update(
        access_token=key.access_token or Grant.objects.get(pk=key.pk).session_key
    )
    with sandbox.fail("refresh", status=400):
        age(person.grant, 5)
        yield caught(person.token)


def test_no_credential_is_anywhere(
    acme: Organization,
    log_in: LogIn,
    key_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    canaries: Canaries,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "django.db.backends")
    connection.force_debug_cursor = True
    person, key = log_in(acme), key_grant()
    assert person.grant is not None
    assert key.api_key is not None
    canaries.values.add(key.api_key.secret.reveal())
    partium = person.partium
    token = partium.token()
    assert TokenManager().obtain(read(key)).value
    assert partium.client.search(text="fan").results
    age(person.grant, 120)
    refreshing = TokenManager()
    issued = refreshing.obtain(read(person.grant))
    eventually(lambda: not refreshing.refreshing)
    view = access.read(person.user.pk, person.grant.pk, acme.pk)

    for thing in (token, issued, partium, partium.client, view, read(key), Grant.objects.get(pk=key.pk), refreshing):
        canaries.look(f"the repr of {type(thing).__name__}", repr(thing) + repr(getattr(thing, "__dict__", "")))
    for error in errors_of(person, key, partium_sandbox):
        canaries.look_at(error)

    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            canaries.look(f"the table {table}", repr(cursor.fetchall()))
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    assert "partium_auth.grant" in dump.getvalue()
    canaries.look("dumpdata", dump.getvalue())
    canaries.look("the session", repr(dict(person.request().session.items())))
    canaries.look("the log", caplog.text + repr([record.__dict__ for record in caplog.records]))
    assert "django.db.backends" in {record.name for record in caplog.records}


def test_a_ciphertext_that_was_moved_to_another_row_does_not_open(
    token_manager: TokenManager, password_grant: MakeGrant, key_grant: MakeGrant
) -> None:
    victim, thief = password_grant(), password_grant()
    Grant.objects.filter(pk=thief.pk).update(access_token=victim.access_token, refresh_token=victim.refresh_token)
    with pytest.raises(EncryptionError):
        token_manager.obtain(read(thief))
    with pytest.raises(EncryptionError):
        token_manager.obtain(age(thief, 0))


def test_a_lost_encryption_key_is_an_error_and_no_reason_to_log_in(
    token_manager: TokenManager, acme: Organization, log_in: LogIn, settings: Settings, partium_sandbox: PartiumSandbox
) -> None:
    from partium_auth.sealed import encryption

    person = log_in(acme)
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key()]
    for seconds_left in (500, 5):
        assert person.grant is not None
        age(person.grant, seconds_left)
        with pytest.raises(EncryptionError):
            person.token()
    assert partium_sandbox.count(endpoint="refresh") == 0
    assert read(person.grant).refreshable
    assert not read(person.grant).rejected


def test_who_shares_a_key_is_told_apart_by_nothing_personal(acme: Organization, log_in: LogIn) -> None:
    from partium_auth.clients import external_user_id

    person = log_in(acme)
    opaque = external_user_id(person.user.pk)
    assert opaque == external_user_id(person.user.pk)
    assert "ann" not in opaque
    services.change_organization(acme, actor=None, display_name="Acme Ltd")
    assert opaque == external_user_id(person.user.pk)
