"""What the search of the lists finds: label, hint, and the name or id of the organization."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import Q
from django.urls import reverse

from partium_auth.models import ApiKey, Organization
from partium_auth.services import keys
from tests.admin.conftest import Tenant, login

KEYS = "partium_keys:partium_auth_apikey_changelist"
NAMES = {"acme": "Acme Pumpen 100%", "globex": "Globex_West", "huelsta": "Hülsta Möbel", "quote": 'The "Fan" company'}


@pytest.fixture
def organizations(db: None) -> dict[str, Organization]:
    made = {name: Organization.objects.create(org_id=name, display_name=text) for name, text in NAMES.items()}
    for name, organization in made.items():
        keys.add_key(organization, f"{name}-0000000000-9aBc", label=f"Shop of {name}", actor=None, verify=False)
    return made


def found(client: Any, typed: str, **others: str) -> list[str]:
    page = client.get(reverse(KEYS), {"q": typed, **others})
    assert page.status_code == 200
    changes = page.context["cl"]
    assert changes.result_count == len(changes.result_list)
    return sorted(key.organization.org_id for key in changes.result_list)


def as_django_would(typed: list[str]) -> list[str]:
    rows = ApiKey.objects.all()
    for word in typed:
        columns = ("label", "hint", "organization__display_name", "organization__org_id")
        anywhere = Q()
        for column in columns:
            anywhere |= Q(**{f"{column}__icontains": word})
        rows = rows.filter(anywhere)
    return sorted(rows.values_list("organization__org_id", flat=True))


@pytest.mark.parametrize(
    ("typed", "as_words", "expected"),
    [
        ("ACME", ["ACME"], ["acme"]),
        ("hop o", ["hop", "o"], sorted(NAMES)),
        ('"shop of g"', ["shop of g"], ["globex"]),
        ("9abc", ["9abc"], sorted(NAMES)),
        ("shop pump", ["shop", "pump"], ["acme"]),
        ("shop nowhere", ["shop", "nowhere"], []),
        ("%", ["%"], ["acme"]),
        ("_", ["_"], ["globex"]),
        ("\\", ["\\"], []),
        ("'\"fan\"'", ['"fan"'], ["quote"]),
        ("hülsta", ["hülsta"], ["huelsta"]),
        ("mÖbel", ["mÖbel"], None),  # SQLite knows ASCII's capitals only
        ("HÜLSTA", ["HÜLSTA"], None),
        ("  ", [], sorted(NAMES)),
    ],
)
def test_it_finds_what_icontains_finds(
    organizations: dict[str, Organization], root: Any, typed: str, as_words: list[str], expected: list[str] | None
) -> None:
    answer = found(login(root), typed)
    assert answer == as_django_would(as_words)
    if expected is None:
        expected = [] if connection.vendor == "sqlite" else ["huelsta"]
    assert answer == expected


def test_organizations_are_found_by_name_and_id(organizations: dict[str, Organization], root: Any) -> None:
    client = login(root)
    url = reverse("partium_keys:partium_auth_organization_changelist")
    for typed, expected in {"west": ["globex"], "ACM": ["acme"], "nowhere": [], "100%": ["acme"]}.items():
        changes = client.get(url, {"q": typed}).context["cl"]
        assert ([row.org_id for row in changes.result_list], changes.result_count) == (expected, len(expected))


def test_a_developer_finds_their_own_keys_only(ours: Tenant, theirs: Tenant) -> None:
    client = login(ours.developer)
    assert found(client, "label") == [ours.name]
    assert found(client, theirs.name) == []
    assert found(client, "display") == [ours.name]


def test_a_search_goes_together_with_a_filter(organizations: dict[str, Organization], root: Any) -> None:
    client = login(root)
    revoked = ApiKey.objects.get(organization=organizations["acme"])
    keys.revoke_key(revoked, actor=None)
    assert found(client, "shop", state="revoked") == ["acme"]
    assert found(client, "shop", state="nonsense") == []
