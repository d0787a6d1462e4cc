"""A key's value, followed through everything that leaves the process: it is in none of it."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django import VERSION
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.views.debug import ExceptionReporter
from pytest_django import Settings

from partium_auth.models import ApiKey, Membership, Organization, Role
from partium_auth.services import key_usage, keys
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import login

KEY = "partium_keys:partium_auth_apikey_"
# Django 6 takes plain addresses and deprecates the pairs that Django 5.2 requires.
OPERATORS: list[Any] = ["operator@example.com"] if VERSION >= (6, 0) else [("Operator", "operator@example.com")]


class Everything(logging.Handler):
    """Every log record, as text with its traceback, and as it is."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text += [self.format(record), repr(record.__dict__)]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    names = ["partium_auth", "django", "urllib3", "requests"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield handler.text
    root.removeHandler(handler)
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def client(db: None, partium_sandbox: PartiumSandbox) -> Client:
    acme = Organization.objects.create(org_id="acme", display_name="Acme")
    user = get_user_model().objects.create_superuser("dev", "dev@example.com", "pw")
    Membership.objects.create(user=user, organization=acme, role=Role.DEVELOPER)
    return login(user)


def form(value: str, **fields: str) -> dict[str, str]:
    return {
        "organization": "acme",
        "label": "shop",
        "value": value,
        "overlap_hours": "1",
        "expires_at_0": "",
        "expires_at_1": "",
        **fields,
    }


def test_no_value_leaves_the_process(  # noqa: C901  # one long walk
    client: Client, partium_sandbox: PartiumSandbox, logged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    good, next_one = partium_sandbox.add_key("acme"), partium_sandbox.add_key("acme")
    bad, elsewhere = "canary-of-a-bad-key-0000", partium_sandbox.add_key("globex")
    canaries = [good, next_one, bad, elsewhere]
    said: list[str] = []

    def hear(response: Any) -> None:
        body = response.getvalue() if response.streaming else response.content
        said.extend([body.decode(), repr(dict(response.items())), response.cookies.output(), repr(client.cookies)])

    def get(name: str, *args: Any) -> None:
        hear(client.get(reverse(name, args=args)))

    def post(name: str, data: dict[str, str], *args: Any) -> None:
        response = client.post(reverse(name, args=args), data)
        hear(response)
        if response.status_code == 302:
            hear(client.get(response["Location"]))

    for value in (bad, elsewhere, good, good):  # rejected, another organization's, accepted, duplicate
        post(KEY + "add", form(value))
    key = ApiKey.objects.get()
    with partium_sandbox.fail("auth", status=503):
        post(KEY + "rotate", form(next_one), key.pk)
    post(KEY + "rotate", form(next_one, label=f"pasted {next_one}"), key.pk)  # into the label by mistake
    post(KEY + "rotate", form(next_one), key.pk)
    for value in canaries:
        post(KEY + "find", {"value": value})
    post(KEY + "verify", {"keys": str(key.pk)})
    key_usage.record_rejection(key_id=key.pk)
    for name in ("changelist", "add", "find"):
        get(KEY + name)
    for name in ("change", "history"):
        get(KEY + name, key.pk)
    get("partium_keys:partium_auth_auditevent_changelist")
    get("partium_keys:partium_auth_auditevent_csv")
    get("partium_keys:partium_auth_organization_overview")
    get("partium_keys:index")
    post(KEY + "revoke", {"keys": str(key.pk)})
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump, verbosity=0)
    call_command("partium_keys", "list", "--json", stdout=dump)
    if isinstance(connection.connection, sqlite3.Connection):
        dump.write("\n".join(connection.connection.iterdump()))
    captured = capsys.readouterr()
    places = {
        "responses": "\n".join(said),
        "logs": "\n".join(logged),
        "dump": dump.getvalue(),
        "output": captured.out + captured.err,
    }
    assert "shop" in places["responses"]
    assert "shop" in places["dump"]
    assert logged
    for place, text in places.items():
        for number, canary in enumerate(canaries):
            assert canary not in text, f"canary {number} is in the {place}"
            assert canary[:-4] not in text, f"most of canary {number} is in the {place}"


def broken(*args: Any, **kwargs: Any) -> Any:
    del args, kwargs  # what the report says of this function is not the point
    raise RuntimeError("as if by a bug")


def report_of(response: Any) -> str:
    """What is mailed to a site's operators: the text, and with ``include_html`` the variables of every frame."""
    (mailed,) = mail.outbox
    shown = ExceptionReporter(response.wsgi_request, *response.exc_info).get_traceback_html()
    assert "Local vars" in shown
    return str(mailed.message().as_string()) + shown


@pytest.mark.parametrize(
    "where",
    [
        "key_verification.upstream.authentication_api",
        "keys.fingerprint",
        "keys.grants.for_key",
        "keys.seal",
        "keys.record",
    ],
)
@pytest.mark.parametrize("page", ["add", "rotate"])
def test_no_value_is_in_an_error_report(
    where: str,
    page: str,
    client: Client,
    partium_sandbox: PartiumSandbox,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.ADMINS = OPERATORS
    acme = Organization.objects.get()
    old = keys.add_key(acme, "an-older-key-00000000", label="old", actor=None, verify=False)
    value = partium_sandbox.add_key("acme")

    monkeypatch.setattr(f"partium_auth.services.{where}", broken)
    client.raise_request_exception = False
    args = [old.pk] if page == "rotate" else []
    response = client.post(reverse(KEY + page, args=args), form(value))
    assert response.status_code == 500
    whole = report_of(response)
    assert "as if by a bug" in whole
    assert "add_view" in whole or "rotate_view" in whole
    assert "shop" in whole, "the report shows variables, so the test can fail"
    assert value not in whole
    assert value not in response.content.decode()


@pytest.mark.parametrize("encryption_keys", ["k:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", []])
def test_no_client_secret_is_in_the_report_of_a_site_that_cannot_encrypt(
    client: Client, settings: Settings, encryption_keys: Any
) -> None:
    settings.PARTIUM_ENCRYPTION_KEYS = encryption_keys  # one string where a list belongs, or nothing
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith("partium_auth.")]
    client.raise_request_exception = False
    provider = {
        "display_name": "Acme",
        "slug": "acme",
        "issuer": "https://login.acme.example",
        "client_id": "portal",
        "client_authentication": "client_secret_basic",
        "new_client_secret": "canary-0000000000000",
        "scopes": "openid",
        "extra_parameters": "{}",
        "signing_algorithms": "RS256",
        "email_domains-TOTAL_FORMS": "0",
        "email_domains-INITIAL_FORMS": "0",
    }
    response: Any = client.post(reverse("admin:partium_auth_identityprovider_add"), provider)
    report = ExceptionReporter(response.wsgi_request, *response.exc_info).get_traceback_html()
    assert "https://login.acme.example" in report
    assert "plaintext" in report, "the report shows variables, so the test can fail"
    assert "canary-0000" not in report


def test_find_keeps_the_value_out_of_an_error_report(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ADMINS = OPERATORS

    monkeypatch.setattr(keys, "fingerprint", broken)
    client.raise_request_exception = False
    report = report_of(client.post(reverse(KEY + "find"), {"value": "canary-0000000000000"}))
    assert "find_by_value" in report
    assert "canary-0000" not in report


def test_the_commands_print_no_value(
    client: Client, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    for value in (partium_sandbox.add_key("acme"), "canary-0000000000000"):
        monkeypatch.setattr("sys.stdin", io.StringIO(value))
        try:
            call_command("partium_keys", "add", "--organization", "acme", "--label", "x", "--json", stdout=out)
        except CommandError as error:
            out.write(str(error))
        assert value not in out.getvalue()
    assert json.loads(out.getvalue().partition("]")[0] + "]")[0]["label"] == "x"
