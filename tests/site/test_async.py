"""Async views: what does I/O is awaited, and what is not awaited says what to await."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from partium_auth import services
from partium_auth.models import Organization
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import access

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.site.urls")]


@async_to_sync
async def aget(partium_user: PartiumUser, path: str) -> Any:
    client = AsyncClient()
    client.cookies = partium_user.client.cookies
    return await client.get(path)


@pytest.mark.parametrize("source", Organization.TokenSource)
def test_a_search_in_an_async_view_works_cold_and_warm(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox, source: Organization.TokenSource
) -> None:
    organization = partium_user.organization
    services.add_key(organization, partium_sandbox.add_key("acme"), label="shop", actor=None)
    services.change_organization(organization, actor=None, token_source=source)
    access.forget_all()  # cold
    for _ in range(2):
        assert aget(partium_user, "/asearch/?text=fan").json()["names"]
    calls = partium_sandbox.calls(endpoint="search")[-2:]
    assert [call.organization for call in calls] == ["acme", "acme"]
    shared = source != Organization.TokenSource.USER
    assert [bool(call.external_user_id) for call in calls] == [shared, shared]


def test_the_client_can_be_named_in_a_template_of_an_async_view(partium_user: PartiumUser) -> None:
    page = aget(partium_user, "/client-in-a-template/").content.decode()
    assert page == "&lt;FindClient of a session&gt;"


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("organization", "await request.partium.aorganization()"),
        ("organizations", "await request.partium.aorganizations()"),
        ("switch_organization", "await request.partium.aswitch_organization(…)"),
        ("access_token", "await request.partium.atoken()"),
        ("token", "await request.partium.atoken()"),
        ("state", "await request.partium.astate()"),
        ("search", "await client.asearch(…)"),
        ("request", "await client.asearch(…)"),
        ("for_organization", "await partium_auth.afor_organization(…)"),
        ("for_user", "await partium_auth.afor_user(…)"),
        ("sdk", "await sync_to_async(render)(request, …)"),
    ],
)
def test_what_is_not_awaited_says_what_to_await(partium_user: PartiumUser, name: str, twin: str) -> None:
    assert twin in aget(partium_user, f"/blocking/{name}/").content.decode()


def test_a_page_with_the_sdk_is_rendered_in_a_thread(partium_user: PartiumUser) -> None:
    assert "/partium/token/" in aget(partium_user, "/asdk/").content.decode()
