"""What every real provider of ``make providers`` does alike with this app, over HTTP. Where they differ: ``Traits``."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pytest_django import Settings

from partium_auth.exceptions import CredentialsRejected
from partium_auth.models import Grant, Identity, Membership
from partium_auth.oidc import providers, token_endpoint
from partium_auth.oidc.metadata import metadata_of
from partium_auth.services.provider_probe import probe_provider
from tests.demo.processes import eventually
from tests.real_providers.conftest import HOMES, with_providers
from tests.real_providers.real_provider import RealProvider
from tests.real_providers.visitor import Visitor

pytestmark = [pytest.mark.providers, pytest.mark.django_db(transaction=True)]
EVERY = with_providers(*HOMES)
ROTATION = pytest.mark.parametrize("rotating", [False, True], ids=["reused", "rotating"])


def shows(page: requests.Response, *texts: str) -> None:
    assert page.status_code == 200, page.text
    for text in texts:
        assert f">{text}<" in page.text


def expire_token() -> None:
    """The next page needs another access token."""
    Grant.objects.filter(revoked_at=None).update(issued_at=time.time() - 599)


def lose_refresh_token() -> None:
    """The next page needs another login."""
    long_ago = time.time() - 3600
    Grant.objects.update(refresh_token=None, issued_at=long_ago, authenticated_at=long_ago)


def has_ended(login: Grant) -> bool:
    """Tell whether there will be no more tokens."""
    login.refresh_from_db()
    return login.rejected_at is not None or login.revoked_at is not None


def is_rejected(refresh_token: str) -> bool:
    try:
        token_endpoint.refresh(providers.get("default"), refresh_token)
    except CredentialsRejected:
        return True
    return False


def roles() -> dict[str, str]:
    return dict(Membership.objects.values_list("organization__org_id", "role"))


@EVERY
def test_a_login_brings_organizations_roles_names_and_a_verified_address(
    provider: RealProvider, visitor: Visitor
) -> None:
    shows(provider.log_in(visitor, "/page/token/"), "ann@example.com", "Acme")
    assert roles() == {"acme": "developer", "globex": "member"}
    identity = Identity.objects.get()
    assert (identity.issuer, identity.subject) == (provider.issuer, provider.subject)
    assert identity.user.get_full_name() == "Ann Otis"


@EVERY
def test_userinfo_is_read_where_the_site_asks_for_it(
    provider: RealProvider, visitor: Visitor, settings: Settings, calls: list[str]
) -> None:
    settings.OIDC_OP_USER_ENDPOINT = metadata_of(providers.get("default")).userinfo_endpoint
    shows(provider.log_in(visitor), "ann@example.com")
    assert "provider_userinfo" in calls
    assert roles() == {"acme": "developer", "globex": "member"}


@EVERY
@ROTATION
def test_20_requests_at_once_make_one_refresh(
    provider: RealProvider, visitor: Visitor, calls: list[str], rotating: bool
) -> None:
    if rotating:
        provider.rotate_refresh_tokens()
    provider.log_in(visitor)
    first = Grant.objects.get().refresh_token.reveal()
    calls.clear()
    for generation in (2, 3):
        expire_token()
        with ThreadPoolExecutor(20) as pool:
            pages = list(pool.map(lambda _: visitor.get("/page/token/"), range(20)))
        for page in pages:
            shows(page, "ann@example.com")
        assert Grant.objects.get().generation == generation
    assert calls.count("provider_token") == 2
    # Keycloak sends another refresh token each time: what counts is whether an old one still works.
    if rotating:
        eventually(
            lambda: is_rejected(first), lambda: "an old refresh token still works"
        )  # Keycloak counts in whole seconds
    else:
        assert not is_rejected(first)


@EVERY
def test_a_refresh_brings_a_change_of_membership_and_role(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    provider.take_rights()
    expire_token()
    visitor.get("/page/token/")
    eventually(lambda: roles() == {"acme": "member"}, lambda: str(roles()))  # the page does not wait for it


@EVERY
def test_a_log_out_after_a_refresh_ends_the_session_there_too(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    expire_token()
    visitor.get("/page/token/")
    assert visitor.log_out().url.startswith(f"{visitor.site}/partium/login/")
    assert provider.asks_who(visitor.open_login())


@EVERY
def test_without_a_log_out_there_is_single_sign_on(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    visitor.forget_the_site()
    shows(visitor.open_login(), "ann@example.com")


@EVERY
@ROTATION
def test_a_log_out_revokes_the_refresh_token(provider: RealProvider, visitor: Visitor, rotating: bool) -> None:
    if rotating:
        provider.rotate_refresh_tokens()
    provider.log_in(visitor)
    refresh_token = Grant.objects.get().refresh_token.reveal()
    visitor.log_out()
    assert is_rejected(refresh_token)


@EVERY
def test_without_a_refresh_token_the_login_is_repeated_silently(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    lose_refresh_token()
    page = visitor.get("/page/token/")
    assert page.url == f"{visitor.site}/page/token/"
    shows(page, "ann@example.com")


@EVERY
def test_a_silent_login_that_fails_asks_the_person(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    lose_refresh_token()
    visitor.browser.cookies.clear(domain="127.0.0.1")  # the provider's
    page = provider.sign_in(visitor, visitor.get("/page/token/"))
    assert page.url == f"{visitor.site}/page/token/"
    shows(page, "ann@example.com")


@EVERY
def test_a_login_that_is_ended_there_ends_here_at_the_next_refresh(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    login = Grant.objects.get()
    provider.end_logins()
    expire_token()
    visitor.get("/page/token/")
    assert has_ended(login)


@with_providers(*(kind for kind in HOMES if kind.traits.back_channel))
def test_a_log_out_at_the_provider_ends_the_session_here(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    provider.end_logins()
    eventually(lambda: Grant.objects.get().revoked_at is not None, lambda: "no back-channel log-out came")
    shows(visitor.get("/page/home/"), "nobody")


@EVERY
def test_a_person_who_is_disabled_there_is_out_at_the_next_refresh_where_the_provider_looks(
    provider: RealProvider, visitor: Visitor
) -> None:
    provider.log_in(visitor)
    login = Grant.objects.get()
    provider.disable()
    expire_token()
    visitor.get("/page/token/")
    assert has_ended(login) is provider.traits.disabled_ends_login


@EVERY
def test_a_new_key_costs_nobody_a_login_or_a_refresh(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    old = Grant.objects.get().id_token.reveal()
    provider.replace_key()
    expire_token()
    shows(visitor.get("/page/token/"), "ann@example.com")
    eventually(lambda: Grant.objects.get().id_token.reveal() != old, lambda: "the new ID token was not accepted")
    visitor.log_out()
    shows(provider.log_in(visitor), "ann@example.com")


@EVERY
def test_a_wrong_client_secret_is_named_and_logs_nobody_out(
    provider: RealProvider, visitor: Visitor, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    redirect_uri = f"{visitor.site}/partium/callback/default/"
    found = [finding.level for finding in probe_provider(providers.get("default"), redirect_uri)]
    assert found == ["ok", "ok"]
    provider.log_in(visitor)
    right, settings.OIDC_RP_CLIENT_SECRET = settings.OIDC_RP_CLIENT_SECRET, "wrong"
    found = [finding.level for finding in probe_provider(providers.get("default"), redirect_uri)]
    assert found == ["error", "ok"]
    expire_token()
    assert visitor.get("/page/token/").status_code == 503
    assert "No login of oidc:default can be refreshed; their refresh tokens are kept." in caplog.text
    page = provider.log_in(Visitor(visitor.site))
    assert (page.status_code, "is not set up correctly" in page.text) == (503, True)
    settings.OIDC_RP_CLIENT_SECRET = right
    eventually(lambda: visitor.get("/page/token/").status_code == 200, lambda: "the token is not refreshed again")
    assert Grant.objects.get().generation == 2


@EVERY
def test_an_outage_of_the_provider_logs_nobody_out(provider: RealProvider, visitor: Visitor) -> None:
    provider.log_in(visitor)
    with provider.outage():
        Grant.objects.update(issued_at=time.time() - 500)  # due for a refresh, but good for 100 s
        shows(visitor.get("/page/token/"), "ann@example.com")
        expire_token()
        page = visitor.get("/page/token/")
        assert (page.status_code, "Retry-After" in page.headers) == (503, True)
        shows(visitor.get("/page/home/"), "ann@example.com")
    eventually(lambda: visitor.get("/page/token/").status_code == 200, lambda: "the token is not refreshed again")
    assert Grant.objects.get().generation == 2


@EVERY
def test_eight_tabs_log_in_at_once_and_each_comes_to_its_own_page(provider: RealProvider, visitor: Visitor) -> None:
    """Keycloak's other login tabs go on by themselves, all at once, as soon as one of them has logged in."""
    names = [f"tab{number}" for number in range(8)]
    tabs = [visitor.open_login(f"/page/{name}/") for name in names]
    assert all(provider.asks_who(tab) for tab in tabs)
    last = provider.sign_in(visitor, tabs[-1])
    # The provider knows this person now, and asks nothing more.
    again = [next(filter(is_request, (step.headers["Location"] for step in tab.history))) for tab in tabs[:-1]]
    with ThreadPoolExecutor(7) as pool:
        pages = [*pool.map(visitor.wait_for, again), last]
    for name, page in zip(names, pages, strict=True):
        assert page.url == f"{visitor.site}/page/{name}/"
        shows(page, "ann@example.com")
    assert Grant.objects.filter(revoked_at=None).count() == 1


def is_request(url: str) -> bool:
    """Tell whether this is the site's authorization request."""
    return "code_challenge=" in url and "client_id=" in url
