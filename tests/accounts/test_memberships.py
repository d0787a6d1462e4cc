"""A person is told what an invitation has opened, can decline it, and can leave."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.test import Client
from pytest_django import Settings

from partium_auth.accounts import sessions
from partium_auth.models import AuditEvent, Invitation, Membership, Organization, Role
from partium_auth.services import members
from partium_auth.testing.sandbox.partium_sandbox import PartiumSandbox
from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider

URL = "/partium/memberships/"


@pytest.fixture
def dev(acme: Organization, settings: Settings) -> User:
    """Acme's developer, who may invite."""
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    user = get_user_model().objects.create_user("dora@acme.example")
    Membership.objects.create(user=user, organization=acme, role=Role.DEVELOPER)
    return user


def roles(user: Any) -> set[tuple[str, str]]:
    return set(Membership.objects.filter(user=user).values_list("organization__org_id", "role"))


def invited(
    browser: Browser, organization: Organization, inviter: Any, role: str = Role.DEVELOPER, **login: Any
) -> str:
    """Invite the browser's person, and log in; return the address that the login leads to."""
    members.invite(organization, "ann@example.com", actor=inviter, role=role)
    address: str = browser.log_in(**login).headers["Location"]
    return address


def text(client: Client, address: str) -> str:
    return " ".join(client.get(address).content.decode().split())


def test_a_login_that_accepts_an_invitation_says_so_first(browser: Browser, acme: Organization, dev: User) -> None:
    page = text(browser.client, invited(browser, acme, dev, next="/wanted/?page=2"))
    assert "dora@acme.example has invited you to Acme (developer)." in page
    accepted = AuditEvent.objects.filter(actor_id=str(browser.user and browser.user.pk)).exclude(address=None)
    assert {event.action for event in accepted} == {"invitation_accepted", "member_added", "login"}
    assert 'href="/wanted/?page=2"' in page
    assert browser.log_in(next="/wanted/").headers["Location"] == "/wanted/"  # once


def test_an_operators_invitation_names_nobody(browser: Browser, acme: Organization) -> None:
    assert "The people who run this site have invited you to Acme" in text(browser.client, invited(browser, acme, None))


def test_a_login_with_a_partium_password_says_so_too(
    client: Client, acme: Organization, dev: User, partium_sandbox: PartiumSandbox
) -> None:
    partium_sandbox.add_user("ann@acme.example", "pw", "acme")
    members.invite(acme, "ann@acme.example", actor=dev)
    answer = client.post("/partium/login/", {"username": "ann@acme.example", "password": "pw"})
    assert "has invited you to Acme (member)" in text(client, answer.headers["Location"])
    assert AuditEvent.objects.get(action="invitation_accepted").address == "127.0.0.1"


def test_a_declined_invitation_opens_nothing(
    browser: Browser, acme: Organization, globex: Organization, dev: User
) -> None:
    claims = {"organizations": ["globex"]}
    address = invited(browser, acme, dev, claims=claims, next="/wanted/")
    session = browser.client.session
    session[sessions.ORGANIZATION] = str(acme.pk)  # it has opened the organization meanwhile
    session.save()
    form = {"leave": "acme", "declined": "1", "confirmed": "1", "joined": "1", "next": "/wanted/"}
    answer = browser.client.post(address, form)
    page = text(browser.client, answer.headers["Location"])
    assert "You have left Acme." in page
    assert "invited you" not in page
    assert 'href="/wanted/"' in page
    assert roles(browser.user) == {("globex", "member")}
    assert browser.client.session[sessions.ORGANIZATION] == str(globex.pk)
    assert Invitation.objects.get().declined_at is not None
    assert browser.log_in(claims=claims).headers["Location"] == "/home/"
    assert roles(browser.user) == {("globex", "member")}


def test_nobody_declines_for_somebody_else(browser: Browser, acme: Organization, dev: User) -> None:
    invited(browser, acme, dev)
    for other in (dev, None):
        with pytest.raises(PermissionDenied):
            members.decline_invitation(Invitation.objects.get(), actor=other)
    with pytest.raises(PermissionDenied):
        members.leave_organization(acme, actor=None)
    assert roles(browser.user) == {("acme", "developer")}


def test_leaving_asks_first_and_withdraws_what_the_person_has_sent(
    browser: Browser, acme: Organization, dev: User
) -> None:
    invited(browser, acme, dev)
    members.invite(acme, "friend@example.com", actor=browser.user)
    Membership.objects.filter(user=dev).delete()
    assert "Leave Acme" in text(browser.client, URL)
    question = browser.client.post(URL, {"leave": "acme", "next": "/wanted/"}).content.decode()
    assert "You are its only developer" in question
    assert f'href="{URL}?next=%2Fwanted%2F"' in question  # Cancel
    assert roles(browser.user) == {("acme", "developer")}
    browser.client.post(URL, {"leave": "acme", "confirmed": "1"})
    assert roles(browser.user) == set()
    assert not Invitation.objects.filter(email="friend@example.com").exists()
    assert "You are not a member of any organization." in text(browser.client, URL)
    assert sessions.ORGANIZATION not in browser.client.session


def test_one_of_two_developers_is_not_the_only_one(browser: Browser, acme: Organization, dev: User) -> None:
    invited(browser, acme, dev)
    assert "only developer" not in browser.client.post(URL, {"leave": "acme"}).content.decode()


def test_what_claims_give_cannot_be_left(browser: Browser, op: BendableProvider, acme: Organization) -> None:
    browser.log_in(claims={"organizations": ["acme"]})
    assert "Leave Acme" not in text(browser.client, URL)
    assert "This membership comes from your login" in text(browser.client, URL)
    browser.client.post(URL, {"leave": "acme", "confirmed": "1"})
    assert roles(browser.user) == {("acme", "member")}


def test_organizations_of_others_are_not_shown_and_not_left(browser: Browser, acme: Organization, dev: User) -> None:
    browser.log_in()
    assert "Acme" not in text(browser.client, URL)
    for org_id in ("acme", "nowhere", "\0"):
        assert browser.client.post(URL, {"leave": org_id, "confirmed": "1"}).status_code == 302
    assert roles(dev) == {("acme", "developer")}


@pytest.mark.django_db
def test_a_visitor_is_asked_to_log_in(client: Client) -> None:
    answer = client.get(URL, headers={"Accept": "text/html"})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/partium/login/?next=")


def test_another_site_makes_nobody_leave(browser: Browser, acme: Organization, dev: User) -> None:
    invited(browser, acme, dev)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = browser.client.cookies
    assert strict.post(URL, {"leave": "acme", "confirmed": "1"}).status_code == 403
    assert roles(browser.user) == {("acme", "developer")}
