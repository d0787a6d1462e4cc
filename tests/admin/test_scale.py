"""10 000 organizations with three keys each: as many queries as with a hundred, and at most ten."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from benchmarks.administration import fill, pages
from partium_auth.models import Membership, Organization, Role
from tests.admin.conftest import login

MOST_QUERIES = 10


def queries_of(client: Any, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as caught:
        assert client.get(url).status_code == 200
    assert not any('"secret"' in query["sql"].partition(" FROM ")[0] for query in caught), url
    return len(caught)


def test_pages_cost_as_many_queries_with_many_organizations(db: None) -> None:
    fill(0, 100)
    operator, developer = (
        get_user_model().objects.create_user(name, is_superuser=name == "op") for name in ("op", "dev")
    )
    Membership.objects.create(
        user=developer, organization=Organization.objects.get(org_id="org-5"), role=Role.DEVELOPER
    )
    visits = [(login(operator), url) for url in pages(operator=True)]
    visits += [(login(developer), url) for url in pages(operator=False)]
    for client, _ in visits:
        client.get(reverse("partium_keys:index"))  # the session is written once
    # Where a search finds nothing, there are no rows to fetch.
    few = [(url, queries_of(client, url)) for client, url in visits if not url.endswith("5123")]
    fill(100, 9_900)
    if connection.vendor == "postgresql":  # what autovacuum does; MariaDB would commit
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    many = [(url, queries_of(client, url)) for client, url in visits]
    assert max(queries for _, queries in many) <= MOST_QUERIES, many
    assert [(url, queries) for url, queries in many if not url.endswith("5123")] == few


def test_a_page_of_keys_costs_no_query_per_row(db: None) -> None:
    fill(0, 1)
    client = login(get_user_model().objects.create_user("u", is_superuser=True))
    url = reverse("partium_keys:partium_auth_apikey_changelist")
    one = queries_of(client, url)
    fill(1, 30)
    assert queries_of(client, url) <= one + 1  # the filter by organization appears
