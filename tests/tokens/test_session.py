"""What a request may have: the checks of every token read, in both modes of reading, and what a read costs."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

import partium_auth
from partium_auth import services
from partium_auth.accounts import sessions
from partium_auth.accounts.sessions import GRANT, ORGANIZATION
from partium_auth.exceptions import (
    KeyRejected,
    LoginRequired,
    NoOrganization,
    NotPermitted,
    NoUsableKey,
    PartiumError,
    TokenUnavailable,
)
from partium_auth.models import ApiKey, Grant, IdentityProvider, Membership, Organization
from partium_auth.partium.token_response import TokenResponse
from partium_auth.services import key_usage
from partium_auth.session import PartiumSession
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import access, grants, lease
from partium_auth.tokens.manager import TokenManager, token_manager
from partium_auth.tokens.verified_login import VerifiedLogin
from tests.tokens.conftest import MovableClock, Person, age, ago, eventually, read

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[..., Person]
MakeGrant = Callable[[], Grant]
SOURCE = Organization.TokenSource


@pytest.fixture
def globex(partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="globex", display_name="Globex")


@pytest.fixture
def corp(partium_sandbox: PartiumSandbox) -> IdentityProvider:
    return IdentityProvider.objects.create(slug="corp", display_name="Corp", issuer="https://corp.example")


def use_keys(organization: Organization, source: SOURCE = SOURCE.API_KEY) -> None:
    services.change_organization(organization, actor=None, token_source=source)


# --- what ends a token, on the very next read -------------------------------------------------------------------------


def withdraw_membership(person: Person) -> None:
    Membership.objects.get(user=person.user).delete()


def deactivate_organization(person: Person) -> None:
    services.change_organization(person.organization, actor=None, is_active=False)


def deactivate_user(person: Person) -> None:
    get_user_model().objects.filter(pk=person.user.pk).update(is_active=False)


def deactivate_provider(person: Person) -> None:
    provider = IdentityProvider.objects.get(slug="corp")
    provider.is_active = False
    services.save_provider(provider, actor=None)


def give_the_provider_to_another_organization(person: Person) -> None:
    # Not with save_provider(), which ends its logins.
    initech = Organization.objects.create(org_id="initech")
    IdentityProvider.objects.filter(slug="corp").update(organization=initech)


def delete_the_provider(person: Person) -> None:
    IdentityProvider.objects.get(slug="corp").delete()


def require_another_provider(person: Person) -> None:
    other = IdentityProvider.objects.create(slug="other", display_name="Other", issuer="https://other.example")
    services.change_organization(person.organization, actor=None, required_provider=other)


def revoke(person: Person) -> None:
    grants.revoke(Grant.objects.all())


def take_tokens_from_keys(person: Person) -> None:
    use_keys(person.organization)


ENDINGS: list[tuple[Callable[[Person], None], type[PartiumError], str]] = [
    (withdraw_membership, NoOrganization, ""),
    (deactivate_organization, NoOrganization, ""),
    (deactivate_user, LoginRequired, ""),
    (deactivate_provider, LoginRequired, ""),
    (give_the_provider_to_another_organization, NoOrganization, ""),
    (delete_the_provider, LoginRequired, ""),
    (require_another_provider, LoginRequired, "other"),
    (revoke, LoginRequired, ""),
    (take_tokens_from_keys, NoUsableKey, ""),
]


@pytest.mark.parametrize(("end", "error", "provider"), ENDINGS, ids=[ending[0].__name__ for ending in ENDINGS])
def test_a_token_ends_on_the_very_next_read(
    acme: Organization,
    corp: IdentityProvider,
    log_in: LogIn,
    end: Callable[[Person], None],
    error: type[PartiumError],
    provider: str,
) -> None:
    person = log_in(acme, kind=Grant.Kind.OIDC, provider="corp")
    assert person.token().value == person.token().value
    end(person)
    with pytest.raises(error) as caught:
        person.token()
    assert getattr(caught.value, "provider", "") == provider


def test_a_deleted_grant_ends_its_session(settings: Settings, acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme)
    Grant.objects.all().delete()
    with pytest.raises(LoginRequired):
        person.token()


def test_a_session_cannot_use_another_persons_grant(acme: Organization, log_in: LogIn) -> None:
    bob, ann = log_in(acme, "bob"), log_in(acme, "ann")
    assert bob.token().value
    request = ann.request()
    assert bob.grant is not None
    request.session[GRANT] = str(bob.grant.pk)
    with pytest.raises(LoginRequired):
        PartiumSession(request).token()


@pytest.mark.parametrize("value", ["nonsense", 7, None, "00000000-0000-4000-8000-000000000000"])
def test_whatever_is_in_the_session_is_no_way_in(
    acme: Organization, globex: Organization, log_in: LogIn, value: Any
) -> None:
    request = log_in(acme).request()
    request.session[GRANT] = value
    with pytest.raises(LoginRequired):
        PartiumSession(request).token()
    request.session[ORGANIZATION] = str(globex.pk)
    with pytest.raises(NoOrganization):
        PartiumSession(request).token()


def test_another_persons_membership_opens_nothing(acme: Organization, globex: Organization, log_in: LogIn) -> None:
    log_in(globex, "bob")
    request = log_in(acme).request()
    request.session[ORGANIZATION] = str(globex.pk)
    with pytest.raises(NoOrganization):
        PartiumSession(request).token()


def test_a_login_at_a_provider_that_is_gone_is_not_one_at_a_site_wide_provider(
    acme: Organization, globex: Organization, corp: IdentityProvider, log_in: LogIn
) -> None:
    # The provider's row says to which organization its logins are bound; without it nobody knows.
    corp.organization = acme
    corp.save()
    person = log_in(acme, kind=Grant.Kind.OIDC, provider="corp")
    Membership.objects.create(user=person.user, organization=globex)
    with pytest.raises(NoOrganization):
        person.partium.switch_organization(globex)
    corp.delete()
    with pytest.raises(LoginRequired):
        person.partium.switch_organization(globex)


def test_a_login_that_has_been_ended_has_no_organization_and_no_key(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant
) -> None:
    # A log-out at the provider ends the session's grant, and the organization's key would go on to serve the session.
    key_grant()
    use_keys(acme)
    person = log_in(acme)
    assert person.token().value
    assert person.grant is not None
    grants.revoke(Grant.objects.filter(pk=person.grant.pk))
    assert person.partium.organization is None
    with pytest.raises(LoginRequired):
        person.token()


def test_a_login_whose_row_was_cleared_away_has_no_key_either(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant
) -> None:
    # partium_clear_grants removes what was revoked.
    key_grant()
    use_keys(acme)
    person = log_in(acme)
    grants.revoke(Grant.objects.exclude(user=None))
    Grant.objects.exclude(user=None).delete()
    with pytest.raises(LoginRequired):
        person.token()


def test_an_organization_that_requires_a_provider_is_open_to_logins_there_and_to_no_other(
    acme: Organization, corp: IdentityProvider, log_in: LogIn, key_grant: MakeGrant
) -> None:
    # With an organization's key a login through another backend needs no grant.
    key_grant()
    use_keys(acme)
    services.change_organization(acme, actor=None, required_provider=corp)
    assert log_in(acme, "ann", kind=Grant.Kind.OIDC, provider="corp").token().value
    for name, kind in (("bob", Grant.Kind.PASSWORD), ("eve", None)):
        with pytest.raises(LoginRequired) as caught:
            log_in(acme, name, kind=kind).token()
        assert caught.value.provider == "corp"


def test_a_login_of_unknown_age_counts_as_an_old_one(acme: Organization, log_in: LogIn, settings: Settings) -> None:
    settings.PARTIUM_REAUTHENTICATE_AFTER = 3600
    person = log_in(acme)
    Grant.objects.update(authenticated_at=None)
    with pytest.raises(LoginRequired):
        person.token()


def test_a_session_without_a_login_of_its_own_has_no_age(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant
) -> None:
    key_grant()
    use_keys(acme)
    partium = log_in(acme, kind=None).partium
    assert partium.login_age_seconds is None
    assert partium.token().value
    assert partium.login_age_seconds is None


def test_an_old_login_has_to_be_made_again(acme: Organization, log_in: LogIn, settings: Settings) -> None:
    person = log_in(acme, kind=Grant.Kind.OIDC, provider="default")
    settings.PARTIUM_REAUTHENTICATE_AFTER = 3600
    assert person.token()
    Grant.objects.update(authenticated_at=0)
    access.forget_all()  # no login gets older by an update
    with pytest.raises(LoginRequired) as caught:
        person.token()
    assert caught.value.provider == "default"


def test_nobody_has_no_token(acme: Organization) -> None:
    from django.contrib.auth.models import AnonymousUser

    request = HttpRequest()
    request.session = SessionStore()
    request.user = AnonymousUser()
    partium = PartiumSession(request)
    assert partium.organization is None
    assert partium.organizations == []
    with pytest.raises(LoginRequired):
        partium.token()


def test_a_login_through_another_backend_has_no_token_of_its_own(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme, kind=None)
    assert person.partium.organization == acme
    with pytest.raises(LoginRequired):
        person.token()


# --- organizations ------------------------------------------------------------------------------------------------------


def test_a_person_switches_and_everything_follows(
    acme: Organization, globex: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox
) -> None:
    # The old client would search in the old organization.
    person = log_in(acme)
    partium_sandbox.add_user("ann", "correct horse", ["acme", "globex"])
    Membership.objects.create(user=person.user, organization=globex)
    request = person.request()
    partium = PartiumSession(request)
    assert partium.organizations == [acme, globex]
    client = partium.client
    client.search(text="fan")
    first = partium.token()
    partium.switch_organization("globex")
    assert request.session.modified
    assert partium.organization == globex
    with pytest.raises(NotPermitted, match="globex"):  # a login at Partium that opens acme alone
        client.search(text="fan")
    assert [call.organization for call in partium_sandbox.calls(endpoint="search")] == ["acme", "globex"]
    second = partium.token()
    assert (first.organization, second.organization) == (acme, globex)
    assert first.value == second.value  # the same login
    request.session.save()
    assert person.partium.organization == globex


def test_nobody_switches_to_what_is_not_open_to_them(
    acme: Organization, globex: Organization, corp: IdentityProvider, log_in: LogIn
) -> None:
    person = log_in(acme)
    for wanted in (globex, "globex", "no such thing"):
        with pytest.raises(NoOrganization):
            person.partium.switch_organization(wanted)
    Membership.objects.create(user=person.user, organization=globex)
    services.change_organization(globex, actor=None, required_provider=corp)
    with pytest.raises(LoginRequired) as caught:
        person.partium.switch_organization(globex)
    assert caught.value.provider == "corp"
    assert person.partium.organization == acme


def test_an_id_token_that_nobody_has_verified_is_not_stored() -> None:
    tokens = TokenResponse("access", "refresh", 600, "from.partium.itself")
    login = VerifiedLogin(
        Grant.Kind.PASSWORD, {}, tokens, timezone.now(), user=get_user_model().objects.create_user("ann")
    )
    grant = grants.open_grant(login, "")
    assert (grant.id_token, grant.signed_with) == (None, "")


def log_in_again(person: Person) -> HttpRequest:
    """A second login in the same session, as a silent one is."""
    request = person.request()
    sessions.begin(request, VerifiedLogin(Grant.Kind.PASSWORD, {}, None, timezone.now(), user=person.user))
    request.session.save()
    return request


def test_a_silent_login_leaves_the_session_in_its_organization(
    acme: Organization, globex: Organization, log_in: LogIn
) -> None:
    person = log_in(acme)
    Membership.objects.create(user=person.user, organization=globex)
    request = person.request()
    PartiumSession(request).switch_organization(globex)
    request.session.save()
    assert PartiumSession(log_in_again(person)).organization == globex
    Membership.objects.filter(organization=globex).delete()
    assert PartiumSession(log_in_again(person)).organization == acme


def test_a_login_without_an_organization_finds_the_one_that_comes_later(
    acme: Organization, globex: Organization, log_in: LogIn
) -> None:
    # The session would stay in what is closed to it.
    person = log_in(acme)
    Membership.objects.all().delete()
    request = log_in_again(person)
    assert PartiumSession(request).organization is None
    Membership.objects.create(user=person.user, organization=globex)
    assert PartiumSession(request).organization == globex


def test_the_end_of_one_login_is_not_the_end_of_another(acme: Organization, log_in: LogIn) -> None:
    ann, bob = log_in(acme, "ann"), log_in(acme, "bob")
    sessions.end(ann.request())
    with pytest.raises(LoginRequired):
        ann.token()
    assert bob.token().value


def test_a_grant_knows_the_session_that_it_belongs_to(acme: Organization, log_in: LogIn) -> None:
    request = log_in(acme).request()
    request.session.flush()
    grant = sessions.begin(request, VerifiedLogin(Grant.Kind.PASSWORD, {}, None, timezone.now(), user=request.user))
    assert grant.session_key is not None
    assert grant.session_key.reveal() == request.session.session_key != ""


# --- keys -----------------------------------------------------------------------------------------------------------------


def test_an_organizations_key_serves_everybody_and_partium_can_tell_them_apart(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    key_grant()
    use_keys(acme)
    ann, bob = log_in(acme, "ann"), log_in(acme, "bob", kind=None)
    assert ann.token().value == bob.token().value
    for person in (ann, bob, ann):
        person.partium.client.search(text="fan")
    assert partium_sandbox.count(endpoint="auth", credential_kind="api_key") == 1
    people = [call.external_user_id for call in partium_sandbox.calls(endpoint="search")]
    assert people[0] == people[2] != people[1]
    assert all(people)


def test_five_hundred_cold_sessions_of_one_organization_make_one_exchange(
    acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # All sessions share the token of the key.
    key_grant()
    use_keys(acme)
    users = get_user_model().objects.bulk_create(get_user_model()(username=f"user{n}") for n in range(500))
    Membership.objects.bulk_create(Membership(user=user, organization=acme) for user in users)

    def obtain(user: Any) -> str:
        request = HttpRequest()
        request.session = SessionStore()
        request.session[ORGANIZATION] = str(acme.pk)
        request.user = user
        try:
            return PartiumSession(request).access_token
        finally:
            connections.close_all()

    with ThreadPoolExecutor(25) as pool:
        assert len(set(pool.map(obtain, users))) == 1
    assert partium_sandbox.count(endpoint="auth") == 1


def test_a_direct_key_is_the_servers_bearer_and_never_the_access_token(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    key = key_grant().api_key
    assert key is not None
    use_keys(acme, SOURCE.API_KEY_DIRECT)
    person = log_in(acme, kind=None)
    person.partium.client.search(text="fan")
    partium_auth.for_organization("acme").search(text="fan")
    assert [call.credential_kind for call in partium_sandbox.calls(endpoint="search")] == ["api_key"] * 2
    assert partium_sandbox.count(endpoint="auth", credential_kind="api_key") == 0
    assert person.token().value != key.secret.reveal()
    assert partium_sandbox.count(endpoint="auth", credential_kind="api_key") == 1


@pytest.mark.parametrize("sync", [True, False])
def test_administration_sees_that_a_direct_key_is_used(
    sync: bool, acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    key = key_grant().api_key
    assert key is not None
    use_keys(acme, SOURCE.API_KEY_DIRECT)

    def search() -> None:
        client = partium_auth.for_organization("acme")
        assert (client.search if sync else async_to_sync(client.asearch))(text="fan").results
        key.refresh_from_db()

    search()
    first = key.last_used_at
    assert first is not None
    search()
    assert key.last_used_at == first, "not written with every search"
    # Partium refused it a while ago, and accepts it again.
    key_usage.record_rejection(key_id=key.pk)
    ApiKey.objects.update(rejected_at=timezone.now() - dt.timedelta(seconds=61))
    search()
    assert key.rejected_at is None
    assert key.last_used_at > first


def test_a_direct_keys_use_is_written_after_the_transaction_that_it_was_in(
    acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    key = key_grant().api_key
    assert key is not None
    use_keys(acme, SOURCE.API_KEY_DIRECT)
    with transaction.atomic():
        partium_auth.for_organization("acme").search(text="fan")
        assert not ApiKey.objects.exclude(last_used_at=None).exists(), "the row would be locked"
    assert ApiKey.objects.exclude(last_used_at=None).exists()


def test_a_script_that_commits_by_hand_searches_with_a_direct_key(
    acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    key_grant()
    use_keys(acme, SOURCE.API_KEY_DIRECT)
    transaction.set_autocommit(False)
    try:
        assert partium_auth.for_organization("acme").search(text="fan").results
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.parametrize("source", [SOURCE.API_KEY, SOURCE.API_KEY_DIRECT])
def test_the_next_key_takes_over_where_one_is_rejected(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, partium_sandbox: PartiumSandbox, source: SOURCE
) -> None:
    key_grant()
    newest = key_grant().api_key
    assert newest is not None
    use_keys(acme, source)
    partium_sandbox.revoke_key(newest.secret.reveal())
    person = log_in(acme, kind=None)
    for _ in range(3):
        assert person.partium.client.search(text="fan").results
    rejected = partium_sandbox.count(credential=newest.secret.reveal())
    assert rejected <= 2  # once, and at most once more where it is searched with directly
    newest.refresh_from_db()
    assert newest.rejected_at is not None


def test_no_key_and_a_rejected_key_are_told_apart(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    use_keys(acme)
    person = log_in(acme, kind=None)
    with pytest.raises(NoUsableKey):
        person.token()
    key = key_grant().api_key
    assert key is not None
    partium_sandbox.revoke_key(key.secret.reveal())
    with pytest.raises(KeyRejected):
        person.token()


def test_a_rotated_key_serves_until_its_overlap_is_over(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    old = key_grant().api_key
    assert old is not None
    use_keys(acme)
    person = log_in(acme, kind=None)
    first = person.token()
    new = services.rotate_key(old, partium_sandbox.add_key("acme"), actor=None)
    second = person.token()
    assert second.value != first.value
    assert second.grant_id == grants.for_key(new.pk).pk
    services.revoke_key(new, actor=None)
    assert person.token().value == first.value  # the old one retires only tomorrow
    services.revoke_key(ApiKey.objects.get(pk=old.pk), actor=None)
    with pytest.raises(NoUsableKey):
        person.token()


def test_a_key_without_a_grant_gets_one_on_first_use(acme: Organization, log_in: LogIn, key_grant: MakeGrant) -> None:
    older = key_grant()
    newer = key_grant()
    Grant.objects.filter(pk=newer.pk).delete()
    use_keys(acme)
    issued = log_in(acme, kind=None).token()
    assert issued.grant_id == newer.pk != older.pk
    assert Grant.objects.get(pk=issued.grant_id).api_key_id == newer.api_key_id


@pytest.mark.parametrize("by_hand", [False, True], ids=["session", "organization"])
def test_a_key_without_a_grant_serves_inside_a_transaction(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, by_hand: bool
) -> None:
    # A grant that the reader makes in its transaction is invisible to the refresh thread and is rolled back when the view fails.
    Grant.objects.filter(pk=key_grant().pk).delete()
    use_keys(acme)
    person = log_in(acme, kind=None)
    with transaction.atomic():
        client = partium_auth.for_organization("acme") if by_hand else person.partium.client
        assert client.search(text="fan").results


@pytest.mark.parametrize("source", [SOURCE.USER, SOURCE.API_KEY])
def test_a_read_looks_at_one_grant_however_many_there_are(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, source: SOURCE
) -> None:
    # A key's grant is read by primary key: by api_key_id, which is NULL in nearly every row, SQLite reads the whole table as
    # soon as somebody has run ANALYZE.
    if connection.vendor != "sqlite":
        pytest.skip("its query planner")
    key_grant()
    use_keys(acme, source)
    person = log_in(acme)
    person.token()  # a key is exchanged here
    access.forget_all()
    Grant.objects.bulk_create(Grant(kind=Grant.Kind.PASSWORD, user=person.user) for _ in range(500))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        with CaptureQueriesContext(connection) as captured:
            person.token()  # the whole query
            person.token()  # and the small one
        plan = []
        for statement in captured:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement['sql']}")
            plan += [row[-1] for row in cursor.fetchall()]
        cursor.execute("DELETE FROM sqlite_stat1")
    table = Grant._meta.db_table
    assert not [step for step in plan if f"SCAN {table}" in step or "SCAN g0" in step or "SCAN g1" in step]
    assert [step for step in plan if f"SEARCH {table}" in step]
    assert [step for step in plan if "SEARCH g0" in step]


# --- a token that Partium refuses ---------------------------------------------------------------------------------------


def test_a_refused_token_is_replaced_once_for_everybody_and_not_served_again(
    acme: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox
) -> None:
    # Otherwise the client sends the remembered token again and again.
    person = log_in(acme)
    person.token()
    refused = person.token()
    partium_sandbox.revoke_token(refused.value)
    assert person.partium.client.search(text="fan").results
    for _ in range(3):
        assert person.partium.client.search(text="fan").results
    assert partium_sandbox.count(endpoint="search", status=401) == 1
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_twenty_simultaneous_refusals_of_one_token_make_one_refresh(
    acme: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox
) -> None:
    # A newer token is used; no refresh is forced.
    person = log_in(acme)
    partium_sandbox.revoke_token(person.token().value)

    def search(_: int) -> int:
        try:
            return len(person.partium.client.search(text="fan").results)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(search, range(20)))
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_a_persistent_refusal_comes_back_after_one_replay(
    acme: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox
) -> None:
    person = log_in(acme)
    partium_sandbox.fail("search", status=401)
    with pytest.raises(PartiumError) as caught:
        person.partium.client.search(text="fan")
    assert getattr(caught.value, "status", None) == 401
    assert (partium_sandbox.count(endpoint="search"), partium_sandbox.count(endpoint="refresh")) == (2, 1)
    with pytest.raises(TokenUnavailable):
        person.partium.client.search(text="fan")
    assert partium_sandbox.count(endpoint="refresh") == 1


# --- what a read costs ----------------------------------------------------------------------------------------------------


def test_a_request_that_does_not_ask_pays_nothing(
    acme: Organization, log_in: LogIn, settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    request = log_in(acme).request()
    with django_assert_num_queries(0):
        partium = PartiumSession(request)
        assert repr(partium) == "<PartiumSession>"


def test_a_request_that_asks_pays_one_query_however_often(
    acme: Organization, log_in: LogIn, settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    partium = log_in(acme).partium
    with django_assert_num_queries(1):
        for _ in range(3):
            assert partium.access_token
            assert partium.organization == acme
            assert partium.client


def test_the_next_request_pays_one_query_that_joins_nothing_but_grants(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme)
    person.token()
    with CaptureQueriesContext(connection) as captured:
        partium = person.partium  # reads the session and the user
        before = len(captured)
        for _ in range(3):
            assert partium.access_token
            assert partium.organization == acme
            assert partium.client
    statements = [query["sql"] for query in captured.captured_queries[before:]]
    assert len(statements) == 1
    assert Membership._meta.db_table not in statements[0]


def test_neither_a_read_nor_a_refresh_writes_the_session(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme)
    stored = Session.objects.get(pk=person.session_key).session_data
    assert person.grant is not None
    age(person.grant, 30)
    request = person.request()
    with CaptureQueriesContext(connection) as captured:
        PartiumSession(request).token()
    eventually(lambda: read(person.grant).generation == 2)
    assert not request.session.modified
    assert not [query for query in captured if "UPDATE" in query["sql"]]
    assert Session.objects.get(pk=person.session_key).session_data == stored


def test_what_has_been_obtained_serves_the_request_until_it_needs_refresh(
    acme: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox
) -> None:
    person = log_in(acme)
    partium = person.partium
    first = partium.token()
    assert partium.token() is first
    assert person.grant is not None
    age(person.grant, 30)
    assert partium.token() is first  # what this request has read was fresh
    assert person.partium.token().generation == 2


def test_a_request_that_lasts_asks_again_when_its_token_is_not_fresh_any_more(
    acme: Organization, log_in: LogIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stream, or a socket, lives longer than a token.
    clock = MovableClock()
    monkeypatch.setattr("partium_auth.session.token_manager", TokenManager(clock=clock))
    partium = log_in(acme).partium
    first = partium.token()
    clock.advance(60)
    assert partium.token() is async_to_sync(partium.atoken)() is first
    clock.advance(490)
    second = async_to_sync(partium.atoken)()
    assert second.generation == 2
    clock.advance(550)
    assert partium.token().generation == 3


def test_the_state_tells_everything_but_the_token(acme: Organization, log_in: LogIn, key_grant: MakeGrant) -> None:
    person = log_in(acme)
    state = person.partium.state()
    assert (state.window, state.lifetime_seconds, state.generation, state.source) == ("fresh", 600, 1, "password")
    assert 590 <= state.seconds_left <= 600
    assert person.grant is not None
    age(person.grant, -60)
    assert person.partium.state().seconds_left == 0
    key_grant()
    use_keys(acme)
    assert person.partium.state().window == "none"


def test_a_grant_that_is_revoked_serves_nothing_while_its_token_is_fresh(
    log_in: LogIn, acme: Organization, key_grant: MakeGrant
) -> None:
    # The row still holds the key's unexpired token.
    use_keys(acme)
    key, person = key_grant(), log_in(acme, kind=None)
    assert person.token().value
    Grant.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    with pytest.raises(NoUsableKey):
        person.token()


def test_a_refused_token_is_not_served_again_because_its_successor_could_not_be_stored(
    log_in: LogIn, acme: Organization, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The row still holds the refused token, and it is fresh by its age.
    person = log_in(acme)
    partium = person.partium
    refused = partium.token()
    gone = threading.Event()
    commit = lease.commit

    def fragile(*args: Any, **kwargs: Any) -> bool:
        if not gone.is_set():
            raise OperationalError("the database has gone away")
        return commit(*args, **kwargs)

    monkeypatch.setattr(lease, "commit", fragile)
    refreshed = partium.replace(refused)
    assert refreshed.value != refused.value
    assert person.token().value == refreshed.value
    gone.set()
    eventually(lambda: not token_manager.refresher.pending)
    assert person.grant is not None
    assert read(person.grant).generation == 2
    assert person.token().value == refreshed.value
    assert partium_sandbox.count(endpoint="refresh") == 1


@pytest.mark.parametrize("end", ["expires_at", "retires_at"])
def test_a_key_that_has_come_to_its_end_serves_nothing(
    log_in: LogIn, acme: Organization, key_grant: MakeGrant, end: str
) -> None:
    use_keys(acme)
    person = log_in(acme, kind=None)
    key = key_grant().api_key
    assert key is not None
    setattr(key, end, timezone.now() + dt.timedelta(minutes=1))
    key.save()
    assert person.token().value
    setattr(key, end, timezone.now() - dt.timedelta(seconds=1))
    key.save()
    with pytest.raises(NoUsableKey):
        person.token()


@pytest.mark.parametrize("name", ["Pacific/Kiritimati", "America/Los_Angeles"])
def test_a_keys_end_is_right_in_a_database_with_a_time_zone_of_its_own(
    settings: Settings, acme: Organization, log_in: LogIn, key_grant: MakeGrant, name: str
) -> None:
    settings.PARTIUM_EXECUTOR = "inline"  # the connection of a refresh thread would keep the time zone for later tests
    use_keys(acme)
    person = log_in(acme, kind=None)
    key = key_grant().api_key
    assert key is not None
    with time_zone_of_the_database(name):
        key.expires_at = timezone.now() + dt.timedelta(minutes=1)
        key.save()
        assert person.token().value
        key.expires_at = timezone.now() - dt.timedelta(minutes=1)
        key.save()
        with pytest.raises(NoUsableKey):
            person.token()


@contextlib.contextmanager
def time_zone_of_the_database(name: str) -> Iterator[None]:
    database = connections[DEFAULT_DB_ALIAS]

    def change(time_zone: str | None) -> None:
        database.close()
        database.settings_dict["TIME_ZONE"] = time_zone
        for cached in ("timezone", "timezone_name"):
            database.__dict__.pop(cached, None)

    before = database.settings_dict["TIME_ZONE"]
    change(name)
    try:
        yield
    finally:
        change(before)


def test_a_key_that_was_verified_serves_before_one_that_was_not_and_one_of_another_organization_never(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant
) -> None:
    use_keys(acme)
    person = log_in(acme, kind=None)
    made = [key_grant() for _ in range(3)]
    for grant, verification in zip(made, ("accepted", "unverified", "wrong_organization"), strict=True):
        assert grant.api_key is not None
        grant.api_key.verification = verification
        grant.api_key.save()
    assert person.token().grant_id == made[0].pk
    services.revoke_key(ApiKey.objects.get(pk=made[0].pk), actor=None)
    assert person.token().grant_id == made[1].pk
    services.revoke_key(ApiKey.objects.get(pk=made[1].pk), actor=None)
    with pytest.raises(KeyRejected):
        person.token()


def test_a_key_that_retires_serves_after_an_older_one_that_does_not(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant
) -> None:
    use_keys(acme)
    older, newer = key_grant(), key_grant()
    assert newer.api_key is not None
    newer.api_key.status = ApiKey.Status.RETIRING
    newer.api_key.save()
    assert log_in(acme, kind=None).token().grant_id == older.pk


def test_a_key_that_was_refused_serves_first_again_when_it_may_be_tried_again(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, settings: Settings
) -> None:
    # Otherwise the process remembers a refusal until the next refresh.
    use_keys(acme)
    person = log_in(acme, kind=None)
    key_grant()
    newest = key_grant()
    assert person.token().grant_id == newest.pk
    Grant.objects.filter(pk=newest.pk).update(rejected_at=timezone.now(), next_attempt_at=ago(1))
    assert person.token().grant_id == newest.pk


def test_the_token_of_a_key_that_partium_refuses_gives_way_while_it_is_fresh(
    log_in: LogIn, acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # The refused key's token is still fresh by its age.
    use_keys(acme)
    person = log_in(acme, kind=None)
    other = key_grant()
    newest = key_grant()
    assert newest.api_key is not None
    partium = person.partium
    refused = partium.token()
    assert refused.grant_id == newest.pk
    partium_sandbox.revoke_key(newest.api_key.secret.reveal())
    assert partium.replace(refused).grant_id == other.pk
    Grant.objects.filter(pk=newest.pk).update(rejected_at=timezone.now())
    assert person.token().grant_id == other.pk


def test_a_client_without_a_request_costs_two_queries_however_many_keys_there_are(
    acme: Organization, key_grant: MakeGrant, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    use_keys(acme)
    for _ in range(3):
        key_grant()
    client = partium_auth.for_organization("acme")
    assert client.search(text="fan").results
    with django_assert_num_queries(2):
        assert client.search(text="fan").results


def test_an_aging_token_costs_no_more_than_a_fresh_one_while_somebody_refreshes_it(
    log_in: LogIn, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    person = log_in(acme)
    assert person.grant is not None
    age(person.grant, 100)
    rows = Grant.objects.filter(pk=person.grant.pk)
    rows.update(lease_until=timezone.now() + dt.timedelta(seconds=20))
    partium = person.partium
    with CaptureQueriesContext(connection) as caught:
        assert partium.token().value
    assert len(caught) == 1
    assert partium_sandbox.count(endpoint="refresh") == 0
    rows.update(lease_until=None)
    assert person.token().value
    eventually(lambda: partium_sandbox.count(endpoint="refresh") == 1)
