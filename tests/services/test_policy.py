"""Who may do what, for every kind of person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from pytest_django import Settings

from partium_auth import policy
from partium_auth.fields import seal
from partium_auth.models import ApiKey, AuditEvent, Invitation, Membership, Organization, Role

VISIBLE = ["visible_keys", "visible_events", "visible_members", "visible_invitations"]


@pytest.fixture
def rows(acme: Organization, globex: Organization, person: Callable[..., Any]) -> None:
    from django.utils import timezone

    for organization in (acme, globex):
        key = ApiKey(organization=organization, label="k", fingerprint=organization.org_id)
        key.secret = seal(key, "secret", "x")
        key.save()
        AuditEvent.objects.create(organization=organization, api_key=key, action="key_added")
        Invitation.objects.create(organization=organization, email="a@example.com", expires_at=timezone.now())
        person(f"member-{organization.org_id}", organization, Role.MEMBER)


def seen(user: Any) -> dict[str, set[str]]:
    return {name: set(getattr(policy, name)(user).values_list("organization__org_id", flat=True)) for name in VISIBLE}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    "who", ["anonymous", "member", "staff", "inactive developer", "inactive superuser", "outsider"]
)
def test_people_without_a_role_see_and_may_nothing(
    who: str, acme: Organization, person: Callable[..., Any], settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    people: dict[str, Callable[[], Any]] = {
        "anonymous": AnonymousUser,
        "member": lambda: person("m", acme, Role.MEMBER),
        "staff": lambda: person("s", is_staff=True),
        "inactive developer": lambda: person("d", acme, is_active=False),
        "inactive superuser": lambda: person("r", is_superuser=True, is_active=False),
        "outsider": lambda: person("o"),
    }
    user = people[who]()
    assert seen(user) == {name: set() for name in VISIBLE}
    assert not policy.may_manage_keys(user, acme)
    assert not policy.may_manage_members(user, acme)
    assert not policy.may_enter_key_site(user)
    with pytest.raises(PermissionDenied):
        policy.require_operator(user)
    assert not policy.visible_grants(user).exists()
    assert not policy.visible_providers(user).exists()
    assert list(policy.organizations_of(user)) == ([acme] if who == "member" else [])


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("members", [True, False])
def test_a_developer_sees_their_organization_and_no_other(
    members: bool, acme: Organization, globex: Organization, person: Callable[..., Any], settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = members
    dev = person("dev", acme)
    ours = {"acme"} if members else set()
    assert seen(dev) == {
        "visible_keys": {"acme"},
        "visible_events": {"acme"},
        "visible_members": ours,
        "visible_invitations": ours,
    }
    assert policy.may_manage_keys(dev, acme)
    assert not policy.may_manage_keys(dev, globex)
    assert policy.may_manage_members(dev, acme) is members
    assert not policy.may_manage_members(dev, globex)
    assert policy.may_enter_key_site(dev)
    assert not policy.is_operator(dev)


@pytest.mark.usefixtures("rows")
def test_superusers_and_the_system_see_everything_but_open_only_what_they_are_members_of(
    acme: Organization, person: Callable[..., Any]
) -> None:
    root = person("root", is_superuser=True)
    for actor in (root, None):
        assert seen(actor) == {name: {"acme", "globex"} for name in VISIBLE}
        assert policy.may_manage_members(actor, acme)
    assert not policy.organizations_of(root).exists()


def test_an_inactive_organization_is_closed_to_its_people(acme: Organization, person: Callable[..., Any]) -> None:
    dev = person("dev", acme)
    acme.is_active = False
    acme.save()
    assert not policy.organizations_of(dev).exists()
    assert not policy.may_manage_keys(dev, acme)
    assert not policy.may_enter_key_site(dev)


def test_two_memberships_of_one_organization_are_one_organization(
    acme: Organization, person: Callable[..., Any]
) -> None:
    dev = person("dev", acme)
    Membership.objects.create(user=dev, organization=acme, role=Role.MEMBER, origin="admin")
    assert list(policy.organizations_of(dev)) == [acme]
    assert policy.organizations_of(dev).count() == 1
    assert list(policy.developer_organizations(dev)) == [acme]
