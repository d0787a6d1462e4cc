"""What the search of the lists finds, in whatever database: what Django's ``icontains`` would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Q
from django.urls import reverse

from partium_auth.models import ApiKey, Organization
from partium_auth.services import health, keys
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
        ("'", ["'"], []),
        ('"', ['"'], ["quote"]),
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


def test_a_search_goes_on_with_filters_orders_and_pages(
    organizations: dict[str, Organization], root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from partium_auth.admin.keys import ApiKeyAdmin

    monkeypatch.setattr(ApiKeyAdmin, "list_per_page", 3)
    client = login(root)

    def labels(**query: str) -> list[str]:
        changes = client.get(reverse(KEYS), {"q": "shop", **query}).context["cl"]
        assert changes.result_count == 4
        return [key.label for key in changes.result_list]

    newest_first = [f"Shop of {name}" for name in reversed(NAMES)]
    assert labels() == newest_first[:3]
    assert labels(p="2") == newest_first[3:]
    assert labels(all="") == newest_first
    assert labels(o="1") == sorted(newest_first)[:3]
    assert labels(o="-1") == sorted(newest_first, reverse=True)[:3]
    revoked = ApiKey.objects.get(organization=organizations["acme"])
    keys.revoke_key(revoked, actor=None)
    assert found(client, "shop", state="revoked") == ["acme"]
    assert found(client, "shop", state="nonsense") == []


def test_what_is_searched_follows_what_it_is_made_of(organizations: dict[str, Organization], root: Any) -> None:
    client = login(root)
    Organization.objects.filter(org_id="acme").update(display_name="Initech")
    ApiKey.objects.filter(organization=organizations["globex"]).update(label="Bookshelf")
    assert found(client, "pumpen") == []
    assert found(client, "initech") == ["acme"]
    assert found(client, "bookshelf") == ["globex"]


@pytest.mark.django_db(transaction=True)
def test_dumped_and_loaded_and_created_in_bulk_it_is_there(
    organizations: dict[str, Organization], tmp_path: Path
) -> None:
    fixture = tmp_path / "keys.json"
    call_command("dumpdata", "partium_auth", output=str(fixture), verbosity=0)
    before = sorted(ApiKey.objects.values_list("search_text", flat=True))
    call_command("flush", interactive=False, verbosity=0)
    call_command("loaddata", str(fixture), verbosity=0)
    assert sorted(ApiKey.objects.values_list("search_text", flat=True)) == before
    assert health.stale() == []  # it brings its own rows
    (initech,) = Organization.objects.bulk_create([Organization(org_id="initech")])
    assert Organization.objects.get(pk=initech.pk).search_text == "\nINITECH"
