"""Every secret of a day, followed through everything that leaves the process or is kept: it is in none of it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest
from django import VERSION
from django.contrib.auth import user_logged_in
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.utils.log import AdminEmailHandler, RequireDebugFalse
from pytest_django import Settings

from partium_auth.backends import PartiumOIDCBackend
from partium_auth.models import Grant, Membership, Organization, Outage, Role
from partium_auth.services import keys
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import access
from partium_auth.tokens.manager import token_manager
from tests.hosts.journey import PAGE, SCRIPT, make_user
from tests.oidc.provider import CLIENT_SECRET, Answer, BendableProvider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.hosts.urls")]
PASSWORD = "canary: the password, with ünusual letters"
# Django 6 takes plain addresses and deprecates the pairs that Django 5.2 requires.
OPERATORS: list[Any] = ["operator@example.com"] if VERSION >= (6, 0) else [("Operator", "operator@example.com")]


class Everything(logging.Handler):
    """Every log record, as text with its traceback, and as it is."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text += [f"log {record.name}: {self.format(record)}", f"log {record.name}: {record.__dict__!r}"]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    everything, mails = Everything(), AdminEmailHandler(include_html=True)
    mails.setLevel(logging.WARNING)
    mails.addFilter(RequireDebugFalse())
    handlers: list[logging.Handler] = [everything, mails]
    names = ["", "partium_auth", "django", "django.db.backends", "urllib3", "requests", "asyncio"]
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    for handler in handlers:
        loggers[0].addHandler(handler)
    # Django's own configuration keeps some of its loggers to itself.
    alone = [logging.getLogger(name) for name in ("django", "django.server") if not logging.getLogger(name).propagate]
    for logger in alone:
        logger.addHandler(everything)
    yield everything.text
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
    for handler in handlers:
        loggers[0].removeHandler(handler)
    for logger in alone:
        logger.removeHandler(handlers[0])


class Day:
    """Collects the secrets there are, and everything that is said and kept."""

    def __init__(self, op: BendableProvider, sandbox: PartiumSandbox) -> None:
        self.op, self.sandbox = op, sandbox
        self.client = Client(raise_request_exception=False)
        self.secrets: dict[str, str] = {CLIENT_SECRET: "client secret", PASSWORD: "password"}
        self.said: list[str] = []

    def learn(self) -> None:
        codes = {form["code"] for form in self.op.forms if "code" in form} | set(self.op.codes)
        self.secrets |= {value: "of the provider" for value in self.op.issued if value not in codes}
        self.secrets |= {form["code_verifier"]: "code verifier" for form in self.op.forms if "code_verifier" in form}
        wrappers, connection.execute_wrappers = (
            connection.execute_wrappers,
            [],
        )  # where the database is broken, not for us
        rows = list(Grant.objects.all())
        connection.execute_wrappers = wrappers
        for grant in rows:
            for name in ("access_token", "refresh_token", "id_token"):
                sealed = getattr(grant, name)
                if sealed is not None:
                    self.secrets[sealed.reveal()] = f"{name} of {grant.kind}"

    def hear(self, response: Any, *, has_token: bool = False) -> Any:
        headers = dict(response.items())
        target = headers.get("Location", "") or headers.get("Refresh", "").removeprefix("0; url=")
        if target.startswith(self.op.url):
            headers = {name: value for name, value in headers.items() if name not in {"Location", "Refresh"}}
            query = parse_qs(urlsplit(target).query)  # it has to be told what is meant for it
            if "nonce" in query:
                self.secrets[query["nonce"][0]] = "nonce"
        if not has_token:
            self.said.append(f"body {response.request['PATH_INFO']}: {response.content.decode()}")
        self.said.append(f"headers {response.request['PATH_INFO']}: {headers!r} {response.cookies.output()}")
        self.said.append(f"session: {dict(self.client.session.items())!r}")
        self.learn()
        return response

    def get(self, path: str, data: Any = None, headers: Any = PAGE) -> Any:
        return self.hear(self.client.get(path, data, headers=headers))

    def post(self, path: str, data: Any = None, headers: Any = PAGE, *, has_token: bool = False) -> Any:
        return self.hear(self.client.post(path, data or {}, headers=headers), has_token=has_token)

    def log_in(self, **claims: Any) -> Any:
        url = self.get("/partium/login/default/")["Location"]
        answer = self.op.authorize(url, organizations=["acme"], **claims)
        return self.get("/partium/callback/default/", answer)

    def log_in_with_password(self, password: str = PASSWORD) -> Any:
        return self.post("/partium/login/", {"username": "ann", "password": password})

    def search(self) -> Any:
        return self.get("/search/", {"text": "fan"}, SCRIPT)

    def keep(self) -> None:
        """What is stored, at this moment."""
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names(cursor):
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                self.said += [f"table {table}: {row!r}" for row in cursor.fetchall()]
        self.said += [f"session row: {row.get_decoded()!r}" for row in Session.objects.all()]
        # Django's caches have no public way to list what they hold.
        cache: Any = caches["default"]
        if isinstance(cache._cache, dict):
            self.said += [f"cache {key}: {value!r}" for key, value in cache._cache.items()]
            self.said += [f"cache {key}: {cache.get(key.split(':', 2)[2])!r}" for key in list(cache._cache)]
        else:
            redis = cache._cache.get_client()
            for key in redis.keys("*"):
                self.said.append(f"redis {key!r}: {redis.get(key)!r} {cache.get(key.decode().split(':', 2)[2])!r}")
        dump = io.StringIO()
        call_command("dumpdata", stdout=dump)
        self.said.append(f"dumpdata: {dump.getvalue()}")


@contextmanager
def broken_database(about: str) -> Iterator[None]:
    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if about in sql:
            raise OperationalError("the connection is lost")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        yield


def broken_receiver(*arguments: object, **kwargs: object) -> None:
    raise ZeroDivisionError("the host's own mistake")


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("engine", ["db", "signed_cookies"])
def test_no_secret_leaves_the_process_or_is_kept_in_the_clear(
    op: BendableProvider, partium_sandbox: PartiumSandbox, logged: list[str], settings: Settings, engine: str, debug: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.DEBUG = debug
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.ADMINS = OPERATORS
    settings.PARTIUM_EXECUTOR = "inline"
    settings.PARTIUM_PASSWORD_ORGANIZATION = "acme"
    settings.LOGIN_REDIRECT_URL = "/home/"
    acme = Organization.objects.create(org_id="acme", display_name="Acme")
    partium_sandbox.add_user("ann", PASSWORD, "acme")
    day = Day(op, partium_sandbox)
    for entry in settings.PARTIUM_ENCRYPTION_KEYS:
        day.secrets[entry.partition(":")[2]] = "encryption key"

    # A login with everything that can fail in it.
    for answers in ({"/token": 500}, {"/token": 401}, {"/userinfo": 500}):
        op.answers = {path: Answer(status, b"garbage") for path, status in answers.items()}
        day.log_in()
    op.answers = {}
    day.log_in(nonce="of somebody else")
    with broken_database("partium_auth_grant"):
        day.log_in()
    user_logged_in.connect(broken_receiver)
    try:
        assert day.log_in().status_code == 500
    finally:
        user_logged_in.disconnect(broken_receiver)
    with monkeypatch.context() as patch:
        patch.setattr(PartiumOIDCBackend, "update_user", broken_receiver)
        patch.setattr(PartiumOIDCBackend, "create_user", broken_receiver)
        assert day.log_in().status_code == 500
    day.client.cookies.clear()
    assert day.log_in().status_code == 302
    assert day.post("/partium/token/", headers=SCRIPT, has_token=True).status_code == 200
    day.keep()
    day.get("/sdk/")
    day.get("/broken/")
    Grant.objects.update(issued_at=1.0)
    op.answers = {"/token": Answer(500, b"garbage")}
    day.post("/partium/token/", headers=SCRIPT)
    op.answers = {}
    day.post("/partium/logout/")

    # The same with a password.
    day.client.cookies.clear()
    for fault in (
        partium_sandbox.fail("auth", status=500),
        partium_sandbox.garbage("auth"),
        partium_sandbox.drop("auth"),
    ):
        with fault:
            day.log_in_with_password()
        Outage.objects.all().delete()
        token_manager.forget()
    day.log_in_with_password("canary of a wrong password")
    day.secrets["canary of a wrong password"] = "wrong password"
    user_logged_in.connect(broken_receiver)
    try:
        assert day.log_in_with_password().status_code == 500
    finally:
        user_logged_in.disconnect(broken_receiver)
    with broken_database("partium_auth_grant"):
        day.log_in_with_password()
    day.client.cookies.clear()
    assert day.log_in_with_password().status_code == 302
    assert day.search().status_code == 200
    assert day.get("/broken/").status_code == 500
    Grant.objects.update(issued_at=1.0)
    assert day.search().status_code == 200  # with a refreshed token
    for fault in (
        partium_sandbox.fail("search", status=500),
        partium_sandbox.fail("search", status=401),
        partium_sandbox.garbage("search"),
        partium_sandbox.drop("search"),
    ):
        with fault:
            day.search()
            day.get("/search/", {"text": "fan"})
    with broken_database("partium_auth_membership"):
        access.forget_all()
        assert day.search().status_code == 500
        assert day.post("/partium/token/", headers=SCRIPT).status_code == 500
    day.keep()

    # And with a key.
    value = partium_sandbox.add_key("acme")
    bad = "canary-of-a-bad-key-" + "0" * 12
    day.secrets |= {value: "API key", bad: "bad API key"}
    developer = make_user("dev@example.com")
    Membership.objects.create(user=developer, organization=acme, role=Role.DEVELOPER)
    for source in ("api_key", "api_key_direct"):
        Organization.objects.update(token_source=source)
        if source == "api_key":
            keys.add_key(acme, bad, label="bad", actor=developer, verify=False)
            assert day.search().status_code == 503
            keys.add_key(acme, value, label="shop", actor=developer)
        assert day.search().status_code == 200
        assert day.get("/broken/").status_code == 500
        with partium_sandbox.fail("search", status=500):
            day.search()
        with partium_sandbox.fail("search", status=401):
            day.search()
        day.keep()
    day.post("/partium/logout/")
    with suppress(CommandError):  # the only key was rejected a moment ago
        call_command("partium_doctor")
    call_command("partium_keys", "list")

    assert len(day.secrets) > 20
    kinds = set(day.secrets.values())
    assert {"nonce", "code verifier", "API key", "access_token of password", "refresh_token of password"} <= kinds
    assert {"access_token of oidc", "refresh_token of oidc", "id_token of oidc", "access_token of api_key"} <= kinds
    mails = [str(part) for message in mail.outbox for part in (message.subject, message.body)]
    mails += [str(m.alternatives) for m in mail.outbox if isinstance(m, mail.EmailMultiAlternatives)]
    assert bool(mails) is not debug
    printed = capsys.readouterr()
    everything = [*day.said, *logged, *(f"mail: {text}" for text in mails), printed.out, printed.err]
    assert any("ZeroDivisionError" in text for text in everything if text.startswith("mail" if not debug else "body"))
    found = {
        (kind, text[:60].split("\n")[0])
        for secret, kind in day.secrets.items()
        for text in everything
        if any(form in text for form in {secret, quote(secret), quote_plus(secret)})
    }
    assert not found, found
