"""A site that already runs mozilla-django-oidc swaps backend and URL include, adds the issuer, and keeps the rest."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY
from django.test import Client
from pytest_django import Settings

from partium_auth.models import Grant, Identity
from tests.accounts.migrated_site import users
from tests.oidc.conftest import Browser, name_endpoints
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, BendableProvider, callback_url, jwk

pytestmark = [pytest.mark.urls("tests.accounts.migrated_site")]
CLAIMS = {"employee": "e17", "groups": ["customers"], "given_name": "Ann"}


@pytest.fixture
def site(op: BendableProvider, settings: Settings, db: None) -> BendableProvider:
    """The settings as the base library's documentation has them, and ``OIDC_OP_ISSUER``."""
    settings.AUTHENTICATION_BACKENDS = ["tests.accounts.migrated_site.SiteBackend"]
    settings.OIDC_OP_ISSUER = op.url
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    name_endpoints(op, settings)
    settings.OIDC_RP_SIGN_ALGO = "RS256"
    settings.LOGIN_REDIRECT_URL = "/"
    op.claims.update(CLAIMS)
    return op


class OldBrowser(Browser):
    """Starts where the site's templates point to."""

    def start(self, slug: str = "default", **parameters: str) -> str:
        response = self.client.get("/oidc/authenticate/", parameters)
        assert response.status_code == 302, response.content.decode()
        return response.headers["Location"]

    def come_back(self, parameters: dict[str, str], slug: str = "default") -> Any:
        return self.client.get(callback_url("/oidc/callback/", parameters))


def test_the_url_names_of_the_base_library_go_on(client: Client, site: BendableProvider) -> None:
    assert client.get("/").content.decode() == "/oidc/authenticate/ /oidc/logout/ /oidc/callback/"


def test_the_redirect_uri_that_is_registered_goes_on(site: BendableProvider) -> None:
    query = parse_qs(urlsplit(OldBrowser(site).start()).query)
    assert query["redirect_uri"] == ["http://testserver/oidc/callback/"]


def test_a_login_runs_the_overridden_hooks(site: BendableProvider) -> None:
    browser = OldBrowser(site)
    assert browser.log_in(next="/?page").headers["Location"] == "/?page"
    user = browser.user
    assert user is not None
    assert user.username == "e17"
    assert [group.name for group in user.groups.all()] == ["created"]
    assert browser.client.session[BACKEND_SESSION_KEY] == "tests.accounts.migrated_site.SiteBackend"
    assert Grant.objects.get().provider == "default"


def test_an_account_of_before_is_found_by_the_sites_own_rule(site: BendableProvider) -> None:
    user = users().create_user("e17", "old@example.com")
    browser = OldBrowser(site)
    browser.log_in()
    assert browser.user == user
    assert browser.user is not None
    assert browser.user.first_name == "Ann"
    assert Identity.objects.get().user == user


def test_once_known_it_is_issuer_and_subject_that_count(site: BendableProvider) -> None:
    OldBrowser(site).log_in()
    users().create_user("e18")
    browser = OldBrowser(site)
    browser.log_in(claims={"employee": "e18"})
    assert browser.user is not None
    assert browser.user.username == "e17"


def test_claims_that_the_site_does_not_accept_are_refused(site: BendableProvider) -> None:
    browser = OldBrowser(site)
    assert browser.log_in(claims={"groups": []}).status_code == 403
    assert browser.user is None
    assert users().count() == 0


def test_the_username_setting_goes_on(site: BendableProvider, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["partium_auth.backends.PartiumOIDCBackend"]
    settings.OIDC_USERNAME_ALGO = "tests.accounts.migrated_site.username_by_setting"
    browser = OldBrowser(site)
    browser.log_in()
    assert browser.user is not None
    assert browser.user.username == "by-setting-e17"


@pytest.mark.parametrize("stored", [True, False])
def test_tokens_are_in_the_session_only_where_the_site_asks_for_it(
    site: BendableProvider, settings: Settings, stored: bool
) -> None:
    settings.OIDC_STORE_ACCESS_TOKEN = settings.OIDC_STORE_ID_TOKEN = stored
    browser = OldBrowser(site)
    browser.log_in()
    assert ("oidc_access_token" in browser.client.session) is stored
    assert ("oidc_id_token" in browser.client.session) is stored


def test_the_sites_own_log_out_url_goes_on(site: BendableProvider, settings: Settings) -> None:
    settings.OIDC_OP_LOGOUT_URL_METHOD = "tests.accounts.migrated_site.log_out_at_the_provider"
    browser = OldBrowser(site)
    browser.log_in()
    user = browser.user
    assert user is not None
    response = browser.client.post("/oidc/logout/")
    assert response.headers["Location"] == f"https://provider.example/bye?user={user.pk}"
    assert browser.user is None


def test_the_apps_own_pages_are_there_as_well(client: Client, site: BendableProvider) -> None:
    assert client.get("/oidc/login/").status_code == 200


def test_the_age_of_a_login_can_be_limited_on_every_page(site: BendableProvider, settings: Settings) -> None:
    """As ``SessionRefresh`` did; the page of this site asks for no token."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "partium_auth.middleware.RecentLoginMiddleware"]
    settings.PARTIUM_REAUTHENTICATE_AFTER = 3600
    browser = OldBrowser(site)
    browser.log_in()
    assert browser.client.get("/").status_code == 200
    Grant.objects.update(authenticated_at=time.time() - 3601)
    response = browser.client.get("/?page=2", headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
    assert response.status_code == 302
    url = urlsplit(response.headers["Location"])
    assert (url.path, parse_qs(url.query)["prompt"], parse_qs(url.query)["next"]) == (
        "/oidc/login/default/",
        ["none"],
        ["/?page=2"],
    )
    assert browser.client.get("/", headers={"Accept": "application/json"}).status_code == 401
    assert browser.client.get("/oidc/login/").status_code == 200
    browser.log_in(prompt="none")
    assert browser.client.get("/").status_code == 200


@pytest.mark.parametrize("keys", [[0], [1, 0], [0, 1]])
@pytest.mark.parametrize("kid", ["another", None])
def test_without_a_look_at_the_kid_each_key_of_the_algorithm_is_tried(
    site: BendableProvider, settings: Settings, keys: list[int], kid: str | None
) -> None:
    """``OIDC_VERIFY_KID = False`` is for a provider whose tokens and keys do not agree on the ``kid``."""
    site.jwks, site.header = [jwk("RS256", number) for number in keys], {"kid": kid}
    settings.OIDC_VERIFY_KID = False
    browser = OldBrowser(site)
    assert browser.log_in().status_code == 302
    assert browser.user is not None
