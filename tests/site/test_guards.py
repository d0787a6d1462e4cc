"""``organization_required`` and ``OrganizationRequiredMixin``: who gets in, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View

from partium_auth.models import Membership
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.views import OrganizationRequiredMixin, organization_required

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
NEEDS_LOGIN = {"error": "login_required", "login_url": "/partium/login/"}


@organization_required
def view(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(f"view {number}")


@organization_required
async def aview(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(f"view {number}")


class ClassView(OrganizationRequiredMixin, View):
    def get(self, request: HttpRequest, number: int) -> HttpResponse:
        return HttpResponse(f"view {number}")


class AsyncClassView(OrganizationRequiredMixin, View):
    async def get(self, request: HttpRequest, number: int) -> HttpResponse:
        return HttpResponse(f"view {number}")


@organization_required
def token(request: Any) -> HttpResponse:
    return HttpResponse(request.partium.organization.org_id + request.partium.token().organization.org_id)


urlpatterns: list[Any] = [
    path("partium/", include("partium_auth.urls")),
    path("view/<int:number>/", view),
    path("aview/<int:number>/", aview),
    path("class/<int:number>/", ClassView.as_view()),
    path("aclass/<int:number>/", AsyncClassView.as_view()),
    path("token/", token),
]
every_view = pytest.mark.parametrize("url", ["/view/7/", "/aview/7/", "/class/7/", "/aclass/7/"])


@pytest.fixture(params=["Client", "AsyncClient"])
def get(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Send a request through WSGI's handler, or ASGI's."""

    def asked(url: str, headers: dict[str, str], *, cookies: Any = None) -> Any:
        client: Any = Client() if request.param == "Client" else AsyncClient()
        client.cookies = cookies or client.cookies
        response = client.get if request.param == "Client" else async_to_sync(client.get)
        return response(url, headers=headers)

    return asked


def end_login(person: PartiumUser) -> None:
    person.grant.revoked_at = timezone.now()
    person.grant.save()


@every_view
def test_a_member_gets_in(partium_user: PartiumUser, get: Callable[..., Any], url: str) -> None:
    assert get(url, PAGE, cookies=partium_user.client.cookies).content == b"view 7"


@pytest.mark.parametrize("is_login_required", [False, True], ids=["", "LoginRequiredMiddleware"])
@every_view
def test_a_visitor_is_asked_to_log_in(
    get: Callable[..., Any], settings: Any, url: str, is_login_required: bool
) -> None:
    if is_login_required:
        required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], required, settings.MIDDLEWARE[-1]]
    page, script = get(url, PAGE), get(url, SCRIPT)
    assert (page.status_code, page["Location"]) == (302, f"/partium/login/?next={url.replace('/', '%2F')}")
    assert (script.status_code, script.json()) == (401, NEEDS_LOGIN)


@every_view
def test_a_login_that_has_ended_is_asked_for_again(
    partium_user: PartiumUser, get: Callable[..., Any], url: str
) -> None:
    end_login(partium_user)
    response = get(url, SCRIPT, cookies=partium_user.client.cookies)
    assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)


@every_view
@pytest.mark.parametrize("headers", [PAGE, SCRIPT], ids=["page", "script"])
def test_a_person_without_an_organization_is_told_so(
    partium_user: PartiumUser, get: Callable[..., Any], url: str, headers: dict[str, str]
) -> None:
    Membership.objects.all().delete()
    response = get(url, headers, cookies=partium_user.client.cookies)
    assert response.status_code == 403
    if headers is SCRIPT:
        assert response.json()["error"] == "no_organization"
    else:
        assert "You do not belong to an organization here" in response.content.decode()


@pytest.mark.parametrize("url", ["/view/7/", "/class/7/", "/token/"])
def test_it_costs_one_read_and_the_view_has_it_for_nothing(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox, django_assert_num_queries: Any, url: str
) -> None:
    calls_before = len(partium_sandbox.calls())
    with django_assert_num_queries(3):  # the host's own two: session and user
        assert partium_user.client.get(url).status_code == 200
    assert len(partium_sandbox.calls()) == calls_before


def test_a_guarded_view_is_still_what_it_was() -> None:
    @organization_required
    @csrf_exempt
    def exempt(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert exempt.csrf_exempt  # type: ignore[attr-defined]
    assert exempt.__name__ == "exempt"
    assert AsyncClassView.as_view().view_class is AsyncClassView
    assert [iscoroutinefunction(each) for each in (exempt, aview, AsyncClassView.as_view())] == [False, True, True]


def test_a_dispatch_of_the_sites_own_cannot_go_around_it(client: Client) -> None:
    class Own(OrganizationRequiredMixin, LoginRequiredMixin, View):
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            raise AssertionError("It ran for a visitor.")

    urlpatterns.append(path("own/", Own.as_view()))
    try:
        assert client.get("/own/", headers=SCRIPT).status_code == 401
    finally:
        urlpatterns.pop()
