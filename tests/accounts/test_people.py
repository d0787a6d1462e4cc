"""Who it is, and what the claims give and take."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from pytest_django import Settings

from partium_auth.accounts import claims, new_users, sessions
from partium_auth.backends import PartiumOIDCBackend
from partium_auth.models import AuditEvent, Identity, Invitation, Membership, Organization, Origin, Role
from tests.oidc.conftest import Browser, Refusals, add_provider
from tests.oidc.provider import BendableProvider


def memberships(user: Any) -> set[tuple[str, str, str]]:
    return set(Membership.objects.filter(user=user).values_list("organization__org_id", "role", "origin"))


# --- accounts ----------------------------------------------------------------------------------------------------------


def test_a_person_is_found_again_by_issuer_and_subject_whatever_the_email_address(
    browser: Browser, op: BendableProvider
) -> None:
    browser.log_in()
    again = Browser(op)
    again.log_in(claims={"email": "married@example.com", "given_name": "Ann", "family_name": "Bee"})
    assert again.user == browser.user
    assert again.user is not None
    assert again.user.get_full_name() == "Ann Bee"


@pytest.mark.parametrize(
    ("claims", "first", "last"),
    [
        ({"name": "Ada Lovelace"}, "Ada", "Lovelace"),
        ({"name": " Ada  King   Lovelace "}, "Ada", "King Lovelace"),
        ({"name": "Ada"}, "Ada", ""),
        ({"name": "Ada Lovelace", "given_name": "Augusta Ada"}, "Augusta Ada", ""),
        ({"name": "Ada Lovelace", "given_name": "", "family_name": None}, "Ada", "Lovelace"),
        ({"name": "x" * 200 + " " + "y" * 200}, "x" * 150, "y" * 150),
        ({"name": "  "}, "", ""),
        ({"name": ["Ada"]}, "", ""),
    ],
)
def test_a_provider_that_sends_a_whole_name_only(
    browser: Browser, op: BendableProvider, claims: dict[str, Any], first: str, last: str
) -> None:
    for visit in (browser, Browser(op)):
        visit.log_in(claims=claims)
        assert visit.user is not None
        assert (visit.user.first_name, visit.user.last_name) == (first, last)


def test_a_whole_name_that_the_site_has_divided_otherwise_stays_so(browser: Browser, op: BendableProvider) -> None:
    browser.log_in(claims={"name": "Ada King Lovelace"})
    get_user_model().objects.update(first_name="Ada King", last_name="Lovelace")
    browser.log_in(claims={"name": "Ada King Lovelace"})
    assert get_user_model().objects.get().last_name == "Lovelace"
    browser.log_in(claims={"name": "Ada Byron"})
    assert get_user_model().objects.get().last_name == "Byron"


class DeactivatedMeanwhile(PartiumOIDCBackend):
    """A login during which an administrator deactivates the account."""

    def update_user(self, user: Any, claims: Any) -> Any:
        get_user_model().objects.filter(pk=user.pk).update(is_active=False)
        return super().update_user(user, claims)


def test_a_new_name_overwrites_nothing_else_of_an_account(
    browser: Browser, op: BendableProvider, settings: Settings
) -> None:
    browser.log_in()
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.DeactivatedMeanwhile"]
    Browser(op).log_in(claims={"given_name": "Ann", "family_name": "Bee"})
    user = get_user_model().objects.get()
    assert user.last_name == "Bee"
    assert not user.is_active


def test_a_user_model_without_such_fields_gets_no_name() -> None:
    from django.contrib.auth.base_user import AbstractBaseUser

    class Nameless(AbstractBaseUser):
        first_name = None  # as cookiecutter's user model has it

        class Meta:
            app_label = "tests"

    nameless = Nameless()
    assert not new_users.set_names(nameless, {"name": "Ada Lovelace", "given_name": "Ada"})
    assert nameless.first_name is None


def test_subjects_that_differ_in_case_are_two_people(browser: Browser, op: BendableProvider) -> None:
    browser.log_in(claims={"sub": "abc", "email": "one@example.com"})
    other = Browser(op)
    other.log_in(claims={"sub": "ABC", "email": "two@example.com"})
    assert browser.user != other.user


def test_the_same_subject_at_another_issuer_is_somebody_else(
    browser: Browser, op: BendableProvider, other_op: BendableProvider
) -> None:
    add_provider(other_op)
    browser.log_in()
    other = Browser(other_op)
    other.log_in("other", claims={"email": "someone@example.com"})
    assert browser.user != other.user


def test_a_user_name_is_the_verified_email_address_only_where_it_is_free(
    browser: Browser, op: BendableProvider
) -> None:
    get_user_model().objects.create_user("ANN@example.com")
    browser.log_in()
    unverified = Browser(op)
    unverified.log_in(claims={"sub": "bob", "email": "bob@example.com", "email_verified": False})
    free = Browser(op)
    free.log_in(claims={"sub": "cy", "email": "cy@example.com"})
    names = [b.user.username for b in (browser, unverified, free) if b.user]
    assert [name.startswith("p-") for name in names] == [True, True, False]
    assert names[2] == "cy@example.com"


def test_a_verified_email_address_links_an_unprivileged_account_where_the_site_allows_it(
    browser: Browser, op: BendableProvider, settings: Settings
) -> None:
    settings.PARTIUM_LINK_BY_VERIFIED_EMAIL = True
    ann = get_user_model().objects.create_user("ann", "Ann@Example.com")
    browser.log_in()
    assert browser.user == ann
    assert Identity.objects.get().user == ann
    browser.log_in()
    linked = AuditEvent.objects.get(action="identity_connected")
    assert (linked.actor_id, linked.address, linked.detail) == (
        *(str(ann.pk), "127.0.0.1"),
        "Identity provider default.",
    )


def test_an_organizations_provider_never_links(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, settings: Settings, acme: Organization
) -> None:
    settings.PARTIUM_LINK_BY_VERIFIED_EMAIL = True
    ann = get_user_model().objects.create_user("ann", "ann@example.com")
    add_provider(other_op, organization=acme)
    member = Browser(other_op)
    member.log_in("other")
    assert member.user not in (None, ann)


def test_an_organizations_provider_is_refused_a_privileged_persons_address(
    op: BendableProvider, other_op: BendableProvider, acme: Organization, refused: Refusals
) -> None:
    get_user_model().objects.create_superuser("root", "ann@example.com", "x")
    add_provider(other_op, organization=acme)
    member = Browser(other_op)
    refused.check(member.log_in("other"), member, "email", status=403, users=1)


# --- memberships -------------------------------------------------------------------------------------------------------


def test_claims_give_change_and_withdraw_memberships_and_leave_others_alone(
    browser: Browser, op: BendableProvider, acme: Organization, globex: Organization
) -> None:
    initech = Organization.objects.create(org_id="initech")
    browser.log_in(claims={"organizations": ["acme", "globex"], "roles": ["acme:developer"]})
    user = browser.user
    assert user is not None
    assert memberships(user) == {("acme", "developer", "claims"), ("globex", "member", "claims")}
    Membership.objects.create(user=user, organization=globex, role=Role.DEVELOPER, origin=Origin.ADMIN)
    Membership.objects.create(user=user, organization=initech, origin=Origin.ADMIN)
    browser.log_in(claims={"organizations": "acme"})
    assert memberships(browser.user) == {
        ("acme", "member", "claims"),
        ("globex", "developer", "admin"),
        ("initech", "member", "admin"),
    }
    browser.log_in()
    assert memberships(browser.user) == {("globex", "developer", "admin"), ("initech", "member", "admin")}


def test_a_role_without_an_organization_counts_for_all_that_the_claims_list(
    browser: Browser, op: BendableProvider, acme: Organization, globex: Organization
) -> None:
    browser.log_in(claims={"organizations": ["acme", "globex"], "roles": "developer"})
    assert memberships(browser.user) == {("acme", "developer", "claims"), ("globex", "developer", "claims")}


def test_organizations_that_are_not_known_are_passed_over_with_one_line(
    browser: Browser, op: BendableProvider, acme: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "partium_auth.login")
    browser.log_in(claims={"organizations": ["acme", "ACME", "hidden", "hidden"]})
    assert memberships(browser.user) == {("acme", "member", "claims")}
    assert [r.getMessage() for r in caplog.records if r.name == "partium_auth.login"] == [
        "2 organizations in the claims of a login through default are not known here: 'ACME', 'hidden'."
    ]


@pytest.mark.parametrize(
    ("claims", "why"), [({}, "is missing"), ({"organizations": ["hidden"]}, "names none that this site has")]
)
def test_a_login_that_opens_no_organization_says_why_in_the_log(
    browser: Browser, op: BendableProvider, acme: Organization, caplog: pytest.LogCaptureFixture, claims: Any, why: str
) -> None:
    caplog.set_level(logging.WARNING, "partium_auth.login")
    browser.log_in(claims=claims)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "partium_auth.login"]
    assert f"the claim 'organizations' (PARTIUM_ORGANIZATIONS_CLAIM) {why}" in line
    assert "hidden" not in line


def test_whose_membership_was_given_by_hand_needs_no_claim(
    browser: Browser, op: BendableProvider, acme: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    browser.log_in()
    assert browser.user is not None
    Membership.objects.create(user=browser.user, organization=acme)
    caplog.clear()
    caplog.set_level(logging.WARNING, "partium_auth.login")
    browser.log_in()
    assert not [r for r in caplog.records if r.name == "partium_auth.login"]


def test_an_organizations_provider_opens_that_organization_and_no_other(
    op: BendableProvider, other_op: BendableProvider, acme: Organization, globex: Organization, settings: Settings
) -> None:
    settings.PARTIUM_STAFF_ROLES = settings.PARTIUM_SUPERUSER_ROLES = ["root"]
    add_provider(other_op, organization=acme)
    Invitation.objects.create(
        email="ann@example.com", organization=globex, expires_at=timezone.now() + dt.timedelta(days=1)
    )
    member = Browser(other_op)
    claims_given = {"organizations": ["globex"], "roles": ["root", "acme:developer", "globex:developer"]}
    member.log_in("other", claims=claims_given)
    assert memberships(member.user) == {("acme", "developer", "claims")}
    assert member.user is not None
    assert not member.user.is_staff
    assert not member.user.is_superuser
    assert member.client.session[sessions.ORGANIZATION] == str(acme.pk)


def test_an_invitation_is_accepted_by_a_verified_email_address_only(
    browser: Browser, op: BendableProvider, acme: Organization
) -> None:
    Invitation.objects.create(
        email="ann@example.com",
        organization=acme,
        role=Role.DEVELOPER,
        expires_at=timezone.now() + dt.timedelta(days=1),
    )
    browser.log_in(claims={"email_verified": "true"})
    assert memberships(browser.user) == set()
    browser.log_in()
    assert memberships(browser.user) == {("acme", "developer", "admin")}


def test_an_invitation_does_not_move_anybody_elsewhere(browser: Browser, op: BendableProvider) -> None:
    """Nobody is asked: whoever invites others would get their searches."""
    tomorrow = timezone.now() + dt.timedelta(days=1)
    zeta, alpha = (Organization.objects.create(org_id=name) for name in ("zeta", "alpha"))
    browser.log_in(claims={"organizations": ["zeta"]})
    Invitation.objects.create(email="ann@example.com", organization=alpha, expires_at=tomorrow)
    new = Browser(op)
    new.log_in(claims={"organizations": ["zeta"]})
    assert memberships(new.user) == {("zeta", "member", "claims"), ("alpha", "member", "admin")}
    assert new.client.session[sessions.ORGANIZATION] == str(zeta.pk)


def test_an_organizations_provider_accepts_invitations_in_its_own_domains_only(
    other_op: BendableProvider, acme: Organization
) -> None:
    """Whatever its people may call themselves there: the invitation of somebody outside is not theirs to take."""
    row = add_provider(other_op, organization=acme)
    tomorrow = timezone.now() + dt.timedelta(days=1)
    Invitation.objects.create(email="ann@example.com", organization=acme, role=Role.DEVELOPER, expires_at=tomorrow)
    member = Browser(other_op)
    member.log_in("other")
    assert memberships(member.user) == {("acme", "member", "claims")}
    row.email_domains.create(domain="example.com")
    member.log_in("other")
    assert memberships(member.user) == {("acme", "member", "claims"), ("acme", "developer", "admin")}


def test_the_login_link_of_an_organization_chooses_it(
    browser: Browser, op: BendableProvider, acme: Organization, globex: Organization
) -> None:
    browser.log_in(claims={"organizations": ["acme", "globex"]}, organization="globex")
    assert browser.client.session[sessions.ORGANIZATION] == str(globex.pk)


def test_the_login_link_of_an_organization_opens_nothing_by_itself(
    browser: Browser, op: BendableProvider, acme: Organization
) -> None:
    browser.log_in(organization="acme")
    assert sessions.ORGANIZATION not in browser.client.session
    assert memberships(browser.user) == set()


# --- privileges --------------------------------------------------------------------------------------------------------


def test_claims_never_touch_privileges_where_no_setting_says_so(browser: Browser, op: BendableProvider) -> None:
    browser.log_in(claims={"roles": ["staff", "superuser"], "is_staff": True, "is_superuser": True})
    user = browser.user
    assert user is not None
    assert not user.is_staff
    assert not user.is_superuser
    get_user_model().objects.filter(pk=user.pk).update(is_staff=True)
    browser.log_in()
    user.refresh_from_db()
    assert user.is_staff


def test_settings_let_claims_give_privileges_and_take_them_away(
    browser: Browser, op: BendableProvider, settings: Settings
) -> None:
    settings.PARTIUM_ROLES_CLAIM = "realm_access.roles"
    settings.PARTIUM_STAFF_ROLES = ["operator"]
    settings.PARTIUM_SUPERUSER_ROLES = ["root"]
    for roles, expected in ((["operator"], (True, False)), (["root"], (False, True)), ([], (False, False))):
        browser.log_in(claims={"realm_access": {"roles": roles}})
        user = browser.user
        assert user is not None
        assert (user.is_staff, user.is_superuser) == expected


# --- reading claims ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path", "names"),
    [
        ({"organizations": "acme"}, "organizations", ["acme"]),
        ({"organizations": ["acme", "acme", "b", "", 7, None]}, "organizations", ["acme", "b"]),
        ({"organization": {"acme": {"id": "1"}}}, "organization", ["acme"]),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ["a"]),
        ({"resource_access": {"my.client": {"roles": ["a"]}}}, "resource_access.my.client.roles", ["a"]),
        ({"https://example.com/roles": ["a"]}, "https://example.com/roles", ["a"]),
        ({"realm_access": "a"}, "realm_access.roles", []),
        ({"roles": 7}, "roles", None),
        ({"roles": [{"name": "a"}]}, "roles", None),
        ({"_claim_names": {"groups": "src1"}}, "groups", None),
        ({"_claim_names": {"groups": "src1"}}, "roles", []),
        ({"roles": None}, "roles", []),
        ({"roles": []}, "roles", []),
        ({}, "roles", []),
        ({"roles": ["a"]}, "", []),
    ],
)
def test_a_claim_is_a_string_a_list_or_nested(given: dict[str, Any], path: str, names: list[str] | None) -> None:
    assert claims.names(given, path) == names


def test_an_address_that_changed_at_the_provider_changes_here_unless_another_account_has_it(
    browser: Browser, op: BendableProvider
) -> None:
    browser.log_in(claims={"email": "ann@example.com"})
    get_user_model().objects.create_user("bob", "bob@example.com")
    for said in (
        {"email": "anna@example.com"},
        {"email": "x@example.com", "email_verified": False},
        {"email": "Bob@example.com"},
    ):
        browser.log_in(claims=said)
        assert browser.user is not None
        assert browser.user.email == "anna@example.com"
