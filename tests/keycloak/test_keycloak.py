"""Against a real Keycloak, over HTTP: what docs/providers.md says of it. ``make providers`` runs these tests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from partium_auth.exceptions import CredentialsRejected
from partium_auth.models import Grant, Identity, Membership
from partium_auth.oidc import providers, token_endpoint
from tests.demo.processes import eventually
from tests.keycloak.conftest import Keycloak, Realm, Visitor, asks_who

pytestmark = [pytest.mark.providers, pytest.mark.django_db(transaction=True)]
ROTATION = pytest.mark.parametrize(
    "realm", [{"revokeRefreshToken": False}, {"revokeRefreshToken": True}], indirect=True, ids=["reused", "rotating"]
)


def shows(page: requests.Response, *texts: str) -> None:
    assert page.status_code == 200
    for text in texts:
        assert f">{text}<" in page.text


def expire_token() -> None:
    """The next page needs another access token."""
    Grant.objects.filter(revoked_at=None).update(issued_at=time.time() - 599)


def roles() -> dict[str, str]:
    return dict(Membership.objects.values_list("organization__org_id", "role"))


def test_a_login_brings_organizations_roles_names_and_a_verified_address(realm: Realm, visitor: Visitor) -> None:
    shows(visitor.log_in("/page/token/"), "ann@example.com", "Acme")
    assert roles() == {"acme": "developer", "globex": "member"}
    identity = Identity.objects.get()
    assert (identity.issuer, identity.subject) == (realm.issuer, realm.ann)
    assert identity.user.get_full_name() == "Ann Otis"


@ROTATION
def test_20_requests_at_once_make_one_refresh(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    for generation in (2, 3):
        expire_token()
        with ThreadPoolExecutor(20) as pool:
            pages = list(pool.map(lambda _: visitor.get("/page/token/"), range(20)))
        for page in pages:
            shows(page, "ann@example.com")
        assert Grant.objects.get().generation == generation
    assert realm.count("REFRESH_TOKEN") == 2


def test_a_refresh_brings_a_change_of_membership_and_role(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    realm.leave("globex")
    realm.take_role()
    expire_token()
    visitor.get("/page/token/")
    eventually(lambda: roles() == {"acme": "member"}, lambda: str(roles()))  # the page does not wait for it


def test_a_log_out_after_a_refresh_ends_the_session_there_too(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    expire_token()
    visitor.get("/page/token/")
    assert visitor.log_out().url.startswith(f"{visitor.site}/partium/login/")
    assert asks_who(visitor.open_login())


def test_without_a_log_out_there_is_single_sign_on(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    visitor.browser.cookies.clear(domain="localhost.local")
    shows(visitor.open_login(), "ann@example.com")


def test_a_log_out_at_the_provider_ends_the_session_here(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    realm.admin("POST", f"/users/{realm.ann}/logout")
    eventually(lambda: Grant.objects.get().revoked_at is not None, lambda: "no back-channel log-out came")
    shows(visitor.get("/page/home/"), "nobody")


@ROTATION
def test_a_log_out_revokes_the_refresh_token(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    refresh_token = Grant.objects.get().refresh_token.reveal()
    visitor.log_out()
    with pytest.raises(CredentialsRejected):
        token_endpoint.refresh(providers.get("default"), refresh_token)


def test_without_a_refresh_token_the_login_is_repeated_silently(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    Grant.objects.update(refresh_token=None, issued_at=time.time() - 3600, authenticated_at=time.time() - 3600)
    page = visitor.get("/page/token/")
    assert page.url == f"{visitor.site}/page/token/"
    shows(page, "ann@example.com")


def test_a_person_who_is_disabled_there_is_out_at_the_next_refresh(realm: Realm, visitor: Visitor) -> None:
    visitor.log_in()
    realm.admin("PUT", f"/users/{realm.ann}", {**realm.admin("GET", f"/users/{realm.ann}"), "enabled": False})
    expire_token()
    assert visitor.get("/page/token/").url.startswith(f"{visitor.site}/partium/login/")
    assert "disabled" in visitor.submit(visitor.open_login(), username="ann").text


def test_an_outage_of_the_provider_logs_nobody_out(realm: Realm, visitor: Visitor, keycloak: Keycloak) -> None:
    visitor.log_in()
    keycloak.stop()
    try:
        Grant.objects.update(issued_at=time.time() - 500)  # due for a refresh, but good for 100 s
        shows(visitor.get("/page/token/"), "ann@example.com")
        expire_token()
        page = visitor.get("/page/token/")
        assert (page.status_code, "Retry-After" in page.headers) == (503, True)
        shows(visitor.get("/page/home/"), "ann@example.com")
    finally:
        keycloak.start()
    eventually(lambda: visitor.get("/page/token/").status_code == 200, lambda: "the token is not refreshed again")
    assert Grant.objects.get().generation == 2


def test_eight_tabs_log_in_at_once_and_each_comes_to_its_own_page(realm: Realm, visitor: Visitor) -> None:
    """Keycloak's other login tabs go on by themselves, all at once, as soon as one of them has logged in."""
    names = [f"tab{number}" for number in range(8)]
    tabs = [visitor.open_login(f"/page/{name}/") for name in names]
    assert all(asks_who(tab) for tab in tabs)
    pages = [visitor.sign_in(tabs[0])]
    with ThreadPoolExecutor(7) as pool:
        pages += pool.map(lambda tab: visitor.wait_for(tab.history[-1].headers["Location"]), tabs[1:])
    for name, page in zip(names, pages, strict=True):
        assert page.url == f"{visitor.site}/page/{name}/"
        shows(page, "ann@example.com")
    assert Grant.objects.filter(revoked_at=None).count() == 1


def test_roles_that_only_userinfo_has_are_kept_at_a_refresh(realm: Realm, visitor: Visitor) -> None:
    with realm.roles_in_userinfo_only():
        visitor.log_in()
        assert roles() == {"acme": "developer", "globex": "member"}
        realm.leave("globex")
        expire_token()
        visitor.get("/page/token/")
        eventually(lambda: "globex" not in roles(), lambda: str(roles()))
        assert roles() == {"acme": "developer"}


@pytest.mark.browser
def test_eight_tabs_in_a_browser_and_three_silent_logins_at_once(
    realm: Realm, live_server: Any, chromium: Any, visitor: Visitor
) -> None:
    visitor.log_in()  # a server that has just started is slow
    visitor.log_out()
    context = chromium.new_context()
    try:
        tabs = {f"/page/tab{number}/": context.new_page() for number in range(8)}
        for path, page in tabs.items():
            page.goto(f"{live_server.url}/partium/login/default/?next={path}")
        first = tabs["/page/tab0/"]
        first.fill("#username", "ann")
        first.click("#kc-login")
        first.fill("#password", "demo")
        first.click("#kc-login")
        for path, page in tabs.items():
            page.wait_for_url(f"{live_server.url}{path}", timeout=60_000)
            assert page.inner_text("#who") == "ann@example.com"
        assert Grant.objects.filter(revoked_at=None).count() == 1

        Grant.objects.update(refresh_token=None, issued_at=time.time() - 3600, authenticated_at=time.time() - 3600)
        three = [context.new_page() for _ in range(3)]
        for page in three:  # all three are under way at once
            page.evaluate("url => setTimeout(() => location.assign(url))", f"{live_server.url}/page/token/")
        for page in three:
            page.wait_for_url(f"{live_server.url}/page/token/", timeout=60_000)
            page.wait_for_selector("#who", timeout=60_000)
            assert page.inner_text("#who") == "ann@example.com"
    finally:
        context.close()
