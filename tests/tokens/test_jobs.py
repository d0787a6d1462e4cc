"""Clients without a request: for an organization, and for a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

import partium_auth
from partium_auth import services
from partium_auth.clients import external_user_id
from partium_auth.exceptions import (
    ConnectionFailed,
    KeyRejected,
    LoginRequired,
    NoOrganization,
    NotPermitted,
    NoUsableKey,
    PartiumError,
    TokenUnavailable,
    UnexpectedResponse,
)
from partium_auth.models import Grant, IdentityProvider, Membership, Organization
from partium_auth.partium.client import FindClient
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.testing.sandbox.calls import Call
from partium_auth.tokens import grants
from partium_auth.tokens.manager import token_manager
from tests.tokens.conftest import Person, age, let_time_pass

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[..., Person]
MakeGrant = Callable[[], Grant]
Act = Callable[..., None]
SOURCE = Organization.TokenSource


def act(make: Callable[..., FindClient], *args: Any, **kwargs: Any) -> None:
    assert make(*args, **kwargs).search(text="fan").results


def act_async(make: Callable[..., FindClient], *args: Any, **kwargs: Any) -> None:
    twin = getattr(partium_auth, f"a{make.__name__}")

    async def search() -> None:
        client = await twin(*args, **kwargs)
        assert (await client.asearch(text="fan")).results

    async_to_sync(search)()


@pytest.fixture(params=[act, act_async], ids=["sync", "async"])
def search(request: pytest.FixtureRequest) -> Act:
    made: Act = request.param
    return made


def use(organization: Organization, source: SOURCE) -> None:
    services.change_organization(organization, actor=None, token_source=source)


def last_search(sandbox: PartiumSandbox) -> Call:
    return sandbox.calls(endpoint="search")[-1]


# --- for an organization ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCE)
def test_a_job_of_an_organization_may_act_for_a_person(
    acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox, search: Act, source: SOURCE
) -> None:
    key_grant()
    use(acme, source)
    ann = get_user_model().objects.create(username="ann")
    search(partium_auth.for_organization, "acme")
    assert last_search(partium_sandbox).external_user_id is None
    search(partium_auth.for_organization, "acme", user=ann)
    assert last_search(partium_sandbox).external_user_id == external_user_id(ann.pk)


def test_partium_knows_a_person_in_a_job_by_the_same_id_as_in_a_session(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    key_grant()
    use(acme, SOURCE.API_KEY)
    person = log_in(acme, kind=None)
    person.partium.client.search(text="fan")
    in_a_session = last_search(partium_sandbox).external_user_id
    assert in_a_session
    for client in (
        partium_auth.for_organization("acme", user=person.user),
        partium_auth.for_user(person.user, organization="acme"),
    ):
        client.search(text="fan")
        assert last_search(partium_sandbox).external_user_id == in_a_session


def test_people_who_are_not_stored_would_all_be_the_same_person(acme: Organization) -> None:
    with pytest.raises(ValueError, match="primary key"):
        partium_auth.for_organization("acme", user=AnonymousUser())  # type: ignore[arg-type]


def test_an_organization_is_taken_where_its_id_is(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, search: Act
) -> None:
    key_grant()
    person = log_in(acme)
    search(partium_auth.for_organization, acme)
    search(partium_auth.for_user, person.user, acme)
    services.change_organization(acme, actor=None, is_active=False)
    acme.is_active = True  # what the caller holds is old
    for make in (partium_auth.for_organization, lambda it: partium_auth.for_user(person.user, it)):
        with pytest.raises(NoOrganization, match="'acme'"):
            make(acme)


# --- for a person ----------------------------------------------------------------------------------------------------------


def test_a_job_of_a_person_uses_their_newest_living_login(acme: Organization, log_in: LogIn, search: Act) -> None:
    older, newer = log_in(acme), log_in(acme)
    rejected, ended = log_in(acme), log_in(acme)
    log_in(acme, "bob")
    assert older.grant
    assert newer.grant
    assert rejected.grant
    assert ended.grant
    Grant.objects.filter(pk=rejected.grant.pk).update(rejected_at=timezone.now())
    grants.revoke(Grant.objects.filter(pk=ended.grant.pk))
    for grant in (older.grant, newer.grant):
        age(grant, 5)  # a search refreshes the one that it uses
    search(partium_auth.for_user, older.user, organization="acme")
    generations = dict(Grant.objects.values_list("pk", "generation"))
    assert (generations[older.grant.pk], generations[newer.grant.pk]) == (1, 2)


def test_a_job_reads_the_persons_logins_with_one_query_however_many_they_have(
    acme: Organization, log_in: LogIn, django_assert_num_queries: Any
) -> None:
    corp = IdentityProvider.objects.create(slug="corp", display_name="Corp", issuer="https://corp.example")
    services.change_organization(acme, actor=None, required_provider=corp)
    wanted = log_in(acme, kind=Grant.Kind.OIDC, provider="corp")
    for _ in range(5):
        log_in(acme)  # not at the provider that the organization requires
    with django_assert_num_queries(3):  # the person, the organization, the logins
        partium_auth.for_user(wanted.user, "acme")


def test_a_job_that_goes_on_changes_to_another_login_when_its_own_ends(
    acme: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox
) -> None:
    older, newer = log_in(acme), log_in(acme)
    client = partium_auth.for_user(older.user, "acme")
    client.search(text="fan")
    first = last_search(partium_sandbox).credential
    assert newer.grant is not None
    grants.revoke(Grant.objects.filter(pk=newer.grant.pk))
    client.search(text="fan")
    assert last_search(partium_sandbox).credential != first
    grants.revoke(Grant.objects.all())
    with pytest.raises(LoginRequired, match="'acme'"):
        client.search(text="fan")


def test_a_persons_own_login_needs_no_other_id(
    acme: Organization, log_in: LogIn, partium_sandbox: PartiumSandbox, search: Act
) -> None:
    person = log_in(acme)
    search(partium_auth.for_user, person.user, "acme")
    call = last_search(partium_sandbox)
    assert (call.organization, call.credential_kind, call.external_user_id) == ("acme", "access_token", None)


@pytest.mark.parametrize(("source", "kind"), [(SOURCE.API_KEY, "access_token"), (SOURCE.API_KEY_DIRECT, "api_key")])
def test_where_keys_serve_the_person_needs_no_login(
    acme: Organization,
    log_in: LogIn,
    key_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    search: Act,
    source: SOURCE,
    kind: str,
) -> None:
    key_grant()
    use(acme, source)
    person = log_in(acme, kind=None)
    search(partium_auth.for_user, person.user, "acme")
    call = last_search(partium_sandbox)
    assert (call.credential_kind, call.external_user_id) == (kind, external_user_id(person.user.pk))


def test_who_has_no_login_has_to_log_in(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme, kind=None)
    log_in(acme, "bob")  # another person's login is of no use
    with pytest.raises(LoginRequired, match="'acme'"):
        partium_auth.for_user(person.user, "acme")


def test_a_login_that_the_organization_does_not_accept_is_passed_over(acme: Organization, log_in: LogIn) -> None:
    corp = IdentityProvider.objects.create(slug="corp", display_name="Corp", issuer="https://corp.example")
    wanted = log_in(acme, kind=Grant.Kind.OIDC, provider="corp")
    log_in(acme)
    services.change_organization(acme, actor=None, required_provider=corp)
    partium_auth.for_user(wanted.user, "acme").search(text="fan")
    assert wanted.grant is not None
    grants.revoke(Grant.objects.filter(pk=wanted.grant.pk))
    with pytest.raises(LoginRequired) as caught:
        partium_auth.for_user(wanted.user, "acme")
    assert caught.value.provider == "corp"


def leave(person: Person) -> None:
    Membership.objects.filter(user=person.user).delete()


def deactivate(person: Person) -> None:
    get_user_model().objects.filter(pk=person.user.pk).update(is_active=False)


def delete(person: Person) -> None:
    get_user_model().objects.filter(pk=person.user.pk).delete()


def close(person: Person) -> None:
    services.change_organization(person.organization, actor=None, is_active=False)


@pytest.mark.parametrize("source", SOURCE)
@pytest.mark.parametrize("end", [leave, deactivate, delete, close])
def test_a_job_stops_with_the_next_call_when_the_person_may_not_any_more(
    acme: Organization, log_in: LogIn, key_grant: MakeGrant, end: Callable[[Person], None], source: SOURCE
) -> None:
    key_grant()
    use(acme, source)
    person = log_in(acme)
    client = partium_auth.for_user(person.user, "acme")
    assert client.search(text="fan").results
    end(person)
    with pytest.raises(NoOrganization, match="'acme'"):
        client.search(text="fan")
    with pytest.raises(NoOrganization, match="'acme'"):
        async_to_sync(client.asearch)(text="fan")


# --- what a log shows ------------------------------------------------------------------------------------------------------


def test_a_client_shows_whom_it_acts_for_and_no_secret(acme: Organization, log_in: LogIn) -> None:
    person = log_in(acme)
    assert repr(partium_auth.for_organization("acme")) == "<FindClient of organization 'acme'>"
    in_acme = f"<FindClient of user {person.user.pk} in organization 'acme'>"
    assert repr(partium_auth.for_organization(acme, user=person.user)) == in_acme
    assert repr(partium_auth.for_user(person.user, acme)) == in_acme
    assert repr(person.partium.client) == "<FindClient of a session>"


def test_every_error_of_a_job_names_the_organization(
    acme: Organization, key_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    client = partium_auth.for_organization("acme")

    def error() -> PartiumError:
        with pytest.raises(PartiumError) as caught:
            client.search(text="fan")
        assert str(caught.value).count("'acme'") == 1
        with pytest.raises(type(caught.value), match="'acme'"):
            async_to_sync(client.asearch)(text="fan")
        return caught.value

    assert isinstance(error(), NoUsableKey)
    key = key_grant().api_key
    assert key is not None
    with partium_sandbox.fail("auth", status=503):
        assert isinstance(error(), TokenUnavailable)
    let_time_pass()
    token_manager.forget()
    with partium_sandbox.fail("search", status=403):
        assert isinstance(error(), NotPermitted)
    with partium_sandbox.fail("search", status=200, body="<p>maintenance</p>"):
        assert isinstance(error(), UnexpectedResponse)
    with partium_sandbox.drop("search"):
        assert isinstance(error(), ConnectionFailed)
    partium_sandbox.revoke_key(key.secret.reveal())
    Grant.objects.update(issued_at=0)
    assert isinstance(error(), KeyRejected)
