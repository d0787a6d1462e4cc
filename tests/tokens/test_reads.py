"""A read is one small query, and what was revoked is refused by the very next one, in every process."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from partium_auth import services
from partium_auth.exceptions import LoginRequired, NoOrganization, NoUsableKey, PartiumError
from partium_auth.models import ApiKey, Grant, IdentityProvider, Membership, Organization, Role
from partium_auth.models.versions import new_version
from partium_auth.sealed import encryption
from partium_auth.services import key_usage
from partium_auth.tokens import access, grants
from partium_auth.tokens.manager import TokenManager
from partium_auth.tokens.memo import Memo
from tests.tokens.conftest import Person, age, eventually

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[..., Person]
MakeGrant = Callable[[], Grant]


@pytest.fixture
def globex() -> Organization:
    return Organization.objects.create(org_id="globex", display_name="Globex")


@pytest.fixture
def corp() -> IdentityProvider:
    return IdentityProvider.objects.create(slug="corp", display_name="Corp", issuer="https://corp.example")


@pytest.fixture
def ann(acme: Organization, corp: IdentityProvider, log_in: LogIn) -> Person:
    """Somebody whose access this process remembers."""
    person = log_in(acme, kind=Grant.Kind.OIDC, provider="corp")
    assert person.token().value
    with CaptureQueriesContext(connection) as captured:
        assert person.token().value
    assert not [query for query in captured if Membership._meta.db_table in query["sql"]], "it was not remembered"
    return person


def in_another_thread(act: Callable[[], object]) -> None:
    """Act on a database connection of another thread, as another process would."""

    def run() -> None:
        try:
            act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


# --- every way to change what decides ---------------------------------------------------------------------------------


def delete_membership() -> None:
    Membership.objects.get().delete()


def delete_memberships() -> None:
    Membership.objects.all().delete()


def delete_the_user() -> None:
    # Not the user who is logged in: that is the site's own query. A cascade has to change the version, too.
    get_user_model().objects.all().delete()


def move_membership() -> None:
    membership = Membership.objects.get()
    membership.organization = Organization.objects.get(org_id="globex")
    membership.save()


def move_memberships() -> None:
    Membership.objects.update(organization=Organization.objects.get(org_id="globex"))


def move_memberships_in_bulk() -> None:
    rows = list(Membership.objects.all())
    for row in rows:
        row.organization = Organization.objects.get(org_id="globex")
    Membership.objects.bulk_update(rows, ["organization"])


def deactivate_organization() -> None:
    acme = Organization.objects.get(org_id="acme")
    acme.is_active = False
    acme.save(update_fields=["is_active"])


def deactivate_organizations() -> None:
    Organization.objects.filter(org_id="acme").update(is_active=False)


def deactivate_organizations_in_bulk() -> None:
    rows = list(Organization.objects.all())
    for row in rows:
        row.is_active = False
    Organization.objects.bulk_update(rows, ["is_active"])


def delete_organization() -> None:
    with connection.cursor() as cursor:  # events are append-only, and keep their organization
        cursor.execute("DELETE FROM partium_auth_auditevent")
    Organization.objects.get(org_id="acme").delete()


def deactivate_provider() -> None:
    provider = IdentityProvider.objects.get()
    provider.is_active = False
    provider.save()


def deactivate_providers() -> None:
    IdentityProvider.objects.update(is_active=False)


def delete_providers() -> None:
    IdentityProvider.objects.all().delete()


def give_provider_away() -> None:
    IdentityProvider.objects.update(organization=Organization.objects.get(org_id="globex"))


def require_another_provider() -> None:
    other = IdentityProvider(slug="other", display_name="Other", issuer="https://other.example")
    IdentityProvider.objects.bulk_create([other])
    Organization.objects.filter(org_id="acme").update(required_provider=other)


def load_a_fixture() -> None:
    acme = Organization.objects.get(org_id="acme")
    acme.is_active = False
    for row in serializers.deserialize("json", serializers.serialize("json", [acme])):
        row.save()


def revoke_login() -> None:
    grants.revoke(Grant.objects.all())


def delete_login() -> None:
    Grant.objects.all().delete()


ENDINGS: list[tuple[Callable[[], None], type[PartiumError]]] = [
    (delete_membership, NoOrganization),
    (delete_memberships, NoOrganization),
    (delete_the_user, NoOrganization),
    (move_membership, NoOrganization),
    (move_memberships, NoOrganization),
    (move_memberships_in_bulk, NoOrganization),
    (deactivate_organization, NoOrganization),
    (deactivate_organizations, NoOrganization),
    (deactivate_organizations_in_bulk, NoOrganization),
    (delete_organization, NoOrganization),
    (load_a_fixture, NoOrganization),
    (deactivate_provider, LoginRequired),
    (deactivate_providers, LoginRequired),
    (delete_providers, LoginRequired),
    (give_provider_away, NoOrganization),
    (require_another_provider, LoginRequired),
    (revoke_login, LoginRequired),
    (delete_login, LoginRequired),
]


@pytest.mark.parametrize(("end", "error"), ENDINGS, ids=[end.__name__ for end, _ in ENDINGS])
def test_what_another_process_ends_is_refused_by_the_next_read(
    ann: Person, globex: Organization, end: Callable[[], None], error: type[PartiumError]
) -> None:
    partium = ann.partium  # the site has read its user
    in_another_thread(end)
    with pytest.raises(error):
        partium.token()


def revoke_key(key: ApiKey) -> None:
    services.revoke_key(key, actor=None)


def expire_key(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())


def delete_key(key: ApiKey) -> None:
    key.delete()


def refuse_key(key: ApiKey) -> None:
    key.verification = ApiKey.Verification.REJECTED
    ApiKey.objects.bulk_update([key], ["verification"])


@pytest.mark.parametrize("end", [revoke_key, expire_key, delete_key, refuse_key])
def test_a_key_that_another_process_ends_gives_way_at_the_next_read(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, end: Callable[[ApiKey], None]
) -> None:
    Organization.objects.update(token_source=Organization.TokenSource.API_KEY)
    older, newer = key_grant(), key_grant()
    person = log_in(acme, kind=None)
    assert person.token().grant_id == person.token().grant_id == newer.pk
    key = newer.api_key
    assert key is not None
    in_another_thread(lambda: end(key))
    assert person.token().grant_id == older.pk


def test_a_key_that_another_process_adds_serves_at_the_next_read(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant
) -> None:
    Organization.objects.update(token_source=Organization.TokenSource.API_KEY)
    key_grant()
    person = log_in(acme, kind=None)
    person.token()
    added: list[Grant] = []
    in_another_thread(lambda: added.append(key_grant()))
    assert person.token().grant_id == added[0].pk


def test_a_key_ends_in_the_memory_of_a_process_too(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # When a key reaches its end, nothing is written that could change the version.
    Organization.objects.update(token_source=Organization.TokenSource.API_KEY)
    grant = key_grant()
    ApiKey.objects.update(expires_at=timezone.now() + dt.timedelta(hours=1))
    person = log_in(acme, kind=None)
    Grant.objects.filter(pk=grant.pk).update(lifetime_seconds=86_400)
    assert person.token().value
    Grant.objects.filter(pk=grant.pk).update(lifetime_seconds=86_400)
    access.forget_all()
    assert person.token().value
    later = timezone.now() + dt.timedelta(minutes=61)
    monkeypatch.setattr("partium_auth.tokens.manager.token_manager.clock", later.timestamp)
    monkeypatch.setattr(timezone, "now", lambda: later)
    with pytest.raises(NoUsableKey):
        person.token()


def test_after_a_refresh_elsewhere_the_new_token_is_served(acme: Organization, log_in: LogIn) -> None:
    ann = log_in(acme, kind=Grant.Kind.PASSWORD)
    assert ann.grant is not None
    another_process = TokenManager()
    another_process.obtain(age(ann.grant, 120))
    eventually(lambda: not another_process.refreshing)
    assert ann.token().generation == 2


# --- transactions -----------------------------------------------------------------------------------------------------


def test_what_is_rolled_back_serves_nobody(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme)
    Membership.objects.all().delete()
    with contextlib.suppress(RuntimeError), transaction.atomic():
        Membership.objects.create(user=person.user, organization=acme)
        assert person.token().value
        assert person.token().value
        raise RuntimeError
    with pytest.raises(NoOrganization):
        person.token()


def test_a_change_that_is_rolled_back_hides_no_later_one(ann: Person) -> None:
    # The version is random: a counter would give the rolled-back value to the next change.
    for _ in range(2):
        with transaction.atomic():
            Membership.objects.update(role=Role.DEVELOPER)
            assert ann.token().value  # remembered, with the version of this transaction
            transaction.set_rollback(True)
    with transaction.atomic():
        Membership.objects.all().delete()
    with pytest.raises(NoOrganization):
        ann.token()


@pytest.fixture
def repeatable_read() -> Iterator[None]:
    """Transactions that show the database as it was when they began."""
    option, level = {
        "sqlite": ("transaction_mode", "DEFERRED"),
        "postgresql": ("isolation_level", 3),  # psycopg.IsolationLevel.REPEATABLE_READ
        "mysql": ("isolation_level", "repeatable read"),
    }[connection.vendor]
    patch = pytest.MonkeyPatch()
    patch.setitem(connection.settings_dict.setdefault("OPTIONS", {}), option, level)
    connection.close()
    yield
    patch.undo()
    connection.close()


@pytest.mark.usefixtures("repeatable_read")
def test_a_transaction_that_shows_the_past_serves_it_to_itself_only(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme)
    with transaction.atomic():
        partium = person.partium  # has read the database
        in_another_thread(lambda: Membership.objects.all().delete())
        assert partium.token().value  # in this transaction it has not happened yet
    with pytest.raises(NoOrganization):
        person.token()


class Replica:
    """A router that reads from another database than it writes to."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model._meta.app_label == "partium_auth" else None

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def test_reads_ask_where_it_was_written(ann: Person, settings: Settings) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Replica"]  # there is no such database: reading from it would raise
    assert ann.token().value
    access.forget_all()
    assert ann.token().value
    Membership.objects.using("default").update(role=Role.DEVELOPER)
    assert ann.token().value


# --- versions ---------------------------------------------------------------------------------------------------------


def version(organization: Organization) -> int:
    return Organization.objects.values_list("version", flat=True).get(pk=organization.pk)


@pytest.mark.parametrize("named", [True, False])
def test_rows_that_are_written_over_replace_the_version_of_every_organization(
    acme: Organization, ann: Person, named: bool
) -> None:
    before, membership = version(acme), Membership.objects.get()
    membership.organization = Organization.objects.create(org_id="another")
    unique = None if connection.vendor == "mysql" else ["id"]
    if named:
        Membership.objects.bulk_create(
            [membership], update_conflicts=True, update_fields=["organization"], unique_fields=unique
        )
    else:
        Membership.objects.bulk_create([membership], None, False, True, ["organization"], unique)
    assert version(acme) != before


def test_a_version_and_what_it_is_about_are_committed_together(acme: Organization, ann: Person) -> None:
    before = version(acme)
    with transaction.atomic():
        Membership.objects.get().delete()
        transaction.set_rollback(True)
    assert version(acme) == before
    membership = Membership.objects.get()
    with CaptureQueriesContext(connection) as captured:
        membership.save()
    assert [q["sql"].split()[0] for q in captured][-1] == "COMMIT"
    assert version(acme) != before


def test_only_the_organization_concerned_gets_another_version(
    acme: Organization, globex: Organization, ann: Person
) -> None:
    before = version(acme), version(globex)
    Membership.objects.update(role=Role.DEVELOPER)
    assert version(acme) != before[0]
    assert version(globex) == before[1]


def test_the_use_of_a_key_changes_no_version(acme: Organization, key_grant: MakeGrant) -> None:
    # Otherwise every search with a key invalidates the memo of every process.
    key = key_grant()
    before = version(acme)
    key_usage.record_exchange(key_id=key.pk, ok=True)
    ApiKey.objects.update(last_used_at=timezone.now())
    assert version(acme) == before
    key_usage.record_rejection(key_id=key.pk)
    assert version(acme) != before


def test_versions_do_not_repeat() -> None:
    assert len({new_version() for _ in range(1000)}) == 1000


# --- the memo ---------------------------------------------------------------------------------------------------------


def test_after_a_change_of_the_encryption_key_nothing_is_remembered_that_only_the_old_one_opens(
    ann: Person, settings: Settings
) -> None:
    value = ann.token().value
    settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key(), *settings.PARTIUM_ENCRYPTION_KEYS]
    assert services.reseal(actor=None).failed == []
    settings.PARTIUM_ENCRYPTION_KEYS = settings.PARTIUM_ENCRYPTION_KEYS[:1]
    assert ann.token().value == value


def test_a_memo_forgets_what_was_used_longest_ago() -> None:
    memo: Memo[int] = Memo(2)
    memo.put("a", 1)
    memo.put("b", 2)
    assert memo.get("a") == 1
    memo.put("c", 3)
    assert [memo.get(key) for key in "abc"] == [1, None, 3]


def test_many_threads_use_one_memo() -> None:
    memo: Memo[int] = Memo(8)

    def use(start: int) -> None:
        for n in range(start, start + 2000):
            memo.put(n % 16, n)
            memo.get((n + 7) % 16)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert sum(memo.get(key) is not None for key in range(16)) == 8


def test_a_refresh_writes_no_indexed_column(
    password_grant: MakeGrant, token_manager: TokenManager, settings: Settings
) -> None:
    """PostgreSQL can then make HOT updates, which write to no index (docs/scale.md)."""
    settings.PARTIUM_EXECUTOR = "inline"
    table, grant = Grant._meta.db_table, password_grant()
    expired = age(grant, 0)
    with CaptureQueriesContext(connection) as captured:
        assert token_manager.obtain(expired).generation == 2
    updates = [query["sql"].partition(" WHERE ")[0] for query in captured if query["sql"].startswith("UPDATE")]
    written = {name for sql in updates if table in sql for name in re.findall(r"[\"`](\w+)[\"`] = ", sql)}
    assert {"lease_until", "sent_at", "access_token", "refreshed_at"} <= written
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table).values()
    indexed = {name for one in constraints if one["index"] or one["unique"] for name in one["columns"]}
    assert "created_at" in indexed
    assert not written & indexed
