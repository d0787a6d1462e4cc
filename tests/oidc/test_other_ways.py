"""Other ways into and out of the code flow: the provider's form, and logins that start elsewhere."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider

pytestmark = pytest.mark.django_db
CALLBACK = "/partium/callback/default/"


def fields(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page)
    return {name: unescape(value) for name, value in found}


def test_a_response_in_a_form_is_posted_again_from_this_site(op: BendableProvider, settings: Settings) -> None:
    """``response_mode=form_post``: the provider's own POST comes without the cookies of this site (SameSite=Lax)."""
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"response_mode": "form_post"}
    browser = Browser(op, Client(enforce_csrf_checks=True))
    answer = op.authorize(browser.start(next="/page/"))
    first = Client(enforce_csrf_checks=True).post(CALLBACK, {**answer, "more": "ignored"})
    page = first.content.decode()
    assert first.status_code == 200
    assert "no-store" in first.headers["Cache-Control"]
    assert "<button" in page  # without JavaScript
    assert f'action="{CALLBACK}"' in page
    assert "more" not in fields(page)
    assert op.calls.count("/token") == 0
    assert browser.client.post(CALLBACK, fields(page)).headers["Location"] == "/page/"


def test_the_page_that_posts_itself_has_the_nonce_of_the_sites_csp(
    op: BendableProvider, rf: Any, settings: Settings
) -> None:
    from partium_auth.accounts.code_flow_views import oidc_callback

    request = rf.post(CALLBACK, {"state": "x", "code": "<script>"})
    request.csp_nonce = "abc123"  # as django-csp sets it
    response = oidc_callback(request, "default")
    assert isinstance(response, HttpResponse)
    page = response.content.decode()
    assert '<script nonce="abc123">' in page
    assert "&lt;script&gt;" in page


class _LazyNonce:
    """As Django's and django-csp's: false until it is used, and only a nonce that was used gets into the policy."""

    used = False

    def __bool__(self) -> bool:
        return self.used

    def __str__(self) -> str:
        self.used = True
        return "lazy123"


def test_the_page_that_posts_itself_uses_a_lazy_nonce(op: BendableProvider, rf: Any, settings: Settings) -> None:
    from partium_auth.accounts.code_flow_views import oidc_callback

    request = rf.post(CALLBACK, {"state": "x"})
    request.csp_nonce = nonce = _LazyNonce()
    response = oidc_callback(request, "default")
    assert isinstance(response, HttpResponse)
    assert '<script nonce="lazy123">' in response.content.decode()
    assert nonce.used


def test_a_form_of_an_unknown_state_logs_nobody_in_or_out(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    answer = op.authorize(Browser(op).start())  # another browser's
    page = browser.client.post(CALLBACK, answer).content.decode()
    response = browser.client.post(CALLBACK, fields(page))
    assert response.status_code == 400
    assert browser.user is not None


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_login_may_start_elsewhere(op: BendableProvider, method: str) -> None:
    """Third-party initiated login (Core §4)."""
    client = Client(enforce_csrf_checks=True)
    parameters = {"iss": op.issuer, "target_link_uri": "http://testserver/page/", "login_hint": "ann@example.com"}
    response = getattr(client, method)("/partium/login/default/", parameters)
    url = response.headers["Location"]
    assert "login_hint=ann%40example.com" in url
    assert Browser(op, client).come_back(op.authorize(url)).headers["Location"] == "http://testserver/page/"


def test_a_login_that_starts_elsewhere_leads_to_no_other_site(browser: Browser, op: BendableProvider) -> None:
    response = browser.log_in(iss=op.issuer, target_link_uri="https://evil.example/")
    assert response.headers["Location"] == "/home/"


def test_a_login_that_starts_elsewhere_names_this_provider(browser: Browser, op: BendableProvider) -> None:
    response = browser.client.get("/partium/login/default/", {"iss": "https://evil.example"})
    assert response.status_code == 400
    assert "Location" not in response.headers
