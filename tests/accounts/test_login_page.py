"""The login page, and Partium user name and password."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_login_failed
from django.test import Client
from pytest_django import Settings

from partium_auth.accounts import sessions
from partium_auth.models import EmailDomain, Grant, Identity, Membership, Organization
from partium_auth.services import members
from partium_auth.testing.sandbox import PartiumSandbox
from tests.oidc.conftest import add_provider
from tests.oidc.provider import BendableProvider

PASSWORD = "correct horse: battery"


@pytest.fixture
def ann(partium_sandbox: PartiumSandbox, db: None) -> str:
    partium_sandbox.add_user("Ann", PASSWORD, "acme")
    return "Ann"


def post(client: Client, password: str = PASSWORD, username: str = "Ann", **more: str) -> Any:
    return client.post("/partium/login/", {"username": username, "password": password, **more})


def test_the_page_offers_what_there_is(client: Client, op: BendableProvider, acme: Organization) -> None:
    add_provider(op, "site-wide", display_name="Site wide")
    row = add_provider(op, "acme-own", display_name="Acme's own", organization=acme)
    EmailDomain.objects.create(provider=row, domain="acme.example")
    page = client.get("/partium/login/?next=/page/").content.decode()
    assert 'href="/partium/login/default/?next=%2Fpage%2F"' in page
    assert "Site wide" in page
    assert "Acme" not in page
    assert 'name="email"' in page
    assert 'autocomplete="current-password"' in page
    assert "<script" not in page
    assert "style=" not in page


def test_the_page_is_never_cached_and_posts_are_protected(db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    assert "no-store" in client.get("/partium/login/").headers["Cache-Control"]
    assert client.post("/partium/login/", {"email": "a@b.example"}).status_code == 403


def test_an_email_address_leads_to_its_provider(client: Client, op: BendableProvider, acme: Organization) -> None:
    row = add_provider(op, "acme-own", organization=acme)
    EmailDomain.objects.create(provider=row, domain="acme.example")
    response = client.post("/partium/login/", {"email": "Ann@ACME.example", "next": "/page/"})
    assert response.headers["Location"].startswith(f"{op.url}/authorize?login_hint=Ann%40ACME.example")


@pytest.mark.parametrize("email", ["ann@unknown.example", "ann@sub.acme.example", "no address"])
def test_an_unknown_domain_says_so_on_the_page(client: Client, op: BendableProvider, db: None, email: str) -> None:
    EmailDomain.objects.create(provider=add_provider(op), domain="acme.example")
    response = client.post("/partium/login/", {"email": email})
    page = response.content.decode()
    assert response.status_code == 200
    assert 'role="alert"' in page
    assert f'value="{email}"' in page


def test_the_link_of_an_organization_leads_to_its_provider(
    client: Client, op: BendableProvider, acme: Organization
) -> None:
    add_provider(op, "acme-own", organization=acme)
    assert client.get("/partium/login/?organization=acme").headers["Location"].startswith(f"{op.url}/authorize?")


def test_the_link_of_an_organization_leads_to_the_provider_that_it_requires(
    client: Client, op: BendableProvider, other_op: BendableProvider, acme: Organization
) -> None:
    add_provider(op, "acme-own", organization=acme)
    acme.required_provider = add_provider(other_op)
    acme.save()
    assert client.get("/partium/login/?organization=acme").headers["Location"].startswith(f"{other_op.url}/authorize?")


def test_an_unknown_organization_is_answered_like_one_without_a_provider(
    client: Client, op: BendableProvider, acme: Organization
) -> None:
    def page(org_id: str) -> str:
        response = client.get(f"/partium/login/?organization={org_id}")
        assert response.status_code == 200
        text = response.content.decode().replace(org_id, "…")
        token = response.context["csrf_token"]
        return text.replace(str(token), "")

    assert page("acme") == page("nope")


def test_a_site_without_any_way_to_log_in_says_so(client: Client, settings: Settings, db: None) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    page = client.get("/partium/login/").content.decode()
    assert "No login has been set up" in page
    assert "password" not in page


def test_a_site_that_logs_people_in_by_itself_gets_them_sent_to_its_own_login_page(
    client: Client, settings: Settings, admin_user: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    settings.LOGIN_URL = "admin:login"
    response = client.get("/partium/login/?next=/page/")
    assert response.headers["Location"] == "/admin/login/?next=%2Fpage%2F"
    assert client.get("/partium/login/").headers["Location"] == "/admin/login/"
    # Many login pages send people who are logged in back at once, which would be a redirect loop.
    client.force_login(admin_user)
    assert "No login has been set up" in client.get("/partium/login/?next=/page/").content.decode()


def test_a_login_page_that_does_not_exist_is_nowhere_to_be_sent_to(
    client: Client, settings: Settings, db: None
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    settings.LOGIN_URL = "/accounts/login/"  # Django's default
    assert "No login has been set up" in client.get("/partium/login/").content.decode()


def test_login_works_behind_djangos_login_required_middleware(
    client: Client, settings: Settings, op: BendableProvider, db: None
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert client.get("/partium/login/").status_code == 200
    assert client.get("/partium/login/default/").headers["Location"].startswith(op.url)
    assert client.get("/partium/callback/default/").status_code == 400
    assert client.post("/partium/backchannel-logout/default/").status_code == 400


# --- Partium user name and password --------------------------------------------------------------------------------------


def test_a_partium_password_opens_a_session(client: Client, ann: str) -> None:
    response = post(client, next="/page/")
    assert response.headers["Location"] == "/page/"
    grant = Grant.objects.get()
    assert grant.kind == Grant.Kind.PASSWORD
    assert grant.refresh_token is not None
    assert client.session[BACKEND_SESSION_KEY] == "partium_auth.backends.PartiumPasswordBackend"
    user = get_user_model().objects.get(pk=client.session[SESSION_KEY])
    assert user.username == "Ann"
    assert not user.has_usable_password()
    post(Client())
    assert Identity.objects.get().user == user


def test_a_local_account_of_the_same_name_is_somebody_else(client: Client, ann: str) -> None:
    local = get_user_model().objects.create_superuser("ann", "ann@example.com", PASSWORD)
    post(client)
    assert client.session[SESSION_KEY] != str(local.pk)


def test_a_local_password_does_not_log_in_here(client: Client, partium_sandbox: PartiumSandbox, db: None) -> None:
    get_user_model().objects.create_user("bob", "bob@example.com", PASSWORD)
    assert post(client, username="bob").status_code == 200
    assert SESSION_KEY not in client.session


@pytest.mark.parametrize("username", ["Ann", "nobody", "col:on"])
def test_a_wrong_password_says_so(client: Client, ann: str, caplog: pytest.LogCaptureFixture, username: str) -> None:
    caplog.set_level(logging.DEBUG)
    failed: list[dict[str, Any]] = []

    def receive(credentials: dict[str, Any], **kwargs: Any) -> None:
        failed.append(credentials)

    user_login_failed.connect(receive)
    try:
        response = post(client, "wrong horse", username)
    finally:
        user_login_failed.disconnect(receive)
    page = response.content.decode()
    assert "The user name or the password is wrong." in page
    assert [credentials["username"] for credentials in failed] == [username]
    assert "wrong horse" not in page + caplog.text + repr(failed)
    assert SESSION_KEY not in client.session
    assert Grant.objects.count() == get_user_model().objects.count() == 0


def test_an_unreachable_partium_is_no_failed_login(client: Client, settings: Settings, ann: str) -> None:
    settings.PARTIUM_API_URL = "http://127.0.0.1:9"
    failed: list[Any] = []

    def receive(**kwargs: Any) -> None:
        failed.append(kwargs)

    user_login_failed.connect(receive)
    try:
        page = post(client).content.decode()
    finally:
        user_login_failed.disconnect(receive)
    assert "Your password could not be checked" in page
    assert failed == []


def test_the_password_organization(client: Client, settings: Settings, ann: str, acme: Organization) -> None:
    settings.PARTIUM_PASSWORD_ORGANIZATION = "acme"
    post(client)
    assert Membership.objects.get().origin == "claims"
    assert client.session[sessions.ORGANIZATION] == str(acme.pk)
    settings.PARTIUM_PASSWORD_ORGANIZATION = None
    post(client)
    assert Membership.objects.count() == 0


def test_an_invitation_to_the_user_name_is_accepted(
    client: Client, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    partium_sandbox.add_user("ann@acme.example", PASSWORD, "acme")
    members.invite(acme, "Ann@ACME.example", actor=None)
    members.invite(acme, "somebody@else.example", actor=None)
    for _login in range(2):
        post(client, username="ann@acme.example")
        membership = Membership.objects.get()
        assert (membership.organization, membership.origin) == (acme, "admin")
    assert client.session[sessions.ORGANIZATION] == str(acme.pk)


def test_a_deactivated_person_is_told(client: Client, ann: str) -> None:
    post(Client())
    get_user_model().objects.update(is_active=False)
    response = post(client)
    assert response.status_code == 403
    assert "deactivated" in response.content.decode()
    assert SESSION_KEY not in client.session


def test_without_the_backend_no_password_goes_anywhere(
    client: Client, settings: Settings, ann: str, partium_sandbox: PartiumSandbox
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["partium_auth.backends.PartiumOIDCBackend"]
    response = post(client)
    assert response.status_code == 200
    assert SESSION_KEY not in client.session
    assert Grant.objects.count() == 0


def test_the_admin_login_form_sends_no_password_to_partium(client: Client, ann: str) -> None:
    response = client.post("/admin/login/", {"username": "Ann", "password": PASSWORD, "next": "/admin/"})
    assert response.status_code == 200
    assert get_user_model().objects.count() == 0


def test_empty_fields_are_named(client: Client, ann: str) -> None:
    page = post(client, "", "").content.decode()
    assert 'href="#partium-username"' in page
    assert 'href="#partium-password"' in page
