"""Against a certified provider, in a real browser: login, refresh over the rotation, two tabs, log-out from both sides."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pytest_django import Settings

from partium_auth.exceptions import CredentialsRejected
from partium_auth.models import ClientKey, Grant, Identity, Membership
from partium_auth.oidc import providers, token_endpoint
from partium_auth.services import add_member, create_client_key
from partium_auth.services.client_keys import OVERLAP

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def sign_in(page: Any, name: str = "ann") -> None:
    """At the provider: a name, any password, and consent."""
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", "anything")
    page.click("button[type=submit]")
    page.wait_for_selector("text=Authorize")
    page.click("button[type=submit]")


def log_in(context: Any, site: str, next_url: str = "/page/one/") -> Any:
    page = context.new_page()
    page.goto(f"{site}/partium/login/?next={next_url}")
    page.click("a.partium-button")
    sign_in(page)
    page.wait_for_url(f"{site}{next_url}")
    return page


def test_login_opens_a_session_with_everything_that_the_provider_says(
    context: Any, live_server: Any, issuer: str
) -> None:
    page = log_in(context, live_server.url)
    assert page.inner_text("#who") == "ann@example.com"
    assert page.inner_text("#organization") == "Acme"
    identity = Identity.objects.get()
    assert (identity.issuer, identity.subject) == (issuer, "ann")
    assert Membership.objects.get().organization.org_id == "acme"
    grant = Grant.objects.get()
    assert grant.session_id
    assert grant.refresh_token is not None


def test_the_token_is_refreshed_over_the_rotation_of_the_refresh_token(
    context: Any, live_server: Any, issuer: str
) -> None:
    page = log_in(context, live_server.url, "/page/token/")
    seen = set()
    for _ in range(3):
        grant = Grant.objects.get()
        seen.add((grant.access_token.reveal(), grant.refresh_token.reveal()))
        Grant.objects.update(issued_at=time.time() - 599)
        page.goto(f"{live_server.url}/page/token/")
        assert page.inner_text("#who") == "ann@example.com"
    grant = Grant.objects.get()
    assert len(seen) == 3
    assert grant.generation == 4
    assert (grant.access_token.reveal(), grant.refresh_token.reveal()) not in seen


def test_a_refresh_token_that_was_used_is_told_apart_from_other_failures(
    context: Any, live_server: Any, issuer: str, settings: Settings
) -> None:
    log_in(context, live_server.url)
    op, refresh_token = providers.get("default"), Grant.objects.get().refresh_token.reveal()
    assert token_endpoint.refresh(op, refresh_token).refresh_token not in (None, refresh_token)
    with pytest.raises(CredentialsRejected):
        token_endpoint.refresh(op, refresh_token)


def test_without_a_refresh_token_the_login_is_repeated_silently(context: Any, live_server: Any, issuer: str) -> None:
    page = log_in(context, live_server.url)
    Grant.objects.update(refresh_token=None, issued_at=time.time() - 3600, authenticated_at=time.time() - 3600)
    page.goto(f"{live_server.url}/page/token/")
    assert page.url == f"{live_server.url}/page/token/"
    assert page.inner_text("#who") == "ann@example.com"
    assert Grant.objects.filter(revoked_at=None).count() == 1
    assert Grant.objects.count() == 2


def test_where_the_provider_has_to_ask_it_is_no_longer_silent(context: Any, live_server: Any, issuer: str) -> None:
    page = log_in(context, live_server.url)
    # This provider takes the person's consent away together with the refresh token.
    token_endpoint.revoke(providers.get("default"), Grant.objects.get().refresh_token.reveal())
    Grant.objects.update(issued_at=time.time() - 3600, authenticated_at=time.time() - 3600)
    page.goto(f"{live_server.url}/page/token/")
    page.click("text=Continue")
    page.wait_for_url(f"{live_server.url}/page/token/")
    assert page.inner_text("#who") == "ann@example.com"


def test_adding_a_key_asks_for_a_fresh_login_and_comes_back(
    context: Any, live_server: Any, issuer: str, settings: Settings
) -> None:
    settings.PARTIUM_FRESH_LOGIN_MINUTES = 10
    page = log_in(context, live_server.url)
    claimed = Membership.objects.get()
    add_member(claimed.organization, claimed.user, actor=None, role="developer")
    add = f"{live_server.url}/keys/partium_auth/apikey/add/"
    page.goto(add)
    page.click("a.partium-button")  # the provider says when, and need not ask
    page.wait_for_selector("input[name=value]")
    assert page.url == add
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"max_age": 0}
    Grant.objects.update(auth_time=time.time() - 601)
    page.goto(add)
    page.click("a.partium-button")
    page.fill("input[name=login]", "ann")  # now it has to; the consent stays
    page.fill("input[name=password]", "anything")
    page.click("button[type=submit]")
    page.wait_for_selector("input[name=value]")
    assert page.url == add


def test_two_tabs_log_in_at_once_and_each_returns_to_its_own_page(context: Any, live_server: Any, issuer: str) -> None:
    one, two = context.new_page(), context.new_page()
    for page, name in ((one, "one"), (two, "two")):
        page.goto(f"{live_server.url}/partium/login/?next=/page/{name}/")
    one.click("a.partium-button")
    one.wait_for_selector("input[name=login]")
    two.click("a.partium-button")
    two.wait_for_selector("input[name=login]")
    sign_in(one)
    one.wait_for_url(f"{live_server.url}/page/one/")
    two.goto(f"{live_server.url}/partium/login/default/?next=/page/two/")
    two.wait_for_url(f"{live_server.url}/page/two/")
    assert one.inner_text("#who") == two.inner_text("#who") == "ann@example.com"


def test_logging_out_here_logs_out_there(context: Any, live_server: Any, issuer: str) -> None:
    page = log_in(context, live_server.url)
    page.click("text=Log out")
    page.wait_for_selector("button[name=logout]")  # the provider asks
    page.click("button[name=logout]")
    page.wait_for_url(f"{live_server.url}/partium/login/**")
    page.click("a.partium-button")
    assert page.wait_for_selector("input[name=login]")
    assert Grant.objects.get().revoked_at is not None


@pytest.mark.parametrize("issuer", ["strict"], indirect=True)
def test_with_pushed_requests_and_a_key_pair_instead_of_a_secret(context: Any, live_server: Any, issuer: str) -> None:
    create_client_key(None, actor=None)  # it is published, and signs from tomorrow on
    seen: list[str] = []
    context.on("request", lambda request: seen.append(request.url))
    page = log_in(context, live_server.url, "/page/token/")
    assert page.inner_text("#who") == "ann@example.com"
    (url,) = (url for url in seen if url.startswith(f"{issuer}/auth?"))
    assert parse_qs(urlsplit(url).query).keys() == {"client_id", "request_uri"}

    def refresh() -> str:
        Grant.objects.update(issued_at=time.time() - 599)
        page.goto(f"{live_server.url}/page/token/")
        grant = Grant.objects.get()
        assert grant.refresh_token is not None
        return str(grant.refresh_token.reveal())

    before = refresh()
    for key in ClientKey.objects.all():
        key.used_from -= OVERLAP
        key.save()
    after = refresh()
    assert before != after
    assert Grant.objects.get().generation == 3
    page.click("text=Log out")
    page.wait_for_selector("button[name=logout]")
    with pytest.raises(CredentialsRejected):  # it was revoked there
        token_endpoint.refresh(providers.get("default"), after)


def test_logging_out_at_the_provider_logs_out_here(context: Any, live_server: Any, issuer: str) -> None:
    page = log_in(context, live_server.url)
    elsewhere = context.new_page()
    elsewhere.goto(f"{issuer}/session/end")
    elsewhere.click("button[name=logout]")
    until(lambda: Grant.objects.get().revoked_at is not None)
    page.goto(f"{live_server.url}/page/one/")
    assert page.inner_text("#who") == "nobody"
