"""Organizations, memberships and invitations."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from partium_auth import policy
from partium_auth.models import Identity, Invitation, Membership, Organization, Role
from partium_auth.models.identities import identity_digest
from partium_auth.services import members, organizations

Person = Callable[..., Any]


def identity(user: Any, subject: str = "s") -> Identity:
    issuer = "https://login.example.com"
    return Identity.objects.create(issuer=issuer, subject=subject, digest=identity_digest(issuer, subject), user=user)


def roles(user: Any) -> set[tuple[str, str, str]]:
    rows = Membership.objects.filter(user=user)
    return set(rows.values_list("organization__org_id", "role", "origin"))


def in_thread(work: Callable[[], object], outcome: list[Any]) -> threading.Thread:
    """Start work on a connection of its own; what it returns or raises goes into ``outcome``."""

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001  # what it was is for the test to say
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_only_operators_write_organizations(acme: Organization, person: Person) -> None:
    for actor in (person("dev", acme), person("staff", is_staff=True)):
        with pytest.raises(PermissionDenied):
            organizations.add_organization("new", actor=actor)
        with pytest.raises(PermissionDenied):
            organizations.change_organization(acme, actor=actor, token_source="api_key")
        with pytest.raises(PermissionDenied):
            members.add_member(acme, actor, actor=actor, role=Role.DEVELOPER)
    assert Organization.objects.get() == acme
    assert Organization.objects.get().token_source == "user"


def test_organizations_are_checked_and_their_id_is_fixed(acme: Organization) -> None:
    with pytest.raises(ValidationError):
        organizations.add_organization("acme", actor=None)
    with pytest.raises(ValidationError):
        organizations.change_organization(acme, actor=None, token_source="nonsense")
    with pytest.raises(TypeError, match="org_id"):
        organizations.change_organization(acme, actor=None, org_id="other")


def test_developers_manage_members_only_where_the_site_says_so(
    acme: Organization, person: Person, settings: Settings
) -> None:
    dev, member = person("dev", acme), person("member", acme, Role.MEMBER)
    for allowed in (False, True):
        settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = allowed
        if allowed:
            members.invite(acme, "a@example.com", actor=dev)
            members.remove_member(acme, member, actor=dev)
        else:
            with pytest.raises(PermissionDenied):
                members.invite(acme, "a@example.com", actor=dev)
            with pytest.raises(PermissionDenied):
                members.remove_member(acme, member, actor=dev)
    assert roles(member) == set()


def test_an_invitation_becomes_a_membership_once(acme: Organization, person: Person) -> None:
    members.invite(acme, " New@Example.com", role=Role.DEVELOPER, actor=None)
    user, other = person("new"), person("other")
    assert members.accept_invitations(other, "else@example.com") == []
    (membership,) = members.accept_invitations(user, "NEW@example.com ")
    assert (membership.organization, membership.role) == (acme, Role.DEVELOPER)
    assert members.accept_invitations(other, "new@example.com") == []
    assert Invitation.objects.get().accepted_by == user


def test_a_lookalike_address_accepts_nothing(acme: Organization, person: Person) -> None:
    members.invite(acme, "jose@example.com", actor=None)
    assert members.accept_invitations(person("x"), "josé@example.com") == []


def test_a_provider_of_one_organization_accepts_no_other_ones_invitation(
    acme: Organization, globex: Organization, person: Person
) -> None:
    members.invite(acme, "new@example.com", actor=None)
    user = person("new")
    assert members.accept_invitations(user, "new@example.com", only=globex) == []
    assert len(members.accept_invitations(user, "new@example.com", only=acme)) == 1


def test_expired_invitations_and_closed_organizations_are_not_accepted(acme: Organization, person: Person) -> None:
    user, invitation = person("new"), members.invite(acme, "new@example.com", actor=None)
    Invitation.objects.update(expires_at=timezone.now())
    assert members.accept_invitations(user, "new@example.com") == []
    Invitation.objects.update(expires_at=invitation.expires_at)
    organizations.change_organization(acme, actor=None, is_active=False)
    assert members.accept_invitations(user, "new@example.com") == []


def test_an_invitation_never_lowers_a_role(acme: Organization, person: Person) -> None:
    user = person("dev")
    members.add_member(acme, user, role=Role.DEVELOPER, actor=None)
    members.invite(acme, "dev@example.com", actor=None)
    members.accept_invitations(user, "dev@example.com")
    assert roles(user) == {("acme", "developer", "admin")}


def test_inviting_again_extends_the_invitation(acme: Organization) -> None:
    first = members.invite(acme, "a@example.com", actor=None, valid_for=dt.timedelta(days=1))
    second = members.invite(acme, "A@example.com", role=Role.DEVELOPER, actor=None)
    assert Invitation.objects.get() == first == second
    assert second.role == Role.DEVELOPER
    assert second.expires_at > first.expires_at


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "two@example.com,three@example.com"])
def test_what_is_no_address_is_refused(email: str, acme: Organization) -> None:
    with pytest.raises(ValidationError):
        members.invite(acme, email, actor=None)


def test_claims_give_change_and_take_away_and_leave_the_rest(
    acme: Organization, globex: Organization, person: Person
) -> None:
    user = person("u")
    mine, other = identity(user), identity(user, "other")
    members.add_member(globex, user, actor=None)
    members.set_claimed_memberships(mine, {acme: Role.DEVELOPER, globex: Role.MEMBER})
    assert roles(user) == {
        ("acme", "developer", "claims"),
        ("globex", "member", "claims"),
        ("globex", "member", "admin"),
    }
    members.set_claimed_memberships(mine, {acme: Role.MEMBER})
    assert roles(user) == {("acme", "member", "claims"), ("globex", "member", "admin")}
    members.set_claimed_memberships(other, {acme: Role.MEMBER})  # now it is this one's
    members.set_claimed_memberships(mine, {})
    assert roles(user) == {("acme", "member", "claims"), ("globex", "member", "admin")}
    members.set_claimed_memberships(other, {})
    assert roles(user) == {("globex", "member", "admin")}


def test_removing_takes_every_origin(acme: Organization, person: Person) -> None:
    user = person("u", acme)
    members.add_member(acme, user, actor=None)
    assert members.remove_member(acme, user, actor=None) == 2
    assert roles(user) == set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time")
def test_a_member_who_is_just_being_removed_is_made_one_anew(acme: Organization, person: Person) -> None:
    """By a login that accepts an invitation, say, which would end in an error otherwise."""
    member = person("member")
    members.add_member(acme, member, actor=None)
    outcome: list[Any] = []
    with transaction.atomic():
        members.remove_member(acme, member, actor=None)
        second = in_thread(lambda: members.add_member(acme, member, role=Role.DEVELOPER, actor=None), outcome)
        second.join(0.5)
        assert second.is_alive()  # it waits
    second.join(60)
    assert outcome
    assert roles(member) == {("acme", "developer", "admin")}


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time")
def test_of_two_developers_who_remove_each_other_one_stays(
    acme: Organization, person: Person, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    ann, bob, outcome = person("ann", acme), person("bob", acme), list[Any]()
    with transaction.atomic():
        members.remove_member(acme, bob, actor=ann)
        second = in_thread(lambda: members.remove_member(acme, ann, actor=bob), outcome)
        second.join(0.5)
        assert second.is_alive()  # it waits
    second.join(60)
    assert isinstance(outcome[0], PermissionDenied)
    assert roles(ann) == {("acme", "developer", "claims")}


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time")
@pytest.mark.parametrize("is_member", [False, True])
def test_an_invitation_that_is_just_being_accepted_is_not_opened_again(
    acme: Organization, person: Person, is_member: bool
) -> None:
    """Nor do the two wait for each other: the database would end one of them, and the login in an error page."""
    first = members.invite(acme, "ann@example.com", actor=None)
    ann, outcome = person("ann"), list[Any]()
    if is_member:
        members.add_member(acme, ann, actor=None)
    with transaction.atomic():  # the one of the login
        members.accept_invitations(ann, "ann@example.com")
        second = in_thread(lambda: members.invite(acme, "ann@example.com", actor=None), outcome)
        second.join(0.5)
    second.join(60)
    (again,) = outcome
    assert isinstance(again, Invitation), again
    assert again != first
    first.refresh_from_db()
    assert first.accepted_by == ann


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time")
def test_an_invitation_that_is_just_being_extended_is_accepted_as_it_becomes(
    acme: Organization, person: Person
) -> None:
    members.invite(acme, "ann@example.com", actor=None)
    ann, outcome = person("ann"), list[Any]()
    with transaction.atomic():
        members.invite(acme, "ann@example.com", role=Role.DEVELOPER, actor=None)
        second = in_thread(lambda: members.accept_invitations(ann, "ann@example.com"), outcome)
        second.join(0.5)
        assert second.is_alive()  # it waits
    second.join(60)
    assert roles(ann) == {("acme", "developer", "admin")}, outcome


@pytest.fixture
def dev(acme: Organization, person: Person, settings: Settings) -> Any:
    """A developer of acme by claims, who may invite."""
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    return person("dev", acme)


def lose_role(user: Any, acme: Organization, settings: Settings) -> None:
    Membership.objects.filter(user=user).update(role=Role.MEMBER)


def lose_membership(user: Any, acme: Organization, settings: Settings) -> None:
    Membership.objects.filter(user=user).delete()


def lose_account(user: Any, acme: Organization, settings: Settings) -> None:
    user.delete()


def be_deactivated(user: Any, acme: Organization, settings: Settings) -> None:
    user.is_active = False
    user.save()


def lose_permission(user: Any, acme: Organization, settings: Settings) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = False


@pytest.mark.parametrize("lose", [lose_role, lose_membership, lose_account, be_deactivated, lose_permission])
def test_an_invitation_is_worth_what_its_inviter_may_do_now(
    lose: Callable[..., None], acme: Organization, dev: Any, person: Person, settings: Settings
) -> None:
    members.invite(acme, "second@example.com", role=Role.DEVELOPER, actor=dev)
    lose(dev, acme, settings)
    assert members.accept_invitations(person("second"), "second@example.com") == []


def test_nobody_invites_an_address_of_their_own(acme: Organization, dev: Any) -> None:
    issuer = "https://api.partium.io"
    Identity.objects.create(issuer=issuer, subject="Dev@Partium.example", digest="d", user=dev)
    for own in ("Dev@Example.com", "dev@partium.example"):
        with pytest.raises(ValidationError, match="your own"):
            members.invite(acme, own, actor=dev)


def test_removal_and_demotion_withdraw_invitations_by_and_for_the_person(
    acme: Organization, globex: Organization, person: Person, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    for number, end in enumerate(("remove", "demote", "claims")):
        user = person(f"u{number}")
        members.add_member(acme, user, role=Role.DEVELOPER, actor=None)
        if end == "claims":
            Membership.objects.filter(user=user).delete()
            members.set_claimed_memberships(identity(user), {acme: Role.DEVELOPER})
        members.invite(acme, f"friend{number}@example.com", role=Role.DEVELOPER, actor=user)
        members.invite(acme, f"u{number}@example.com", role=Role.DEVELOPER, actor=None)
        kept = members.invite(globex, f"u{number}@example.com", actor=None)
        if end == "remove":
            members.remove_member(acme, user, actor=None)
        elif end == "demote":
            members.add_member(acme, user, actor=None)
        else:
            members.set_claimed_memberships(Identity.objects.get(), {acme: Role.MEMBER})
        assert list(Invitation.objects.filter(accepted_at=None)) == [kept], end
        kept.delete()


def test_who_changes_members_reads_where_it_is_written(
    acme: Organization, dev: Any, person: Person, settings: Settings
) -> None:
    ann = person("ann")
    settings.DATABASE_ROUTERS = ["tests.tokens.test_reads.Replica"]  # whoever reads there gets an error
    for role in (Role.DEVELOPER, Role.MEMBER):
        members.add_member(acme, ann, role=role, actor=None)
    for _again in "ab":
        members.invite(acme, "bob@example.com", actor=dev)
    members.accept_invitations(ann, "bob@example.com")
    members.leave_organization(acme, actor=ann)
    assert policy.has_developer(acme)
    members.remove_member(acme, dev, actor=dev)
    assert not policy.has_developer(acme)
    assert not policy.memberships_by_joining(dev)
    ann.delete()


@pytest.mark.parametrize("typed", ["victor@example.com", "Victor@example.com"])
def test_a_partium_user_name_accepts_its_own_invitation_only(typed: str, acme: Organization, person: Person) -> None:
    members.invite(acme, typed, actor=None)
    assert members.accept_invitations(person("a"), "VICTOR@example.com", exactly=True) == []
    assert len(members.accept_invitations(person("b"), typed, exactly=True)) == 1


@pytest.mark.parametrize(
    ("invited", "lookalike"),
    [
        ("k@example.com", "\u212a@example.com"),
        ("paul@example.com", "\uff50aul@example.com"),
        ("paul@example.com", "pa\u200bul@example.com"),
        ("paul@example.com", "p\u0430ul@example.com"),  # a Cyrillic letter
    ],
)
def test_an_address_that_normalization_changes_is_nobodys(
    invited: str, lookalike: str, acme: Organization, person: Person
) -> None:
    members.invite(acme, invited, actor=None)
    assert members.accept_invitations(person("x"), lookalike) == []
    with pytest.raises(ValidationError):
        members.invite(acme, lookalike, actor=None)


@pytest.mark.parametrize("name", ["Acme\u202egnp", "Ac\u200bme", "\u3164", "\u0430cme", "The Acm\u03b5", "ACM\u0415"])
def test_names_of_organizations_look_like_no_others(name: str, acme: Organization) -> None:
    with pytest.raises(ValidationError):
        organizations.change_organization(acme, actor=None, display_name=name)
    with pytest.raises(ValidationError):
        organizations.add_organization(name, actor=None)


@pytest.mark.parametrize(
    "name", ["Завод Acme", "Αθήνα 2", "ABC株式会社", "Müller & Söhne", "50 µm", "Ω-Tech", "ＡＢＣ工場", "حافة"]
)
def test_names_in_any_language_are_names(name: str, acme: Organization) -> None:
    organizations.change_organization(acme, actor=None, display_name=name)
