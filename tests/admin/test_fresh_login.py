"""``PARTIUM_FRESH_LOGIN_MINUTES``: what is dangerous asks for a login from the last minutes."""

from __future__ import annotations

import datetime as dt
import html
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from partium_auth.accounts import sessions
from partium_auth.exceptions import FreshLoginRequired
from partium_auth.models import ApiKey, Grant, Invitation, Membership, Role
from partium_auth.policy import SessionActor
from partium_auth.services import keys, members
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant, login
from tests.oidc.conftest import Browser, op, provider_server  # noqa: F401  # fixtures
from tests.oidc.provider import BendableProvider

ADD = "/keys/partium_auth/apikey/add/"
VALUE = "another-key-" + "0" * 20
FORM = {"organization": "aardvark", "label": "new", "value": VALUE, "expires_at_0": "", "expires_at_1": ""}
HOUR = 3600


@pytest.fixture(autouse=True)
def _ten_minutes(settings: Settings) -> None:
    settings.PARTIUM_FRESH_LOGIN_MINUTES = 10
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True


@pytest.fixture
def developer(op: BendableProvider, ours: Tenant) -> Browser:  # noqa: F811
    """The browser of a developer whose login at the provider is an hour old."""
    browser = Browser(op)
    browser.log_in(claims={"auth_time": int(time.time()) - HOUR})
    assert browser.user is not None
    Membership.objects.create(user=browser.user, organization=ours.organization, role=Role.DEVELOPER)
    return browser


def link_on(page: str) -> str:
    found = re.search(r'href="([^"]*/login/[^"]*)"', page)
    assert found is not None, page
    return html.unescape(found[1])


def at_provider(browser: Browser, link: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(browser.client.get(link).headers["Location"]).query)


def test_a_key_is_added_after_a_new_login_that_comes_back_to_the_page(developer: Browser) -> None:
    asked = developer.client.get(ADD, headers={"Accept": "text/html"})
    assert asked.status_code == 403
    page = asked.content.decode()
    assert "within 10 minutes after a login" in page
    assert "Nothing was" not in page
    location = developer.client.get(link_on(page)).headers["Location"]
    assert parse_qs(urlsplit(location).query)["max_age"] == ["300"]
    back = developer.come_back(developer.op.authorize(location, auth_time=int(time.time()) - 200))
    assert back.headers["Location"] == ADD
    form = developer.client.get(ADD).content.decode()
    assert "Save this form before" in form


def test_what_was_typed_is_not_lost_in_silence(developer: Browser) -> None:
    before = ApiKey.objects.count()
    answer = developer.client.post(ADD, FORM, headers={"Accept": "text/html", "Referer": f"http://testserver{ADD}"})
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "Nothing was changed or saved" in page
    assert VALUE not in page
    assert ApiKey.objects.count() == before
    assert parse_qs(urlsplit(link_on(page)).query)["next"] == [f"http://testserver{ADD}"]


@pytest.mark.parametrize("auth_time", [-HOUR, None], ids=["ignores max_age", "does not say when"])
def test_a_provider_that_does_not_ask_again_gets_a_true_text_and_no_circle(
    developer: Browser, auth_time: int | None
) -> None:
    session_key = developer.client.session.session_key
    page = developer.client.get(ADD, headers={"Accept": "text/html"}).content.decode()
    location = developer.client.get(link_on(page)).headers["Location"]
    old = None if auth_time is None else int(time.time()) + auth_time
    answer = developer.come_back(developer.op.authorize(location, auth_time=old))
    assert answer.status_code == 400
    assert "login service did not confirm one" in " ".join(html.unescape(answer.content.decode()).split())
    assert developer.client.session.session_key == session_key  # nobody was logged out


def test_a_provider_that_says_nothing_of_itself_is_asked(op: BendableProvider, ours: Tenant) -> None:  # noqa: F811
    browser = Browser(op)
    browser.log_in()
    assert browser.user is not None
    Membership.objects.create(user=browser.user, organization=ours.organization, role=Role.DEVELOPER)
    page = browser.client.get(ADD, headers={"Accept": "text/html"}).content.decode()
    assert "or its time is not known" in page
    assert at_provider(browser, link_on(page))["max_age"] == ["300"]


def test_a_smaller_max_age_of_the_provider_stays(developer: Browser, settings: Settings) -> None:
    link = "/partium/login/default/?fresh=1"
    for configured, sent in (("60", "60"), (600, "300"), ("no number", "300")):
        settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"max_age": configured}
        assert at_provider(developer, link)["max_age"] == [sent]
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {}
    settings.PARTIUM_FRESH_LOGIN_MINUTES = None
    assert "max_age" not in at_provider(developer, link)


def test_a_script_is_told_in_json(developer: Browser) -> None:
    answer = developer.client.post(ADD, FORM, headers={"Accept": "application/json"})
    assert answer.status_code == 401
    assert answer.json()["error"] == "fresh_login_required"


def test_a_password_counts_from_its_own_login(
    client: Client, ours: Tenant, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    partium_sandbox.add_user("ann", "pw", "acme")
    client.post("/partium/login/", {"username": "ann", "password": "pw"})
    ann = get_user_model().objects.get(username="ann")
    Membership.objects.create(user=ann, organization=ours.organization, role=Role.DEVELOPER)
    assert client.get(ADD).status_code == 200
    Grant.objects.update(auth_time=time.time() - 601)
    page = client.get(ADD, headers={"Accept": "text/html"})
    assert page.status_code == 403
    assert link_on(page.content.decode()).startswith("/partium/login/?next=")


def test_a_login_of_the_site_counts_from_its_own_time(ours: Tenant) -> None:
    client = login(ours.developer)
    assert client.get(ADD).status_code == 200
    session = client.session
    session[sessions.LOGGED_IN_AT] -= 601
    session.save()
    page = client.get(ADD, headers={"Accept": "text/html"})
    assert page.status_code == 403
    assert 'action="/partium/logout/"' in page.content.decode()


def test_leaving_an_organization_makes_no_login_fresh(ours: Tenant, theirs: Tenant) -> None:
    Membership.objects.create(user=ours.developer, organization=theirs.organization)
    client = login(ours.developer)
    session = client.session
    session[sessions.LOGGED_IN_AT] -= 601
    session.save()
    client.post("/partium/memberships/", {"leave": "badger", "confirmed": "1"})
    assert client.get(ADD).status_code in {401, 403}


def add(tenant: Tenant, actor: Any) -> None:
    keys.add_key(tenant.organization, VALUE, label="n", actor=actor, verify=False)


def rotate(tenant: Tenant, actor: Any) -> None:
    keys.rotate_key(tenant.key, VALUE, actor=actor, verify=False)


def revoke(tenant: Tenant, actor: Any) -> None:
    keys.revoke_key(tenant.key, actor=actor)


def expire(tenant: Tenant, actor: Any) -> None:
    keys.change_key(tenant.key, label=tenant.key.label, expires_at=timezone.now() - dt.timedelta(days=1), actor=actor)


def invite(tenant: Tenant, actor: Any) -> None:
    members.invite(tenant.organization, "new@example.com", actor=actor)


DANGEROUS: list[Callable[[Tenant, Any], None]] = [add, rotate, revoke, expire, invite]


@pytest.mark.parametrize("act", DANGEROUS)
def test_services_ask_for_a_fresh_login(act: Callable[[Tenant, Any], None], ours: Tenant, root: Any) -> None:
    counts = ApiKey.objects.exclude(status="active").count(), Invitation.objects.count()
    with pytest.raises(FreshLoginRequired):
        act(ours, SessionActor(ours.developer, None, time.time() - HOUR))
    assert (ApiKey.objects.exclude(status="active").count(), Invitation.objects.count()) == counts
    act(ours, SessionActor(ours.developer, None, time.time()))


@pytest.mark.parametrize("act", DANGEROUS)
def test_operators_and_code_without_a_session_are_exempt(
    act: Callable[[Tenant, Any], None], ours: Tenant, theirs: Tenant, root: Any
) -> None:
    act(ours, SessionActor(root, None))
    act(theirs, theirs.developer)


def test_what_is_harmless_asks_for_nothing(ours: Tenant) -> None:
    old = SessionActor(ours.developer, None, time.time() - HOUR)
    keys.change_key(ours.key, label="other", expires_at=ours.key.expires_at, actor=old)
    members.remove_member(ours.organization, ours.member, actor=old)


@pytest.mark.parametrize(
    "name", ["apikey_rotate", "apikey_change", "apikey_revoke", "revoke_selected", "invitation_add"]
)
def test_every_page_asks(name: str, ours: Tenant) -> None:
    client = login(ours.developer)
    session = client.session
    session[sessions.LOGGED_IN_AT] -= HOUR
    session.save()
    key = str(ours.key.pk)
    url, form = {
        "apikey_rotate": (reverse("partium_keys:partium_auth_apikey_rotate", args=[key]), FORM),
        "apikey_change": (
            reverse("partium_keys:partium_auth_apikey_change", args=[key]),
            {"label": "x", "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"},
        ),
        "apikey_revoke": (reverse("partium_keys:partium_auth_apikey_revoke"), {"keys": key, "confirmed": "1"}),
        "revoke_selected": (
            reverse("partium_keys:partium_auth_apikey_changelist"),
            {"action": "revoke_selected", "_selected_action": key},
        ),
        "invitation_add": (
            reverse("partium_keys:partium_auth_invitation_add"),
            {"organization": "aardvark", "email": "new@example.com", "role": "member"},
        ),
    }[name]
    page = client.post(url, form, headers={"Accept": "text/html"})
    assert page.status_code == 403
    assert "Nothing was changed or saved" in page.content.decode()
    ours.key.refresh_from_db()
    assert (ours.key.status, ours.key.expires_at, ours.key.label) == ("active", None, "aardvark label")
    assert not Invitation.objects.filter(email="new@example.com").exists()
