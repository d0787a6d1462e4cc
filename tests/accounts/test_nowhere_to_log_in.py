"""A login page without any way to log in, on a site whose own LOGIN_URL only leads back to it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import requests
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.test import Client
from django.urls import include, path
from django.views.generic import RedirectView

BACKEND = "django.contrib.auth.backends.ModelBackend"
HINT = "OIDC_OP_DISCOVERY_ENDPOINT"


@login_not_required
def by_a_view(request: HttpRequest) -> HttpResponse:
    return redirect("partium_auth:login")


urlpatterns = [
    path("partium/", include("partium_auth.urls")),
    path("by-a-view/", by_a_view),
    path("plain/", RedirectView.as_view(pattern_name="partium_auth:login")),
    path("with-query/", RedirectView.as_view(pattern_name="partium_auth:login", query_string=True)),
]


@pytest.fixture(autouse=True)
def _nothing_is_set_up(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.AUTHENTICATION_BACKENDS = [BACKEND]


@pytest.mark.parametrize("login_url", ["/by-a-view/", "/plain/", "/with-query/"])
def test_a_login_url_that_only_leads_back_ends_in_a_page(
    live_server: Any, settings: Any, login_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.LOGIN_URL = login_url
    with requests.Session() as browser, caplog.at_level(logging.ERROR, "partium_auth"):
        browser.trust_env = False
        browser.max_redirects = 20  # as browsers have it
        page = browser.get(f"{live_server.url}/partium/login/?next=/page/")

    assert page.status_code == 503
    assert "No way to log in has been set up here yet" in page.text
    assert HINT not in page.text  # which is not for visitors
    (record,) = [record for record in caplog.records if record.name == "partium_auth"]
    assert login_url in record.getMessage()
    assert HINT in record.getMessage()


def test_while_debug_is_on_the_page_tells_the_sites_developer_what_to_do(
    client: Client, settings: Any, db: None
) -> None:
    settings.DEBUG, settings.LOGIN_URL = True, "/plain/"
    while (response := client.get("/partium/login/")).status_code == 302:
        continue
    page = response.content.decode()
    assert HINT in page
    assert "/plain/" in page
    settings.LOGIN_URL = "partium_auth:login"
    page = Client().get("/partium/login/").content.decode()
    assert HINT in page
    assert "partium_doctor" in page


def test_somebody_who_comes_back_to_a_login_page_that_works_is_sent_there_again(
    client: Client, settings: Any, db: None
) -> None:
    settings.LOGIN_URL = "/plain/"
    for _visit in range(3):
        assert client.get("/partium/login/").status_code == 302


def test_who_is_logged_in_elsewhere_can_log_out(client: Client, settings: Any, admin_user: Any) -> None:
    settings.LOGIN_URL = "/plain/"
    client.force_login(admin_user, BACKEND)
    response = client.get("/partium/login/")
    page = response.content.decode()
    assert response.status_code == 200
    assert "You are logged in as admin." in page
    assert 'action="/partium/logout/"' in page
    client.post("/partium/logout/")
    assert "_auth_user_id" not in client.session
