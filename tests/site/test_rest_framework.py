"""``partium_auth.contrib.drf``: the permission and the exception handler, as a site of Django REST framework uses them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client, modify_settings
from django.urls import include, path
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.views import APIView

from partium_auth import exceptions
from partium_auth.contrib.drf import HasOrganization
from partium_auth.models import Membership
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from tests.site.test_guards import NEEDS_LOGIN, PAGE, SCRIPT, end_login
from tests.site.test_requests import EVERY_ERROR
from tests.site.views import failing

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Organization(APIView):  # type: ignore[misc]
    permission_classes = (HasOrganization,)

    def get(self, request: Any) -> Response:
        return Response({"organization": request.partium.organization.org_id})


class BasicFirst(Organization):
    authentication_classes = (BasicAuthentication, SessionAuthentication)


class MemberOrStaff(APIView):  # type: ignore[misc]
    permission_classes = (HasOrganization | IsAdminUser,)

    def get(self, request: Any) -> Response:
        if "denied" in request.GET:
            raise PermissionDenied("Of the site.")
        return Response({"staff": request.user.is_staff})


class Failing(APIView):  # type: ignore[misc]
    permission_classes = ()

    def get(self, request: Any, name: str) -> Response:
        error = getattr(exceptions, name, RuntimeError)
        get_user_model().objects.create(username="made-before-the-error")
        raise error("SECRET-DETAIL for developers")


class Search(APIView):  # type: ignore[misc]
    permission_classes = (HasOrganization,)

    def get(self, request: Any) -> Response:
        return Response([part.name for part in request.partium.client.search(text="fan").results])


urlpatterns: list[Any] = [
    path("partium/", include("partium_auth.urls")),
    path("organization/", Organization.as_view()),
    path("basic/", BasicFirst.as_view()),
    path("member-or-staff/", MemberOrStaff.as_view()),
    path("failing/<str:name>/", Failing.as_view()),
    path("plain/<str:name>/", failing),
    path("search/", Search.as_view()),
]


@pytest.fixture
def handler(settings: Any) -> None:
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": "partium_auth.contrib.drf.exception_handler"}


def make_staff(person: PartiumUser) -> None:
    Membership.objects.all().delete()
    person.user.is_staff = True
    person.user.save()


# --- the permission -----------------------------------------------------------------------------------------------------


def test_a_member_gets_in_for_one_read(partium_user: PartiumUser, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):  # the host's own two: session and user
        assert partium_user.client.get("/organization/").json() == {"organization": "acme"}


@pytest.mark.parametrize("url", ["/organization/", "/basic/", "/member-or-staff/"])
@pytest.mark.usefixtures("handler")
def test_a_visitor_is_told_where_to_log_in(client: Client, url: str) -> None:
    response = client.get(url, headers=SCRIPT)
    assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)


@pytest.mark.usefixtures("handler")
def test_a_visitors_browser_is_sent_to_the_login_page(client: Client) -> None:
    assert client.get("/organization/", headers=PAGE)["Location"] == "/partium/login/?next=%2Forganization%2F"


@pytest.mark.usefixtures("handler")
def test_a_login_that_has_ended_is_asked_for_again(partium_user: PartiumUser) -> None:
    end_login(partium_user)
    response = partium_user.client.get("/organization/", headers=SCRIPT)
    assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)


@pytest.mark.usefixtures("handler")
def test_a_person_without_an_organization_is_told_so(partium_user: PartiumUser) -> None:
    Membership.objects.all().delete()
    response = partium_user.client.get("/organization/", headers=SCRIPT)
    assert (response.status_code, response.json()["error"]) == (403, "no_organization")


def test_rest_frameworks_own_handler_tells_the_reason(client: Client, partium_user: PartiumUser) -> None:
    assert client.get("/organization/", headers=SCRIPT).status_code == 403
    assert client.get("/basic/", headers=SCRIPT).status_code == 401
    ended = Client()
    ended.cookies = partium_user.client.cookies
    Membership.objects.all().delete()
    response: Any = ended.get("/organization/", headers=SCRIPT)
    assert (response.status_code, response.data["detail"].code) == (403, "no_organization")
    assert "You do not belong to an organization here" in response.data["detail"]


def test_rest_frameworks_own_handler_asks_for_another_login(partium_user: PartiumUser) -> None:
    end_login(partium_user)
    response: Any = partium_user.client.get("/organization/", headers=SCRIPT)
    assert (response.status_code, response.data["detail"].code) == (403, "login_required")
    assert response.data["detail"] == "Log in again."


@pytest.mark.usefixtures("handler")
def test_it_can_be_combined_with_other_permissions(partium_user: PartiumUser) -> None:
    assert partium_user.client.get("/member-or-staff/").json() == {"staff": False}
    make_staff(partium_user)
    assert partium_user.client.get("/member-or-staff/").json() == {"staff": True}


@pytest.mark.usefixtures("handler")
def test_a_refusal_of_the_site_has_the_sites_reason(partium_user: PartiumUser) -> None:
    make_staff(partium_user)
    response = partium_user.client.get("/member-or-staff/?denied", headers=SCRIPT)
    assert (response.status_code, response.json()) == (403, {"detail": "Of the site."})


@pytest.mark.usefixtures("handler")
def test_the_browsable_api_shows_what_a_member_may_see(partium_user: PartiumUser) -> None:
    with modify_settings(INSTALLED_APPS={"append": "rest_framework"}):
        page = partium_user.client.get("/organization/", headers=PAGE)
    assert page.status_code == 200
    assert "acme" in page.content.decode()


# --- the exception handler ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_ERROR)
@pytest.mark.parametrize("headers", [PAGE, SCRIPT], ids=["page", "script"])
@pytest.mark.usefixtures("handler")
def test_every_error_has_the_middlewares_answer(client: Client, name: str, headers: dict[str, str]) -> None:
    rest: Any = client.get(f"/failing/{name}/", headers=headers)
    plain = client.get(f"/plain/{name}/", headers=headers)
    assert rest.status_code == plain.status_code
    for header in ("Retry-After", "Cache-Control"):
        assert rest.get(header) == plain.get(header)
    assert {"Accept", "Cookie"} <= set(rest["Vary"].split(", "))
    if headers is SCRIPT:
        assert rest.data == plain.json() == rest.json()


@pytest.mark.usefixtures("handler")
def test_what_partium_asks_for_is_passed_on(partium_user: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    assert partium_user.client.get("/search/", headers=SCRIPT).json()
    with partium_sandbox.fail("search", status=503, retry_after=7):
        response = partium_user.client.get("/search/", headers=SCRIPT)
    assert (response.status_code, response["Retry-After"]) == (503, "7")


@pytest.mark.usefixtures("handler")
def test_errors_of_the_site_are_the_sites(client: Client) -> None:
    with pytest.raises(RuntimeError):
        client.get("/failing/OfTheSite/", headers=SCRIPT)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("handler")
def test_what_the_view_wrote_is_rolled_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert client.get("/failing/UpstreamError/", headers=SCRIPT).status_code == 503
    assert not get_user_model().objects.exists()


@pytest.mark.usefixtures("handler")
def test_django_does_not_log_each_of_these_answers_once_more(
    partium_user: PartiumUser, caplog: pytest.LogCaptureFixture
) -> None:
    assert partium_user.client.get("/failing/TokenUnavailable/", headers=SCRIPT).status_code == 503
    assert not [record for record in caplog.records if record.name == "django.request"]
