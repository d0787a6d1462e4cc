"""What has to work in every host; run by ``test_hosts`` in a process of its own, with the settings of the host.

Not named ``test_…``, so that only that process collects it.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.urls import get_script_prefix, set_script_prefix
from django.utils import timezone

from partium_auth.models import ApiKey, Grant, Invitation, Membership, Organization, Role
from partium_auth.services import key_verification, keys, members, organizations
from partium_auth.testing.sandbox import PartiumSandbox
from tests.oidc.provider import BendableProvider

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
WORD = "Lüfter" if settings.LANGUAGE_CODE == "de" else "fan"
PREFIX = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")


@pytest.fixture(autouse=True)
def acme() -> Organization:
    set_script_prefix(f"{PREFIX}/")  # as every process of such a host begins
    return Organization.objects.create(org_id="acme", display_name="Acme")


class Visitor:
    """A browser that knows addresses as the web server in front of the site does."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)

    def get(self, url: str, **parameters: Any) -> Any:
        return self.client.get(self.inside(url), parameters or None, headers=PAGE)

    def post(self, url: str, data: Any = None, headers: Any = PAGE) -> Any:
        if "csrftoken" not in self.client.cookies:
            self.get(f"{PREFIX}/partium/login/")
        token = {"X-CSRFToken": self.client.cookies["csrftoken"].value}
        return self.client.post(self.inside(url), data or {}, headers={**headers, **token})

    @staticmethod
    def inside(url: str) -> str:
        path = url.removeprefix("http://testserver")
        assert path.startswith(f"{PREFIX}/"), f"{url} forgets where the site is"
        return path.removeprefix(PREFIX)

    def log_in(self, op: BendableProvider, next_url: str = "", **claims: Any) -> Any:
        query = f"?next={next_url}" if next_url else ""
        started = self.get(f"{PREFIX}/partium/login/default/{query}")
        assert started.status_code == 302, started.content.decode()
        answer = op.authorize(started["Location"], **claims)
        redirect_uri = parse_qs(urlsplit(started["Location"]).query)["redirect_uri"][0]
        return self.get(redirect_uri, **answer)

    def log_in_with_password(self, sandbox: PartiumSandbox, username: str = "ann@example.com", **form: str) -> Any:
        sandbox.add_user(username, "the password", "acme")
        data = {"username": username, "password": "the password", **form}
        return self.post(f"{PREFIX}/partium/login/", data)

    def token(self) -> Any:
        return self.post(f"{PREFIX}/partium/token/", headers=SCRIPT)


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


def make_user(email: str, **fields: Any) -> Any:
    model = get_user_model()
    named = {"email": email} if model.USERNAME_FIELD == "email" else {"username": email, "email": email}
    return model._default_manager.create_user(**named, password="pw", **fields)


def let_tokens_expire() -> None:
    Grant.objects.update(issued_at=time.time() - 590)


def refreshed(visitor: Visitor, old: str) -> str:
    """The session's next token; a host that holds the database in every request gets it on a later request."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        before = generations()
        answer = visitor.token()
        if answer.status_code == 200 and answer.json()["access_token"] != old:
            return str(answer.json()["access_token"])
        assert answer.status_code in {200, 503}, answer.content
        # Not again at once: on SQLite a request that waits blocks the database for the refresh that it waits for.
        again_at = time.monotonic() + 3
        while generations() == before and time.monotonic() < again_at:
            threading.Event().wait(0.02)
    pytest.fail("there was no new token")


def generations() -> list[int]:
    return list(Grant.objects.order_by("pk").values_list("generation", flat=True))


def test_a_visitor_is_sent_to_the_login_page_and_comes_back(visitor: Visitor, op: BendableProvider) -> None:
    sent = visitor.get(f"{PREFIX}/token/")
    assert sent.status_code == 302
    assert urlsplit(sent["Location"]).path == f"{PREFIX}/partium/login/"
    page = visitor.get(sent["Location"])
    assert page.status_code == 200
    (link,) = re.findall(rf'href="({PREFIX}/partium/login/default/[^"]*)"', page.content.decode())
    started = visitor.get(unescape(link))
    redirect_uri = parse_qs(urlsplit(started["Location"]).query)["redirect_uri"][0]
    assert redirect_uri == f"http://testserver{PREFIX}/partium/callback/default/"
    back = visitor.get(redirect_uri, **op.authorize(started["Location"], organizations=["acme"]))
    assert back["Location"] == f"{PREFIX}/token/"
    assert visitor.get(back["Location"]).json()["organization"] == "acme"


def test_a_provider_login_has_a_token_that_is_refreshed(visitor: Visitor, op: BendableProvider) -> None:
    assert visitor.log_in(op, organizations=["acme"])["Location"] == settings.LOGIN_REDIRECT_URL
    answer = visitor.token()
    assert answer.status_code == 200, answer.content
    first = answer.json()["access_token"]
    assert first in op.issued
    assert 500 < answer.json()["expires_in"] <= 600
    let_tokens_expire()
    assert refreshed(visitor, first) in op.issued


def test_a_partium_password_logs_in_and_finds_parts(visitor: Visitor, partium_sandbox: PartiumSandbox) -> None:
    answer = visitor.log_in_with_password(partium_sandbox)
    assert answer.status_code == 302, answer.content.decode()
    assert visitor.get(f"{PREFIX}/search/", text=WORD).json()["names"]
    first = visitor.token().json()["access_token"]
    let_tokens_expire()
    assert refreshed(visitor, first) != first
    assert visitor.get(f"{PREFIX}/search/", text=WORD).json()["names"]


def test_the_name_of_a_partium_login_can_be_read_in_the_account(
    visitor: Visitor, partium_sandbox: PartiumSandbox
) -> None:
    visitor.log_in_with_password(partium_sandbox)
    model = get_user_model()
    by_email = model.get_email_field_name() == model.USERNAME_FIELD
    name = "ann=example.com@users.invalid" if by_email else "ann@example.com"
    assert model._default_manager.get().get_username() == name


def test_a_wrong_password_logs_nobody_in(visitor: Visitor, partium_sandbox: PartiumSandbox) -> None:
    answer = visitor.log_in_with_password(partium_sandbox, password="wrong")
    assert answer.status_code == 200
    assert visitor.token().status_code == 401


def test_people_of_another_backend_search_with_the_key(
    visitor: Visitor, partium_sandbox: PartiumSandbox, acme: Organization
) -> None:
    organizations.change_organization(acme, actor=None, token_source="api_key")
    Membership.objects.create(user=make_user("ann@example.com"), organization=acme)
    value = partium_sandbox.add_key("acme")
    keys.add_key(acme, value, label="shop", actor=None)
    logged_in = visitor.post(f"{PREFIX}/local-login/", {"username": "ann@example.com", "password": "pw"})
    assert logged_in.status_code == 200, logged_in.content
    assert value not in {refreshed(visitor, ""), ""}
    assert visitor.get(f"{PREFIX}/search/", text=WORD).json()["names"]
    assert partium_sandbox.calls(endpoint="search")[-1].external_user_id


def test_the_page_knows_where_the_token_endpoint_is(visitor: Visitor, op: BendableProvider) -> None:
    visitor.log_in(op, organizations=["acme"])
    page = visitor.get(f"{PREFIX}/sdk/").content.decode()
    assert f'data-token-url="{PREFIX}/partium/token/"' in page
    assert "partium_auth/find-sdk.js" in page


def test_a_switch_of_organization(visitor: Visitor, op: BendableProvider) -> None:
    Organization.objects.create(org_id="globex", display_name="Globex")
    visitor.log_in(op, organizations=["acme", "globex"])
    target = {"organization": "globex", "next": f"{PREFIX}/token/"}
    assert visitor.post(f"{PREFIX}/partium/organization/", target)["Location"] == f"{PREFIX}/token/"
    assert visitor.token().json()["organization"] == "globex"


def test_errors_are_pages_for_people_and_json_for_scripts(
    visitor: Visitor, op: BendableProvider, partium_sandbox: PartiumSandbox
) -> None:
    visitor.log_in(op, organizations=["acme"])
    page = visitor.get(f"{PREFIX}/unavailable/?q=1")
    assert (page.status_code, page["Retry-After"]) == (503, "17")
    answer = visitor.client.get("/unavailable/", headers=SCRIPT)
    assert answer.json()["error"] == "token_unavailable"
    assert visitor.get(f"{PREFIX}/failing/NoOrganization/").status_code == 403
    sent = visitor.get(f"{PREFIX}/failing/LoginRequired/")
    assert parse_qs(urlsplit(sent["Location"]).query)["next"] == [f"{PREFIX}/failing/LoginRequired/"]
    assert visitor.token().status_code == 200


def test_logging_out_ends_everything(visitor: Visitor, op: BendableProvider) -> None:
    visitor.log_in(op, organizations=["acme"])
    assert visitor.token().status_code == 200
    out = visitor.post(f"{PREFIX}/partium/logout/")
    refresh = out["Refresh"]  # not a redirect: some policies refuse the redirect of a form to another site
    assert refresh.startswith(f"0; url={op.url}/logout?")
    back = parse_qs(urlsplit(refresh.removeprefix("0; url=")).query)["post_logout_redirect_uri"]
    assert back == [f"http://testserver{PREFIX}/partium/login/"]
    assert Grant.objects.get().revoked_at is not None
    assert Grant.objects.get().refresh_token is None
    assert visitor.token().status_code == 401


def test_a_login_link_works_once(visitor: Visitor, op: BendableProvider) -> None:
    started = visitor.get(f"{PREFIX}/partium/login/default/")
    answer = op.authorize(started["Location"], organizations=["acme"])
    callback = f"{PREFIX}/partium/callback/default/"
    assert visitor.get(callback, **answer).status_code == 302
    assert visitor.get(callback, **answer).status_code == 400
    assert visitor.token().status_code == 200  # and the one who is logged in stays so


def test_the_provider_logs_a_person_out(visitor: Visitor, op: BendableProvider) -> None:
    visitor.log_in(op, organizations=["acme"])
    url = f"{PREFIX}/partium/backchannel-logout/default/"
    token = op.logout_token(sub="ann-1")
    assert Client().post(Visitor.inside(url), {"logout_token": token}).status_code == 200
    assert Client().post(Visitor.inside(url), {"logout_token": token}).status_code == 400
    assert visitor.token().status_code == 401


def test_keys_and_invitations_end_when_they_say(visitor: Visitor, op: BendableProvider, acme: Organization) -> None:
    now = timezone.now()
    key = keys.add_key(
        acme, "value-" + "0" * 20, label="a", actor=None, verify=False, expires_at=now + dt.timedelta(hours=1)
    )
    assert ApiKey.objects.usable().get() == key
    ApiKey.objects.update(expires_at=now - dt.timedelta(minutes=1))
    assert not ApiKey.objects.usable().exists()

    globex = Organization.objects.create(org_id="globex")
    members.invite(acme, "ann@example.com", actor=None, valid_for=dt.timedelta(hours=1), role=Role.DEVELOPER)
    members.invite(globex, "ann@example.com", actor=None)
    Invitation.objects.filter(organization=globex).update(expires_at=now - dt.timedelta(minutes=1))
    visitor.log_in(op)
    assert [row.organization.org_id for row in Membership.objects.all()] == ["acme"]


def test_a_session_with_a_key_that_ends_soon(
    visitor: Visitor, partium_sandbox: PartiumSandbox, acme: Organization
) -> None:
    organizations.change_organization(acme, actor=None, token_source="api_key")
    Membership.objects.create(user=make_user("ann@example.com"), organization=acme)
    soon = timezone.now() + dt.timedelta(hours=1)
    keys.add_key(acme, partium_sandbox.add_key("acme"), label="shop", actor=None, expires_at=soon)
    visitor.post(f"{PREFIX}/local-login/", {"username": "ann@example.com", "password": "pw"})
    assert refreshed(visitor, "")
    ApiKey.objects.update(expires_at=timezone.now() - dt.timedelta(minutes=1))
    answer = visitor.token()
    assert answer.status_code == 503
    assert answer.json()["error"] == "no_usable_key"


def test_the_commands_run(visitor: Visitor, op: BendableProvider, partium_sandbox: PartiumSandbox) -> None:
    visitor.log_in(op, organizations=["acme"])
    call_command("partium_doctor")
    call_command("partium_keys", "list")
    call_command("partium_clear_grants")
    call_command("partium_reencrypt")
    call_command("check", databases=["default"])
    assert visitor.token().status_code == 200
    visitor.post(f"{PREFIX}/partium/logout/")
    call_command("partium_clear_grants")
    assert Grant.objects.count() == 0


if apps.is_installed("django.contrib.admin"):

    def test_a_developer_keeps_keys(
        visitor: Visitor, op: BendableProvider, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_transaction: list[bool] = []
        ask = key_verification.verify_at_partium

        def watched(*args: Any) -> Any:
            in_transaction.extend(database.in_atomic_block for database in connections.all())
            return ask(*args)

        monkeypatch.setattr(key_verification, "verify_at_partium", watched)
        sent = visitor.get(f"{PREFIX}/keys/")
        assert sent.status_code == 302
        page = visitor.get(sent["Location"])
        if page.status_code == 302:
            page = visitor.get(page["Location"])
        assert page.status_code == 200
        visitor.log_in(op, organizations=["acme"], roles=["developer"])
        assert visitor.get(f"{PREFIX}/keys/")["Location"] == f"{PREFIX}/keys/partium_auth/apikey/"
        value = partium_sandbox.add_key("acme")
        url = f"{PREFIX}/keys/partium_auth/apikey/add/"
        added = visitor.post(url, {"organization": Organization.objects.get().org_id, "label": "shop", "value": value})
        assert added.status_code == 302, re.findall(r"errorlist.*", added.content.decode())
        assert added["Location"].startswith(f"{PREFIX}/keys/")
        assert in_transaction
        assert not any(in_transaction), "the database is kept waiting while Partium is asked"
        listed = visitor.get(f"{PREFIX}/keys/partium_auth/apikey/")
        assert "shop" in listed.content.decode()
        assert value not in listed.content.decode()
        assert get_script_prefix() == f"{PREFIX}/"
        assert visitor.get(f"{PREFIX}/back-office/").status_code == 302
        root = make_user("root@example.com", is_superuser=True, is_staff=True)
        other = Visitor()
        other.client.force_login(root, "django.contrib.auth.backends.ModelBackend")
        for url in ("back-office", "admin"):
            for model in ("apikey", "organization", "membership", "grant"):
                assert other.get(f"{PREFIX}/{url}/partium_auth/{model}/").status_code == 200
            key = ApiKey.objects.get()
            assert other.get(f"{PREFIX}/{url}/partium_auth/apikey/{key.pk}/change/").status_code == 200
