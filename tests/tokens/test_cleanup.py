"""``partium_clear_grants`` removes what is dead and nothing else, whatever happens beside it."""

from __future__ import annotations

import contextlib
import datetime as dt
import inspect
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.sessions.backends import signed_cookies
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from partium_auth.fields import seal
from partium_auth.middleware import PartiumMiddleware
from partium_auth.models import Grant, Organization, UsedOnce
from partium_auth.session import PartiumSession
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import cleanup, grants
from partium_auth.tokens.manager import TokenManager
from tests.tokens.conftest import Person, age, ago, eventually, read

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]
DAY = 86_400


def clear(*arguments: str) -> str:
    output = io.StringIO()
    call_command("partium_clear_grants", *arguments, stdout=output)
    return output.getvalue()


def change(grant: Grant, **fields: Any) -> Grant:
    Grant.objects.filter(pk=grant.pk).update(**fields)
    return grant


def with_session(grant: Grant) -> str:
    """Give a grant a session of its own that exists."""
    store = SessionStore()
    store.create()
    assert store.session_key
    digest = grants.session_key_digest(store.session_key)
    change(grant, session_key=seal(grant, "session_key", store.session_key), session_key_digest=digest)
    return store.session_key


def change_password(person: Person) -> str:
    """Let a view give the session another key, and return that."""

    def view(request: HttpRequest) -> HttpResponse:
        request.session.cycle_key()
        return HttpResponse()

    request = person.request()
    PartiumMiddleware(view)(request)
    return str(request.session.session_key)


@pytest.fixture(params=[10_000, 0], ids=["each session looked up", "all living sessions read first"])
def everything(
    password_grant: MakeGrant, key_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> dict[str, Grant]:
    """One grant of every kind, dead or alive."""
    monkeypatch.setattr(cleanup, "FEW_GRANTS", request.param)
    made = {
        "revoked": change(
            password_grant(), rejected_at=ago(10), issued_at=time.time() - 700, refreshed_at=ago(31 * DAY)
        ),
        "revoked, no session": change(password_grant(), refreshed_at=ago(2 * DAY)),
        "revoked key": key_grant(),
        "expired": change(password_grant(), refresh_token=None, issued_at=time.time() - 700),
        "rejected, never had a token": change(
            password_grant(), rejected_at=ago(10), refresh_token=None, issued_at=None
        ),
        "rejected": change(password_grant(), rejected_at=ago(10), refresh_token=None, issued_at=time.time() - 700),
        "rejected, still serving": change(
            password_grant(), rejected_at=ago(10), refresh_token=None, refreshed_at=ago(2 * DAY)
        ),
        "unused": change(password_grant(), refreshed_at=ago(31 * DAY)),
        "unused key": change(key_grant(), refreshed_at=ago(400 * DAY), created_at=ago(400 * DAY)),
        "no session": change(password_grant(), refreshed_at=ago(2 * DAY)),
        "no session, in use": change(password_grant(), created_at=ago(400 * DAY)),
        "never refreshed": change(password_grant(), refreshed_at=None),
        "idle": change(password_grant(), refreshed_at=ago(2 * DAY)),
        "alive": password_grant(),
    }
    grants.revoke(Grant.objects.filter(pk__in=[made[name].pk for name in made if name.startswith("revoked")]))
    with_session(made["idle"])
    with_session(made["alive"])
    return made


DEAD = {
    "revoked",
    "revoked, no session",
    "revoked key",
    "rejected",
    "rejected, never had a token",
    "unused",
    "no session",
}


def left(everything: dict[str, Grant]) -> set[str]:
    there = set(Grant.objects.values_list("pk", flat=True))
    return {name for name, grant in everything.items() if grant.pk in there}


@pytest.mark.parametrize("batch_size", ["1", "2", "1000"])
def test_what_is_dead_goes_and_what_may_be_used_stays(everything: dict[str, Grant], batch_size: str) -> None:
    UsedOnce.objects.create(digest="old", expires_at=ago(1))
    UsedOnce.objects.create(digest="new", expires_at=timezone.now() + dt.timedelta(hours=1))
    expected = "3 revoked grants, 2 rejected, 1 unused, 1 without a session; 1 expired logout tokens and login states."
    assert clear("--dry-run", "--batch-size", batch_size) == f"Would remove: {expected}\n"
    assert left(everything) == set(everything)
    assert clear("--batch-size", batch_size) == f"Removed: {expected}\n"
    assert left(everything) == set(everything) - DEAD
    assert [row.digest for row in UsedOnce.objects.all()] == ["new"]
    assert clear().startswith("Removed: 0 revoked grants, 0 rejected, 0 unused, 0 without")


def test_an_expired_session_is_none(everything: dict[str, Grant]) -> None:
    Session.objects.all().delete()
    store = with_session(everything["idle"])
    Session.objects.filter(pk=store).update(expire_date=ago(1))
    clear()
    assert "idle" not in left(everything)


def test_sessions_that_are_not_rows_are_not_looked_for(everything: dict[str, Grant], settings: Settings) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert "0 without a session" in clear()
    assert "no session" in left(everything)


def test_a_session_key_that_does_not_open_is_no_reason(everything: dict[str, Grant]) -> None:
    other = everything["alive"]
    change(everything["no session"], session_key=Grant.objects.get(pk=other.pk).session_key)
    assert "0 without a session" in clear()


def test_older_than_is_a_number_of_days(everything: dict[str, Grant], settings: Settings) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    clear("--older-than", "1")
    assert "idle" not in left(everything)
    for wrong in ("0", "-1", "soon"):
        with pytest.raises(CommandError):
            clear("--older-than", wrong)


def test_a_grant_that_is_being_refreshed_stays(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = change(password_grant(), refreshed_at=ago(31 * DAY))
    with partium_sandbox.hang("refresh") as hang:
        token_manager.obtain(age(grant, 120))
        hang.wait_until_met()
        assert "0 unused" in clear()
    eventually(lambda: read(grant).generation == 2)
    assert "0 unused" in clear()  # it has just been refreshed


@contextlib.contextmanager
def before_sessions_are_read(action: Callable[[], object]) -> Iterator[None]:
    """Do something after idle grants were found and before they are removed."""

    def execute_after_it(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "django_session" in sql:
            action()
        return execute(sql, *arguments)

    with connection.execute_wrapper(execute_after_it):
        yield


def test_a_grant_that_comes_to_life_after_it_was_found_stays(password_grant: MakeGrant) -> None:
    grant = change(password_grant(), refreshed_at=ago(2 * DAY))
    with before_sessions_are_read(lambda: change(grant, refreshed_at=timezone.now())):
        assert "0 without a session" in clear()
    assert Grant.objects.filter(pk=grant.pk).exists()


@pytest.mark.parametrize("days", [2, 31], ids=["idle", "for longer than --older-than"])
@pytest.mark.parametrize("change_key", [False, True], ids=["the same session", "a session with another key"])
def test_a_person_who_is_logged_in_stays_logged_in(
    acme: Organization, log_in: Callable[..., Person], days: int, change_key: bool
) -> None:
    """A change of the password gives a session another key; where a key of the organization serves, no login is refreshed."""
    person = log_in(acme)
    if change_key:
        person.session_key = change_password(person)
    Grant.objects.update(refreshed_at=ago(days * DAY), created_at=ago(days * DAY))
    clear()
    assert person.token()


# --- the session key that a grant knows ---------------------------------------------------------------------------------


def known_session_key(person: Person) -> str:
    assert person.grant is not None
    person.grant.refresh_from_db()
    assert person.grant.session_key is not None
    return str(person.grant.session_key.reveal())


def writes(captured: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]


def test_a_view_that_gives_the_session_another_key_has_it_stored(
    acme: Organization, log_in: Callable[..., Person]
) -> None:
    person = log_in(acme)
    person.session_key = change_password(person)
    assert known_session_key(person) == person.session_key
    assert grants.revoke(Grant.objects.all(), delete_sessions=True) == 1
    assert not Session.objects.filter(pk=person.session_key).exists(), "a logout from elsewhere ends this session"


def test_an_async_view_that_gives_the_session_another_key_has_it_stored(
    acme: Organization, log_in: Callable[..., Person]
) -> None:
    person = log_in(acme)
    request = person.request()

    async def view(request: HttpRequest) -> HttpResponse:
        await sync_to_async(request.session.cycle_key)()
        return HttpResponse()

    async def ask() -> None:
        answer = PartiumMiddleware(view)(request)
        assert inspect.isawaitable(answer)
        await answer

    async_to_sync(ask)()
    assert known_session_key(person) == request.session.session_key != person.session_key


def test_a_request_whose_session_keeps_its_key_asks_nothing(acme: Organization, log_in: Callable[..., Person]) -> None:
    request = log_in(acme).request()
    with CaptureQueriesContext(connection) as captured:
        PartiumMiddleware(lambda request: HttpResponse())(request)
    assert not captured.captured_queries


def test_a_token_read_stores_a_key_that_was_changed_elsewhere_once(
    acme: Organization, log_in: Callable[..., Person]
) -> None:
    person = log_in(acme)
    person.token()
    changed = person.request().session
    changed.cycle_key()
    person.session_key = str(changed.session_key)
    for expected in (1, 0, 0):
        with CaptureQueriesContext(connection) as captured:
            person.token()
        assert len(writes(captured)) == expected
        assert known_session_key(person) == person.session_key
    assert len(captured) == 3, "session, person, and one small query"


def test_a_session_key_that_cannot_be_stored_is_no_reason_to_fail(
    acme: Organization, log_in: Callable[..., Person], caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    person = log_in(acme)
    old_key = person.session_key
    keys = settings.PARTIUM_ENCRYPTION_KEYS
    settings.PARTIUM_ENCRYPTION_KEYS = []
    person.session_key = change_password(person)
    settings.PARTIUM_ENCRYPTION_KEYS = keys
    assert "was not stored: EncryptionError" in caplog.text
    assert known_session_key(person) == old_key
    assert person.token()
    assert known_session_key(person) == person.session_key


def test_a_session_that_is_a_cookie_has_no_key_to_store(acme: Organization, log_in: Callable[..., Person]) -> None:
    person = log_in(acme)
    request = person.request()
    before = known_session_key(person)
    cookie = signed_cookies.SessionStore()
    cookie.update(dict(request.session.items()))
    request.session = cookie

    def view(request: HttpRequest) -> HttpResponse:
        request.session.save()
        return HttpResponse()

    with CaptureQueriesContext(connection) as captured:
        PartiumMiddleware(view)(request)
        assert PartiumSession(request).token()
    assert not writes(captured)
    assert known_session_key(person) == before


def test_a_grant_whose_session_got_another_key_after_it_was_found_stays(
    acme: Organization, log_in: Callable[..., Person]
) -> None:
    person = log_in(acme)
    assert person.grant is not None
    grant_id = person.grant.pk
    Grant.objects.update(refreshed_at=ago(2 * DAY))
    Session.objects.all().delete()
    with before_sessions_are_read(lambda: grants.store_session_key(grant_id, "another-key")):
        assert "0 without a session" in clear()
    assert known_session_key(person) == "another-key"


def test_no_session_is_read_but_those_of_the_batch(password_grant: MakeGrant) -> None:
    wanted = change(password_grant(), refreshed_at=ago(2 * DAY))
    wanted_key = with_session(wanted)
    other_key = with_session(password_grant())
    with CaptureQueriesContext(connection) as captured:
        clear()
    asked = [query["sql"] for query in captured if "django_session" in query["sql"]]
    assert len(asked) == 1
    assert wanted_key in asked[0]
    assert other_key not in asked[0]
    assert "session_data" not in asked[0]


def test_two_grants_of_one_session_are_both_seen(password_grant: MakeGrant) -> None:
    one, other = (change(password_grant(), refreshed_at=ago(2 * DAY)) for _ in range(2))
    store = SessionStore()
    store.create()
    for grant in (one, other):
        change(grant, session_key=seal(grant, "session_key", str(store.session_key)))
    assert "0 without a session" in clear()
    store.delete()
    assert "2 without a session" in clear()


def test_with_many_idle_grants_only_the_keys_of_dead_sessions_are_opened(
    password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a million session keys takes half a minute of processor time."""
    monkeypatch.setattr(cleanup, "FEW_GRANTS", 0)
    living, dead = (change(password_grant(), refreshed_at=ago(2 * DAY)) for _ in range(2))
    keys = {grant: with_session(grant) for grant in (living, dead)}
    Session.objects.filter(pk=keys[dead]).delete()
    with CaptureQueriesContext(connection) as captured:
        assert "1 without a session" in clear()
    (asked,) = [query["sql"] for query in captured if "django_session" in query["sql"] and " IN (" in query["sql"]]
    assert keys[dead] in asked
    assert keys[living] not in asked
    assert list(Grant.objects.all()) == [living]


def test_a_session_that_got_another_key_after_all_were_read_keeps_its_grant(
    acme: Organization, log_in: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "FEW_GRANTS", 0)
    person = log_in(acme)
    Grant.objects.update(refreshed_at=ago(2 * DAY))
    done: list[str] = []

    def change_it_after_all_were_read(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "django_session" in sql and "COUNT" not in sql and not done:
            done.append("read")
        elif "partium_auth_grant" in sql and done == ["read"]:
            done.append("changed")
            person.session_key = change_password(person)
        return execute(sql, *arguments)

    with connection.execute_wrapper(change_it_after_all_were_read):
        assert "0 without a session" in clear()
    assert done == ["read", "changed"]
    assert person.token()
