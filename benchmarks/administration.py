"""How long the key admin's pages take an operator, with a hundred organizations and with many. Three keys each."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client, override_settings
from django.urls import path, reverse
from django.utils import timezone

from partium_auth.admin import key_site
from partium_auth.fields import seal
from partium_auth.models import ApiKey, AuditEvent, Organization

FEW = 100
KINDS = ("first", "second", "backup")
SHARED = "5" * 64  # the fingerprint of a key that two of the first hundred have
ROUNDS = 25
AIM_MS = 150  # with 10,000 organizations

urlpatterns = [path("keys/", key_site.urls)]


def fill(first: int, number: int) -> None:
    """Make organizations ``org-<first>`` and on, with three keys each.

    Half of them are failing and four in ten expire soon, so that a page of those is about as long with a hundred.
    """
    soon = timezone.now() + dt.timedelta(days=20)
    organizations = [
        Organization(org_id=f"org-{n}", display_name=f"Organization {n} {'East' if n % 2 else 'West'}")
        for n in range(first, first + number)
    ]
    Organization.objects.bulk_create(organizations, batch_size=2000)
    rows = []
    sealed = seal(ApiKey(organization=organizations[0]), "secret", "x")  # nothing opens it: lists never decrypt
    for n, organization in enumerate(organizations, first):
        verification = "rejected" if n % 2 else "unverified" if n % 20 == 10 else "accepted"
        for number_of_key in range(3):
            key = ApiKey(
                organization=organization,
                label=f"{'legacy' if n == 5 else KINDS[number_of_key]} key of {organization.org_id}",
                hint=f"{number_of_key:04}",
                fingerprint=SHARED if n in {1, 2} and number_of_key == 0 else secrets.token_hex(32),
                verification=verification,
                expires_at=soon if number_of_key == 1 or n % 20 else None,
            )
            key.secret = sealed
            rows.append(key)
    ApiKey.objects.bulk_create(rows, batch_size=2000)
    AuditEvent.objects.bulk_create(
        [AuditEvent(api_key=key, organization_id=key.organization_id, action="key_added") for key in rows],
        batch_size=5000,
    )


def pages(*, operator: bool) -> list[str]:
    """The addresses of the pages that could take longer the more organizations there are."""
    site = "partium_keys:partium_auth_"
    keys, some = reverse(site + "apikey_changelist"), Organization.objects.get(org_id="org-5")
    lists = [
        keys,
        # As many rows on a page with many organizations as with a hundred, so that the search is what differs.
        f"{keys}?q=organization",  # all of them
        f"{keys}?q=east",  # every second, by its organization
        f"{keys}?q=backup",  # every third, by its label
        f"{keys}?q=legacy",  # three
        f"{keys}?q=no-such-thing",
        f"{keys}?state=failing",
        f"{keys}?organization={some.pk}",
        f"{keys}?o=3.1",
        reverse(site + "auditevent_changelist"),
        reverse(site + "apikey_add"),
    ]
    if operator:
        overview, organizations = reverse(site + "organization_overview"), reverse(site + "organization_changelist")
        lists += [
            overview,
            f"{overview}?key_status=expiring&page=2",
            organizations,
            f"{organizations}?key_status=failing",
            f"{organizations}?q=organization",
            f"{organizations}?q=east",  # every second
            f"{organizations}?q=%22organization+5+east%22",  # one
            f"{organizations}?q=no-such-thing",
        ]
    return lists


@override_settings(ROOT_URLCONF="benchmarks.administration")
def measure(number: int, say: Callable[[str], None]) -> None:
    """Print the table.

    Args:
        number: of organizations, to compare a hundred with.
    """
    fill(0, FEW)
    client = Client()
    client.force_login(get_user_model().objects.create_user("operator", is_superuser=True))
    few = {url: _measured(client, url) for url in pages(operator=True)}
    fill(FEW, number - FEW)
    upkeep = {"postgresql": "VACUUM ANALYZE", "sqlite": "ANALYZE"}.get(connection.vendor)
    if upkeep:
        with connection.cursor() as cursor:
            cursor.execute(upkeep)  # what autovacuum does for a site, a little later
    say(f"{'Elapsed time of a page, and its rows':46} {FEW:>9,}      {number:>12,}          aim  organizations")
    for url in pages(operator=True):
        (before, rows_before), (after, rows_after) = few[url], _measured(client, url)
        shown = url.partition("/partium_auth/")[2]
        shown = shown.partition("organization=")[0] + "organization=…" if "organization=" in shown else shown
        say(f"{shown:46} {before:6.1f} ms {rows_before:4} {after:9.1f} ms {rows_after:4} {AIM_MS:>7} ms")


def _measured(client: Any, url: str) -> tuple[float, int]:
    """Return the milliseconds of the quickest of some rounds, which is the least disturbed, and the rows of a page."""
    taken = []
    for _ in range(ROUNDS):
        started_at = time.perf_counter()
        response = client.get(url)
        taken.append(time.perf_counter() - started_at)
        if response.status_code != 200:
            raise RuntimeError(f"{url} did not answer with a page.")
    return min(taken) * 1000, max(response.content.count(b"<tr") - 1, 0)
