"""A session acts in the key admin only for the organizations that its login may open, as everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse
from pytest_django import Settings

from partium_auth import policy
from partium_auth.models import ApiKey, Grant, IdentityProvider, Invitation, Membership, Role
from partium_auth.policy import SessionActor
from tests.admin.conftest import Tenant, login

SITE_WIDE = "site-wide"


@pytest.fixture
def grant(ours: Tenant) -> Grant:
    """The developer's login, through a site-wide provider, made now."""
    IdentityProvider.objects.create(slug=SITE_WIDE, display_name="S", issuer="https://s.example.com", client_id="c")
    return Grant.objects.create(
        kind=Grant.Kind.OIDC, user=ours.developer, provider=SITE_WIDE, authenticated_at=time.time()
    )


def browser_of(grant: Grant) -> Any:
    client = login(grant.user)
    session = client.session
    session["_partium_grant"] = str(grant.pk)
    session.save()
    return client


def requires_another_provider(ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings) -> None:
    ours.organization.required_provider = ours.provider
    ours.organization.save()


def login_is_old(ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings) -> None:
    settings.PARTIUM_REAUTHENTICATE_AFTER = 3600
    Grant.objects.filter(pk=grant.pk).update(authenticated_at=time.time() - 3700)


def provider_was_deactivated(ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings) -> None:
    IdentityProvider.objects.filter(slug=SITE_WIDE).update(is_active=False)


def provider_is_another_organizations(ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings) -> None:
    IdentityProvider.objects.filter(slug=SITE_WIDE).update(organization=theirs.organization)


def login_was_revoked(ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings) -> None:
    Grant.objects.filter(pk=grant.pk).update(revoked_at="2026-01-01T00:00:00Z")


def login_is_gone(ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings) -> None:
    Grant.objects.filter(pk=grant.pk).delete()


Change = Callable[[Tenant, Tenant, Grant, Settings], None]
CLOSING = [
    requires_another_provider,
    login_is_old,
    provider_was_deactivated,
    provider_is_another_organizations,
    login_was_revoked,
    login_is_gone,
]


@pytest.mark.parametrize("close", CLOSING)
@pytest.mark.parametrize("staff", [False, True])
def test_what_closes_the_token_endpoint_closes_the_key_admin(
    close: Change, staff: bool, ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    ours.developer.is_staff = staff
    ours.developer.save()
    client, site = browser_of(grant), "admin" if staff else "partium_keys"
    changelist = reverse(f"{site}:partium_auth_apikey_changelist")
    assert "aardvark label" in client.get(changelist).content.decode()
    close(ours, theirs, grant, settings)
    for name in ("apikey_changelist", "auditevent_csv", "membership_changelist", "invitation_changelist"):
        answer = client.get(reverse(f"{site}:partium_auth_{name}"))
        assert answer.status_code in {302, 403}
        assert b"aardvark" not in answer.content
    client.post(reverse(f"{site}:partium_auth_apikey_revoke"), {"keys": str(ours.key.pk), "confirmed": "1"})
    invitation = {"organization": "aardvark", "email": "x@example.com", "role": "developer"}
    client.post(reverse(f"{site}:partium_auth_invitation_add"), invitation)
    assert ApiKey.objects.get(pk=ours.key.pk).status == ApiKey.Status.ACTIVE
    assert not Invitation.objects.filter(email="x@example.com").exists()
    actor = SessionActor(ours.developer, grant.pk)
    assert not policy.may_manage_keys(actor, ours.organization)
    assert not policy.may_enter_key_site(actor)


def test_who_has_to_log_in_elsewhere_is_sent_there(
    ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings
) -> None:
    requires_another_provider(ours, theirs, grant, settings)
    answer = browser_of(grant).get(reverse("partium_keys:index"), follow=False, headers={"Accept": "text/html"})
    answer = browser_of(grant).get(answer["Location"], headers={"Accept": "text/html"})
    assert answer["Location"].startswith(reverse("partium_auth:oidc_login", args=["aardvark-idp"]))


def test_a_login_of_the_required_provider_opens_that_organization_beside_others(
    ours: Tenant, theirs: Tenant, grant: Grant, settings: Settings
) -> None:
    requires_another_provider(ours, theirs, grant, settings)
    assert not policy.visible_keys(SessionActor(ours.developer, None)).exists()
    Grant.objects.filter(pk=grant.pk).update(provider="aardvark-idp")
    assert policy.visible_keys(SessionActor(ours.developer, grant.pk)).get() == ours.key


@pytest.mark.parametrize("close", CLOSING)
def test_operators_are_exempt(
    close: Change, ours: Tenant, theirs: Tenant, grant: Grant, root: Any, settings: Settings
) -> None:
    close(ours, theirs, grant, settings)
    assert login(root).get(reverse("admin:partium_auth_apikey_changelist")).status_code == 200


def test_searching_members_reveals_no_address_to_developers(ours: Tenant, root: Any, settings: Settings) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    ours.member.email = "hidden@private.example"
    ours.member.save()
    url = reverse("partium_keys:partium_auth_membership_changelist") + "?q=hidden"
    assert b"aardvark-member" not in login(ours.developer).get(url).content
    assert b"aardvark-member" in login(root).get(url).content


def test_who_removes_the_last_developer_is_told_and_operators_find_the_organization(
    ours: Tenant, theirs: Tenant, root: Any, settings: Settings
) -> None:
    client = login(root)
    membership = ours.developer.partium_memberships.get()
    url = reverse("admin:partium_auth_membership_delete", args=[membership.pk])
    page = client.post(url, {"post": "yes"}, follow=True).content.decode()
    assert "has no developer any more" in page
    listed = client.get(reverse("admin:partium_auth_organization_changelist") + "?developers=none").content.decode()
    assert "aardvark display" in listed
    assert "badger display" not in listed


def test_the_list_of_keys_is_titled_with_the_organization_that_the_login_opens(
    ours: Tenant, theirs: Tenant, grant: Grant
) -> None:
    Membership.objects.create(user=ours.developer, organization=theirs.organization, role=Role.DEVELOPER)
    ours.organization.required_provider = ours.provider
    ours.organization.save()
    page = browser_of(grant).get(reverse("partium_keys:partium_auth_apikey_changelist"))
    assert "<h1>API keys of badger display</h1>" in page.content.decode()
