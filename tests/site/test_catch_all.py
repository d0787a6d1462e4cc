"""A site with a catch-all route: a path that begins with two slashes must not become a link to another host."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path, re_path

from partium_auth.accounts.redirects import login_url, may_repeat, repeat
from partium_auth.exceptions import TokenUnavailable

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def unavailable(request: HttpRequest, rest: str) -> HttpResponse:
    raise TokenUnavailable("not now", retry_after=60)


def sent_again(request: HttpRequest, rest: str) -> HttpResponse:
    assert may_repeat(request)
    return repeat(request)


def next_of_login(request: HttpRequest, rest: str) -> HttpResponse:
    return HttpResponse(login_url(request))


urlpatterns: list[Any] = [
    path("partium/", include("partium_auth.urls")),
    re_path(r"^(/?evil.example/again.*)$", sent_again),
    re_path(r"^(/?evil.example/next.*)$", next_of_login),
    re_path(r"^(.*)$", unavailable),
]


@pytest.fixture
def browser() -> Client:
    return Client(headers={"Accept": "text/html"})


@pytest.mark.parametrize("path", ["//evil.example/x?a=1", "///evil.example/x"])
def test_try_again_stays_on_the_site(browser: Client, path: str) -> None:
    page = browser.generic("GET", "/", PATH_INFO=path.partition("?")[0], QUERY_STRING=path.partition("?")[2])
    assert page.status_code == 503
    assert f'href="/%2F{path.removeprefix("//").replace("&", "&amp;")}"' in page.content.decode()


def test_a_redirect_to_the_same_page_stays_on_the_site(browser: Client) -> None:
    response = browser.generic("GET", "/", PATH_INFO="//evil.example/again")
    assert response.headers["Location"] == "/%2Fevil.example/again"


def test_a_login_comes_back_to_the_same_page(browser: Client) -> None:
    page = browser.generic("GET", "/", PATH_INFO="//evil.example/next")
    assert page.content.decode() == "/partium/login/?next=%2F%252Fevil.example%2Fnext"
