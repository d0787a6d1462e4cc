"""The cache may be flushed, down, silent or not there: a token costs a query then, and never an upstream call."""

from __future__ import annotations

import contextlib
import datetime as dt
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from partium_auth import services
from partium_auth.exceptions import LoginRequired, NoOrganization, TokenUnavailable
from partium_auth.models import Grant, Membership, Organization
from partium_auth.sealed import encryption
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import access, grants, invalidation
from partium_auth.tokens.manager import TokenManager, token_manager
from tests.tokens.conftest import MovableClock, Person, age, eventually, use_cache

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[..., Person]

NOWHERE = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
CACHES_THAT_FAIL = {
    "down": NOWHERE,
    "raises": {"BACKEND": "tests.tokens.caches.BrokenCache"},
    "swallows": {"BACKEND": "tests.tokens.caches.SwallowingCache"},
    "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
}


def use(settings: Any, cache: dict[str, str]) -> None:
    settings.CACHES = {**settings.CACHES, "shared": cache}
    settings.PARTIUM_CACHE = "shared"


@pytest.mark.parametrize("cache", CACHES_THAT_FAIL.values(), ids=CACHES_THAT_FAIL)
def test_a_cache_that_fails_costs_a_query_and_no_call(
    acme: Organization,
    log_in: LogIn,
    settings: Any,
    partium_sandbox: PartiumSandbox,
    django_assert_num_queries: Any,
    cache: dict[str, str],
) -> None:
    # Provided by the except clauses of invalidation.look(), Slot.store() and _restamp().
    use(settings, cache)
    person = log_in(acme)
    assert person.grant is not None
    age(person.grant, 0)
    renewed = person.token()
    for _ in range(3):
        partium = person.partium
        with django_assert_num_queries(1):
            assert partium.token().value == renewed.value
    assert partium_sandbox.count(endpoint="refresh") == 1
    Membership.objects.all().delete()
    grants.revoke(Grant.objects.all())
    assert person.partium.organization is None


def test_a_flushed_cache_costs_a_query_and_no_call(
    acme: Organization, log_in: LogIn, settings: Any, partium_sandbox: PartiumSandbox, django_assert_num_queries: Any
) -> None:
    use_cache(settings)
    person = log_in(acme)
    assert person.grant is not None
    age(person.grant, 0)
    values = set()
    for _ in range(3):
        values.add(person.token().value)
        caches["shared"].clear()
    partium = person.partium
    with django_assert_num_queries(1):
        values.add(partium.access_token)
    partium = person.partium
    with django_assert_num_queries(0):
        values.add(partium.access_token)
    assert len(values) == 1
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_lost_stamp_costs_a_query_and_brings_nothing_back(acme: Organization, log_in: LogIn, settings: Any) -> None:
    # Provided by "None not in stamps" in invalidation.look(): a revocation that is only a note in the cache is undone
    # when the cache forgets the note and keeps the token.
    use_cache(settings)
    person = log_in(acme)
    person.token()
    cache = caches["shared"]
    assert isinstance(invalidation.look(*places(person)).value, access.SessionAccess)
    grants.revoke(Grant.objects.all())
    cache.delete(f"{invalidation._PREFIX}user:{person.user.pk}")
    assert invalidation.look(*places(person)).value is None


def test_a_slow_reader_brings_nothing_back(acme: Organization, log_in: LogIn, settings: Any) -> None:
    # Provided by the stamps being read before the database, and stored with the entry.
    use_cache(settings)
    person = log_in(acme)
    slot = invalidation.look(*places(person))
    view = access.read(*places(person))
    grants.revoke(Grant.objects.all())
    slot.store(view, 600)
    assert invalidation.look(*places(person)).value is None


def test_a_provider_that_changes_concerns_everybody(acme: Organization, log_in: LogIn, settings: Any) -> None:
    use_cache(settings)
    person = log_in(acme)
    person.token()
    invalidation.distrust_everything()
    assert invalidation.look(*places(person)).value is None


def places(person: Person) -> tuple[Any, Any, Any]:
    assert person.grant is not None
    return person.user.pk, person.grant.pk, person.organization.pk


def test_what_is_cached_holds_the_token_sealed(acme: Organization, log_in: LogIn, settings: Any) -> None:
    use_cache(settings)
    person = log_in(acme)
    value = person.token().value
    view = invalidation.look(*places(person)).value
    assert value.encode() not in pickle.dumps(view)
    assert value not in repr(view)


def test_after_a_change_of_the_encryption_key_nothing_is_cached_that_only_the_old_one_opens(
    acme: Organization, log_in: LogIn, settings: Any
) -> None:
    use_cache(settings)
    person = log_in(acme)
    value = person.token().value
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    assert services.reseal(actor=None).failed == []
    settings.PARTIUM_ENCRYPTION_KEYS = settings.PARTIUM_ENCRYPTION_KEYS[:1]
    assert person.token().value == value


@pytest.fixture
def clock_of_keeper(clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    """The clock that tokens are judged by, to be moved; nobody waits long."""
    monkeypatch.setattr(token_manager, "clock", clock)
    monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 0.3)
    return clock


@pytest.fixture
def database_down(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have every query of the tokens' room fail."""

    def down(*args: Any, **kwargs: Any) -> NoReturn:
        raise OperationalError("the database is down")

    def take_down() -> None:
        monkeypatch.setattr(access, "read", down)
        monkeypatch.setattr(grants, "_rows", down)

    return take_down


def test_with_the_database_down_a_cached_token_is_served_and_nothing_renewed(
    acme: Organization,
    log_in: LogIn,
    settings: Any,
    partium_sandbox: PartiumSandbox,
    database_down: Callable[[], None],
) -> None:
    # Provided by "except AnyDatabaseError" in PartiumSession._serve().
    use_cache(settings)
    person = log_in(acme)
    assert person.grant is not None
    age(person.grant, 120)  # due for a renewal, which cannot be
    invalidation.look(*places(person)).store(access.read(*places(person)), 600)
    partium, again = person.partium, person.partium
    database_down()
    assert partium.token().value == again.token().value
    eventually(lambda: not token_manager._flights().by_grant)
    assert partium_sandbox.count(endpoint="refresh") == 0


def test_with_the_database_down_a_revoked_token_is_not_served(
    acme: Organization, log_in: LogIn, settings: Any, database_down: Callable[[], None]
) -> None:
    use_cache(settings)
    person = log_in(acme)
    person.token()
    grants.revoke(Grant.objects.all())
    partium = person.partium
    database_down()
    with pytest.raises(OperationalError):
        partium.token()


def test_with_the_database_down_and_the_token_at_its_end_the_answer_is_to_come_back(
    acme: Organization,
    log_in: LogIn,
    settings: Any,
    partium_sandbox: PartiumSandbox,
    database_down: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("partium_auth.tokens.manager.PATIENCE_SECONDS", 0.3)
    use_cache(settings)
    person = log_in(acme)
    assert person.grant is not None
    age(person.grant, 5)
    invalidation.look(*places(person)).store(access.read(*places(person)), 600)
    partium = person.partium
    database_down()
    with pytest.raises(TokenUnavailable):
        partium.token()
    assert partium_sandbox.count(endpoint="refresh") == 0


def test_after_a_renewal_every_process_has_the_new_token(
    acme: Organization, log_in: LogIn, settings: Any, django_assert_num_queries: Any
) -> None:
    use_cache(settings)
    person = log_in(acme)
    assert person.grant is not None
    person.token()
    seen = age(person.grant, 120)
    another_process = TokenManager()
    another_process.obtain(seen)
    eventually(lambda: not another_process._flights().by_grant)
    assert person.token().issued.generation == 2
    partium = person.partium
    with django_assert_num_queries(0):
        assert partium.token().issued.generation == 2


def test_what_was_never_committed_is_not_kept(acme: Organization, log_in: LogIn, settings: Any) -> None:
    # Provided by transaction.on_commit() in PartiumSession._reading(): nobody replaces a stamp for what is rolled back, and
    # the membership that never was would have served for ten minutes.
    use_cache(settings)
    person = log_in(acme)
    Membership.objects.all().delete()
    with contextlib.suppress(RuntimeError), transaction.atomic():
        Membership.objects.create(user=person.user, organization=acme)
        assert person.token().value
        raise RuntimeError
    with pytest.raises(NoOrganization):
        person.token()


def test_what_a_transaction_has_read_is_kept_once_it_is_committed(
    acme: Organization, log_in: LogIn, settings: Any, django_assert_num_queries: Any
) -> None:
    # Otherwise PARTIUM_CACHE would do nothing under ATOMIC_REQUESTS.
    use_cache(settings)
    person = log_in(acme)
    with transaction.atomic():
        person.token()
    partium = person.partium
    with django_assert_num_queries(0):
        assert partium.token().value


def test_a_transaction_that_shows_what_was_brings_nothing_back(
    acme: Organization, log_in: LogIn, settings: Any
) -> None:
    # Provided by access.shows_what_is_committed(): such a reader knows the stamps of after the revocation, and reads the
    # row of before it.
    use_cache(settings)
    person = log_in(acme)
    isolation = pytest.MonkeyPatch()
    option, level = {
        "sqlite": ("transaction_mode", "DEFERRED"),
        "postgresql": ("isolation_level", 3),  # psycopg.IsolationLevel.REPEATABLE_READ
        "mysql": ("isolation_level", "repeatable read"),
    }[connection.vendor]
    isolation.setitem(connection.settings_dict.setdefault("OPTIONS", {}), option, level)
    connection.close()
    try:
        with transaction.atomic():
            partium = person.partium  # has looked into the database
            in_another_thread(lambda: grants.revoke(Grant.objects.all()))
            assert partium.token().value  # in this transaction it has not happened yet
    finally:
        isolation.undo()
        connection.close()
    with pytest.raises(LoginRequired):
        person.token()


def in_another_thread(act: Callable[[], object]) -> None:
    def run() -> None:
        try:
            act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


class ForgetfulCache(LocMemCache):
    """Cannot write several keys at once, and says so as memcached's backends do: by returning them."""

    def set_many(self, data: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return list(data)


def test_a_cache_that_takes_no_stamps_is_an_error_in_the_log(
    acme: Organization, log_in: LogIn, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Provided by what set_many() returns being looked at in invalidation._restamp().
    use_cache(settings, f"{__name__}.ForgetfulCache")
    log_in(acme)
    caplog.clear()
    grants.revoke(Grant.objects.all())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "PARTIUM_CACHE cannot be written" in caplog.text


def test_with_the_database_down_a_long_request_keeps_what_it_was_served(
    acme: Organization, log_in: LogIn, settings: Any, database_down: Callable[[], None], clock_of_keeper: MovableClock
) -> None:
    # Provided by "except AnyDatabaseError" around the second reading in PartiumSession._serve().
    use_cache(settings)
    person = log_in(acme)
    person.token()
    partium = person.partium
    first = partium.token()
    database_down()
    clock_of_keeper.advance(400)  # not fresh any more
    assert partium.token().value == first.value
    clock_of_keeper.advance(300)
    with pytest.raises(TokenUnavailable):
        partium.token()


def test_a_reading_is_kept_for_ten_minutes_at_most_and_not_beyond_its_token(
    acme: Organization, log_in: LogIn, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Provided by min() and "seconds >= 1" in Slot.store(): it is also how long a revocation may go unnoticed where the
    # cache takes no stamps.
    use_cache(settings)
    person = log_in(acme)
    kept: list[float] = []
    monkeypatch.setattr(LocMemCache, "set", lambda self, key, value, timeout: kept.append(timeout))
    monkeypatch.setattr("django.core.cache.backends.redis.RedisCache.set", LocMemCache.set)
    slot = invalidation.look(*places(person))
    for seconds in (86_400, 60.9, 1, 0.9, 0):
        slot.store("value", seconds)
    assert kept[-3:] == [600, 60, 1]


def test_a_reading_with_a_key_that_ends_soon_is_not_kept(
    acme: Organization, log_in: LogIn, settings: Any, key_grant: Callable[[], Grant]
) -> None:
    # Provided by first_end in access._reading(): nobody replaces a stamp when a key's time has come.
    use_cache(settings)
    services.change_organization(acme, actor=None, token_source=Organization.TokenSource.API_KEY)
    person = log_in(acme, kind=None)
    lasting, ending = key_grant().api_key, key_grant().api_key
    assert lasting is not None
    assert ending is not None
    for minutes, kept in ((9, False), (11, True)):
        ending.expires_at = timezone.now() + dt.timedelta(minutes=minutes)
        ending.save()
        person.token()
        person.token()  # the first one has obtained the key's token, which replaced the stamps
        value = invalidation.look(person.user.pk, None, acme.pk).value
        assert isinstance(value, access.SessionAccess) is kept


def test_a_stamp_that_two_readers_make_at_once_is_one(acme: Organization, log_in: LogIn, settings: Any) -> None:
    # Provided by cache.add() in invalidation._stamp(): whoever comes second takes the first one's.
    use_cache(settings)
    cache = caches["shared"]
    first = invalidation._stamp(cache, "stamp")
    assert invalidation._stamp(cache, "stamp") == first == cache.get("stamp")


def test_what_somebody_else_has_put_in_its_place_is_not_trusted(
    acme: Organization, log_in: LogIn, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Provided by "isinstance(entry, tuple)" in invalidation.look(): a cache that keeps JSON turns tuples into lists.
    use_cache(settings)
    person = log_in(acme)
    slot = invalidation.look(*places(person))
    for foreign in (7, "text", [1, 2]):
        caches["shared"].set(slot._key, foreign)
        assert invalidation.look(*places(person)).value is None
    assert not caplog.records


def test_a_cache_that_cannot_be_written_is_a_line_in_the_log(
    acme: Organization, log_in: LogIn, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Provided by the except clause of Slot.store().
    use_cache(settings)
    person = log_in(acme)

    def full(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("no space left")

    monkeypatch.setattr(type(caches["shared"]), "set", full)
    assert person.token().value
    assert "PARTIUM_CACHE cannot be written (OSError)" in caplog.text
