"""10 000 organizations with three keys each: as many queries as with a hundred, and at most ten."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from partium_auth.fields import seal
from partium_auth.models import ApiKey, ApiKeyEvent, Membership, Organization, Role
from tests.admin.conftest import login

MOST_QUERIES = 10


def fill(first: int, number: int) -> None:
    now = timezone.now()
    organizations = [
        Organization(org_id=f"org-{n}", display_name=f"Organization {n}") for n in range(first, first + number)
    ]
    Organization.objects.bulk_create(organizations, batch_size=2000)
    rows, kinds = [], itertools.cycle(["accepted", "accepted", "unverified", "accepted", "rejected"])
    one = ApiKey(organization=organizations[0])
    sealed = seal(one, "secret", "x")  # nothing opens it: lists never decrypt
    for organization in organizations:
        for number_of_key in range(3):
            key = ApiKey(
                organization=organization,
                label=f"key {number_of_key} of {organization.org_id}",
                hint=f"{number_of_key:04}",
                fingerprint=f"{organization.org_id}-{number_of_key}",
                verification=next(kinds),
                expires_at=now + dt.timedelta(days=20) if number_of_key == 1 else None,
            )
            key.secret = sealed
            rows.append(key)
    ApiKey.objects.bulk_create(rows, batch_size=2000)
    ApiKeyEvent.objects.bulk_create(
        [ApiKeyEvent(api_key=key, organization_id=key.organization_id, action="added") for key in rows], batch_size=5000
    )


def pages(who: str) -> list[str]:
    site = "partium_keys:partium_auth_"
    some = Organization.objects.get(org_id="org-5")
    lists = [
        reverse(site + "apikey_changelist"),
        reverse(site + "apikey_changelist") + "?q=org-5",
        reverse(site + "apikey_changelist") + "?state=failing",
        reverse(site + "apikey_changelist") + f"?organization={some.pk}",
        reverse(site + "apikey_changelist") + "?o=3.1",
        reverse(site + "apikeyevent_changelist"),
        reverse(site + "apikey_add"),
    ]
    if who == "operator":
        lists += [
            reverse(site + "organization_overview"),
            reverse(site + "organization_overview") + "?health=expiring&page=2",
            reverse(site + "organization_changelist"),
            reverse(site + "organization_changelist") + "?health=failing",
            reverse(site + "organization_changelist") + "?q=org-5",
        ]
    return lists


def queries_of(client: Any, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as caught:
        assert client.get(url).status_code == 200
    assert not any('"secret"' in query["sql"].partition(" FROM ")[0] for query in caught), url
    return len(caught)


@pytest.mark.parametrize("who", ["operator", "developer"])
def test_pages_cost_as_many_queries_with_many_organizations(who: str, db: None) -> None:
    fill(0, 100)
    user = get_user_model().objects.create_user("u", is_superuser=who == "operator")
    if who == "developer":
        Membership.objects.create(user=user, organization=Organization.objects.get(org_id="org-5"), role=Role.DEVELOPER)
    client = login(user)
    client.get(reverse("partium_keys:index"))  # the session is written once
    few = {url: queries_of(client, url) for url in pages(who)}
    fill(100, 9_900)
    many = {url: queries_of(client, url) for url in pages(who)}
    assert max(many.values()) <= MOST_QUERIES, many
    assert many == few


def test_a_page_of_keys_costs_no_query_per_row(db: None) -> None:
    fill(0, 1)
    client = login(get_user_model().objects.create_user("u", is_superuser=True))
    url = reverse("partium_keys:partium_auth_apikey_changelist")
    one = queries_of(client, url)
    fill(1, 30)
    assert queries_of(client, url) <= one + 1  # the filter by organization appears
