"""Which events the services record of people, invitations, organizations, providers and logins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied

from partium_auth.models import AuditEvent, Grant, Identity, IdentityProvider, Organization, Role
from partium_auth.models.identities import identity_digest
from partium_auth.policy import SessionActor
from partium_auth.services import delete_provider, erasure, members, organizations, revoke_grants, save_provider

Person = Callable[..., Any]
HERE = "192.0.2.7"
INVITED = "bob@example.com"


@pytest.fixture
def root(person: Person) -> Any:
    return SessionActor(person("root", is_superuser=True), None, address=HERE)


def recorded() -> list[tuple[str, str, str, str, str | None, str]]:
    """Return what, about whom, detail, by whom, from where, in which organization; the oldest first."""
    return [
        (
            event.action,
            event.person_name,
            event.detail,
            event.actor_name,
            event.address,
            event.organization.org_id if event.organization else "",
        )
        for event in AuditEvent.objects.order_by("pk")
    ]


def identity_of(user: Any, subject: str = "s") -> Identity:
    issuer = "https://login.example.com"
    return Identity.objects.create(issuer=issuer, subject=subject, digest=identity_digest(issuer, subject), user=user)


def test_memberships_and_roles_that_an_operator_gives(acme: Organization, person: Person, root: Any) -> None:
    ann, developer = person("ann"), str(Role.DEVELOPER)
    for role in (Role.MEMBER, Role.MEMBER, developer):
        members.add_member(acme, ann, actor=root, role=role)
    members.remove_member(acme, ann, actor=root)
    members.remove_member(acme, ann, actor=root)
    by_root = ("root", HERE, "acme")
    assert recorded() == [
        ("member_added", "ann", "Role: member, given by an administrator.", *by_root),
        ("role_changed", "ann", "Role: developer, before: member, given by an administrator.", *by_root),
        ("member_removed", "ann", "Role: developer, given by an administrator.", *by_root),
    ]


def test_memberships_and_roles_that_claims_give(acme: Organization, person: Person) -> None:
    identity = identity_of(person("ann"))
    for roles in ({acme: "member"}, {acme: "member"}, {acme: "developer"}, {}, {}):
        members.set_claimed_memberships(identity, roles)
    by_login = ("", None, "acme")
    assert recorded() == [
        ("member_added", "ann", "Role: member, given by login.", *by_login),
        ("role_changed", "ann", "Role: developer, before: member, given by login.", *by_login),
        ("member_removed", "ann", "Role: developer, given by login.", *by_login),
    ]


def test_a_membership_that_another_identity_takes_over_is_no_event(acme: Organization, person: Person) -> None:
    ann = person("ann")
    members.set_claimed_memberships(identity_of(ann), {acme: "member"})
    members.set_claimed_memberships(identity_of(ann, "other"), {acme: "member"})
    assert [event[0] for event in recorded()] == ["member_added"]


def test_invitations_that_are_made_extended_withdrawn_and_accepted(
    acme: Organization, person: Person, root: Any
) -> None:
    members.invite(acme, INVITED, actor=root)
    members.withdraw_invitation(
        members.invite(acme, "Bob@example.com", actor=root, role=Role.DEVELOPER),
        actor=root,
    )
    accepted = members.invite(acme, INVITED, actor=root)
    bob = person("bob")
    members.accept_invitations(SessionActor(bob, None, address=HERE), INVITED)
    accepted.refresh_from_db()
    members.withdraw_invitation(accepted, actor=root)  # only removes it from the list
    by_root, by_bob = ("root", HERE, "acme"), ("bob", HERE, "acme")
    assert recorded() == [
        ("invitation_made", INVITED, "Role: member.", *by_root),
        ("invitation_made", INVITED, "Role: developer.", *by_root),
        ("invitation_withdrawn", INVITED, "Role: developer.", *by_root),
        ("invitation_made", INVITED, "Role: member.", *by_root),
        ("invitation_accepted", INVITED, "Role: member.", *by_bob),
        ("member_added", "bob", "Role: member, given by an administrator.", *by_bob),
    ]


def test_an_invitation_that_is_declined(acme: Organization, person: Person) -> None:
    invitation, bob = members.invite(acme, INVITED, actor=None), person("bob")
    members.accept_invitations(bob, INVITED)
    invitation.refresh_from_db()
    members.decline_invitation(invitation, actor=SessionActor(bob, None, address=HERE))
    by_bob = ("bob", HERE, "acme")
    assert recorded()[3:] == [
        ("member_removed", "bob", "Role: member, given by an administrator.", *by_bob),
        ("invitation_declined", INVITED, "Role: member.", *by_bob),
    ]
    erasure.erase_person(bob, actor=None)
    assert not AuditEvent.objects.exclude(person_name="").exists()


def test_invitations_that_end_with_a_right(acme: Organization, person: Person, root: Any) -> None:
    ann = person("ann", acme)
    members.invite(acme, INVITED, actor=root)
    members.invite(acme, "ann@example.com", actor=root)
    members.remove_member(acme, ann, actor=root)
    assert recorded()[2:] == [
        ("member_removed", "ann", "Role: developer, given by login.", "root", HERE, "acme"),
        ("invitation_withdrawn", "ann@example.com", "Role: member.", "root", HERE, "acme"),
    ]


def test_what_ends_with_an_account(acme: Organization, person: Person, root: Any) -> None:
    ann = person("ann", is_superuser=True)
    members.add_member(acme, ann, actor=root, role=Role.DEVELOPER)
    members.invite(acme, INVITED, actor=ann)
    ann_id = str(ann.pk)
    ann.delete()
    by_the_system = ("", None, "acme")
    assert recorded()[2:4] == [
        ("member_removed", "", "Role: developer, given by an administrator.", *by_the_system),
        ("invitation_withdrawn", INVITED, "Role: member.", *by_the_system),
    ]
    assert AuditEvent.objects.get(action="member_removed").person_id == ann_id


def test_organizations_that_are_added_and_changed(root: Any) -> None:
    acme = organizations.add_organization("acme", actor=root)
    values: dict[str, Any] = {"display_name": "", "token_source": "api_key", "is_active": False}
    organizations.change_organization(acme, actor=root, **values)
    organizations.change_organization(acme, actor=root, **values)
    assert recorded() == [
        ("organization_added", "", "", "root", HERE, "acme"),
        (
            "organization_changed",
            "",
            (
                "Changed: active: yes → no; access tokens come from: each person's own login → the organization's API "
                "key, exchanged for access tokens."
            ),
            *("root", HERE, "acme"),
        ),
    ]
    assert AuditEvent.objects.order_by("pk").last().detail_parameters == {  # type: ignore[union-attr]
        "changes": {"token_source": ["user", "api_key"], "is_active": [True, False]}
    }


def test_providers_that_are_added_changed_and_deleted(acme: Organization, root: Any) -> None:
    provider = IdentityProvider(slug="acme", display_name="Acme", issuer="https://login.acme.example", client_id="c")
    provider.organization = acme
    save_provider(provider, actor=root, client_secret="first-secret-value")
    save_provider(provider, actor=root)
    provider.is_active, provider.scopes, provider.extra_parameters = False, "openid", {"secret": "parameter-value"}
    save_provider(provider, actor=root, client_secret="other-secret-value")
    delete_provider(provider, actor=root)
    assert recorded() == [
        ("provider_added", "", "Identity provider acme.", "root", HERE, "acme"),
        (
            "provider_changed",
            "",
            "Identity provider acme. Changed: scopes, extra parameters, active, client secret.",
            *("root", HERE, "acme"),
        ),
        ("provider_deleted", "", "Identity provider acme.", "root", HERE, "acme"),
    ]
    assert not IdentityProvider.objects.exists()
    stored = str(list(AuditEvent.objects.values()))
    assert not [secret for secret in ("secret-value", "parameter-value") if secret in stored]


def test_only_operators_delete_providers(acme: Organization, person: Person) -> None:
    provider = IdentityProvider(slug="acme", display_name="Acme", issuer="https://login.acme.example", client_id="c")
    provider.organization = acme
    save_provider(provider, actor=None)
    with pytest.raises(PermissionDenied):
        delete_provider(provider, actor=person("dev", acme))
    assert IdentityProvider.objects.get() == provider


def test_logins_that_an_operator_ends_are_one_event_a_person(acme: Organization, person: Person, root: Any) -> None:
    ann, bob = person("ann"), person("bob")
    grants = [Grant.objects.create(kind=Grant.Kind.PASSWORD, user=user) for user in (ann, ann, bob)]
    revoke_grants([grant.pk for grant in grants[:2]], actor=root)
    revoke_grants([grant.pk for grant in grants], actor=root)
    revoke_grants([grant.pk for grant in grants], actor=root)
    assert recorded() == [
        ("grants_revoked", "ann", "", "root", HERE, ""),
        ("grants_revoked", "bob", "", "root", HERE, ""),
    ]
    erasure.erase_person(bob, actor=None)
    assert list(AuditEvent.objects.exclude(person_name="").values_list("person_name", flat=True)) == ["ann"]


def test_an_invited_person_is_forgotten(acme: Organization, person: Person, root: Any) -> None:
    ann = person("ann")
    members.invite(acme, "ann@example.com", actor=root)
    members.withdraw_invitation(members.invite(acme, "ann@example.com", actor=root), actor=root)
    members.invite(acme, "ann.other@example.com", actor=root)
    members.accept_invitations(ann, "ann.other@example.com")
    members.add_member(acme, ann, actor=root, role=Role.DEVELOPER)
    members.set_claimed_memberships(identity_of(ann), {acme: "member"})
    members.remove_member(acme, ann, actor=root)
    assert {event.action for event in AuditEvent.objects.exclude(person_name="")} == {
        *("invitation_made", "invitation_withdrawn", "invitation_accepted"),
        *("member_added", "role_changed", "member_removed"),
    }
    erasure.erase_person(ann, actor=None)
    assert not AuditEvent.objects.exclude(person_name="").exists()
    assert set(AuditEvent.objects.values_list("actor_name", flat=True)) == {"root", ""}
