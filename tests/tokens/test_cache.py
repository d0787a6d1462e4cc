"""The cache may be flushed, down, silent or not there: a token costs a query then, and never an upstream call."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from django.core.cache import caches
from django.db import OperationalError

from partium_auth.exceptions import TokenUnavailable
from partium_auth.models import Grant, Membership, Organization
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants, invalidation, reading
from partium_auth.tokens.keeper import Keeper, keeper
from tests.tokens.conftest import Person, age, eventually, use_cache

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
    assert isinstance(invalidation.look(*places(person)).value, reading.Reading)
    grants.revoke(Grant.objects.all())
    cache.delete(f"{invalidation._PREFIX}user:{person.user.pk}")
    assert invalidation.look(*places(person)).value is None


def test_a_slow_reader_brings_nothing_back(acme: Organization, log_in: LogIn, settings: Any) -> None:
    # Provided by the stamps being read before the database, and stored with the entry.
    use_cache(settings)
    person = log_in(acme)
    slot = invalidation.look(*places(person))
    view = reading.read(*places(person))
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


@pytest.fixture
def database_down(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have every query of the tokens' room fail."""

    def down(*args: Any, **kwargs: Any) -> NoReturn:
        raise OperationalError("the database is down")

    def take_down() -> None:
        monkeypatch.setattr(reading, "read", down)
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
    invalidation.look(*places(person)).store(reading.read(*places(person)), 600)
    partium, again = person.partium, person.partium
    database_down()
    assert partium.token().value == again.token().value
    eventually(lambda: not keeper._flights().by_grant)
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
    monkeypatch.setattr("partium_auth.tokens.keeper.PATIENCE_SECONDS", 0.3)
    use_cache(settings)
    person = log_in(acme)
    assert person.grant is not None
    age(person.grant, 5)
    invalidation.look(*places(person)).store(reading.read(*places(person)), 600)
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
    another_process = Keeper()
    another_process.obtain(seen)
    eventually(lambda: not another_process._flights().by_grant)
    assert person.token().issued.generation == 2
    partium = person.partium
    with django_assert_num_queries(0):
        assert partium.token().issued.generation == 2
