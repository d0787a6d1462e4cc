"""Who comes to the key site and may not enter: a page that says what this place is, why, and what to do next."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from partium_auth.models import Membership, Organization
from tests.admin.conftest import Tenant, login
from tests.admin.test_german import GERMAN, assert_german, restored_language  # noqa: F401
from tests.admin.test_languages import Shown


def words_of(response: Any) -> str:
    return " ".join(" ".join(Shown(response.content.decode()).texts).split())


def enter(client: Client, path: str = "") -> Any:
    return client.get(path or reverse("partium_keys:index"), follow=True)


def test_a_member_reads_what_this_is_why_and_what_to_do(ours: Tenant, theirs: Tenant) -> None:
    response = enter(login(ours.member))

    assert response.status_code == 403
    text = words_of(response)
    assert "Developers manage their organization's API keys here" in text
    assert "You are logged in as aardvark-member." in text
    assert "You are a member of: aardvark display." in text
    assert "a developer in your organization" in text
    assert "badger" not in text
    assert "aardvark-dev" not in text  # who the others are is nobody's business
    assert "no-store" in response.headers["Cache-Control"]


def test_somebody_without_an_organization_is_sent_to_the_sites_operators(db: None) -> None:
    text = words_of(enter(login(get_user_model().objects.create_user("nobody", password="pw"))))
    assert "You are a member of" not in text
    assert "not a member of any organization" in text
    assert "the people who run this site" in text


def test_a_developer_of_an_organization_that_was_deactivated_is_told_the_same(ours: Tenant) -> None:
    Organization.objects.update(is_active=False)
    text = words_of(enter(login(ours.developer)))
    assert "not a member of any organization" in text


def test_of_many_organizations_some_are_named(
    ours: Tenant, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        organization = Organization.objects.create(org_id=f"org-{number:02}")
        Membership.objects.create(user=ours.member, organization=organization)
    client = login(ours.member)
    with django_assert_max_num_queries(10):
        text = words_of(enter(client))
    assert "org-05" in text
    assert "org-29" not in text
    assert ", …" in text


def test_from_there_one_can_log_in_as_somebody_else_and_come_back(ours: Tenant) -> None:
    wanted = reverse("partium_keys:partium_auth_apikey_changelist")
    page = enter(login(ours.member), wanted).content.decode()
    assert f'href="{reverse("partium_auth:login")}?next={wanted.replace("/", "%2F")}"' in page


def test_from_there_one_can_log_out(ours: Tenant) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ours.member, "django.contrib.auth.backends.ModelBackend")
    response = enter(client)
    assert f'action="{reverse("partium_auth:logout")}"' in response.content.decode()
    client.post(reverse("partium_auth:logout"), {"csrfmiddlewaretoken": response.context["csrf_token"]})
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "/" + "x" * 4000])
def test_no_link_leads_to_another_site(ours: Tenant, target: str) -> None:
    page = login(ours.member).get(reverse("partium_keys:login"), {"next": target}).content.decode()
    assert "evil.example" not in page
    assert f"?next={reverse('partium_keys:index').replace('/', '%2F')}" in page


def test_in_german(ours: Tenant) -> None:
    client = login(ours.member)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = GERMAN["Accept-Language"]
    assert_german(
        enter(client), "Sie sind angemeldet als aardvark-member.", "Abmelden", "Mit einem anderen Konto anmelden"
    )
