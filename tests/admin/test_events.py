"""Who sees which events of people, over HTTP: the list, its filters, and the CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from partium_auth.models import AuditEvent
from tests.admin.conftest import Tenant, login

LIST = "partium_keys:partium_auth_auditevent_changelist"
HERE = "127.0.0.1"  # of Django's test client


def exported(client: Client, site: str = "partium_keys", **query: str) -> list[tuple[str, str, str, str]]:
    """Return the CSV's action, organization, person and address; the oldest first."""
    response = client.get(reverse(f"{site}:partium_auth_auditevent_csv"), query)
    rows = csv.DictReader(io.StringIO(response.content.decode("utf-8-sig")))
    return [(row["action"], row["organization"], row["person"], row["from"]) for row in rows][::-1]


def invite(tenant: Tenant, address: str) -> None:
    data = {"email": address, "organization": tenant.name, "role": "member"}
    response = login(tenant.developer).post(reverse("partium_keys:partium_auth_invitation_add"), data)
    assert response.status_code == 302, response.content.decode()


def test_developers_who_manage_members_see_the_events_of_their_people_and_of_no_others(
    ours: Tenant, theirs: Tenant, root: Any, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    invite(ours, "bob@ours.example")
    invite(theirs, "bob@theirs.example")
    login(ours.developer).post(
        reverse("partium_keys:partium_auth_membership_delete", args=[ours.membership.pk]), {"post": "yes"}
    )
    of_us = [
        ("invitation_made", ours.name, "bob@ours.example", HERE),
        ("member_removed", ours.name, ours.member.username, HERE),
    ]
    client = login(ours.developer)
    assert exported(client)[1:] == of_us
    page = client.get(reverse(LIST)).content.decode()
    assert "invitation made" in page
    assert "bob@ours.example" in page
    assert "bob@theirs.example" not in page
    assert set(of_us) < set(exported(login(root), "admin"))
    assert len(exported(login(root), "admin")) == len(of_us) + 3
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = False
    assert [action for action, *_rest in exported(client)] == ["key_added"]
    assert "bob@ours.example" not in client.get(reverse(LIST)).content.decode()


def test_events_are_filtered_by_kind_person_organization_and_time(ours: Tenant, theirs: Tenant, root: Any) -> None:
    client = login(root)
    url = reverse("admin:partium_auth_membership_delete", args=[ours.membership.pk])
    assert client.post(url, {"post": "yes"}).status_code == 302
    removed = ("member_removed", ours.name, ours.member.username, HERE)
    filters: list[dict[str, str]] = [
        {"action__exact": "member_removed"},
        {"person": str(ours.member.pk)},
        {"person": str(root.pk)},
        {"q": ours.member.username},
    ]
    for query in filters:
        assert exported(client, "admin", **query) == [removed], query
    of_ours = exported(client, "admin", organization=str(ours.organization.pk))
    assert [action for action, *_rest in of_ours] == ["key_added", "member_removed"]
    assert exported(client, "admin", at__gte="2099-01-01 00:00:00+00:00") == []
    assert exported(login(ours.developer), person=str(root.pk)) == []
    page = client.get(reverse("admin:partium_auth_auditevent_changelist"), filters[1]).content.decode()
    assert f'?person={ours.member.pk}">' in page


def test_a_person_is_found_by_id_when_the_name_is_erased(ours: Tenant, root: Any) -> None:
    client, member_id = login(root), str(ours.member.pk)
    client.post(reverse("admin:partium_auth_membership_delete", args=[ours.membership.pk]), {"post": "yes"})
    ours.member.delete()
    found = exported(client, "admin", person=member_id)
    assert found == [("member_removed", ours.name, "", HERE), ("person_erased", "", "", "")]
    assert (
        "a person whose name is erased"
        in client.get(reverse("admin:partium_auth_auditevent_changelist"), {"person": member_id}).content.decode()
    )


@pytest.mark.parametrize("name", ["organization", "identityprovider", "grant"])
def test_what_operators_change_has_their_address(name: str, ours: Tenant, root: Any) -> None:
    client, page = login(root), f"admin:partium_auth_{name}_"
    if name == "grant":
        data = {"action": "revoke_selected", "_selected_action": str(ours.grant.pk)}
        client.post(reverse(page + "changelist"), data)
        expected = [("grants_revoked", "", ours.member.username, HERE)]
    elif name == "organization":
        data = {"display_name": ours.organization.display_name, "token_source": "api_key", "is_active": "on"}
        data["confirmed"] = "on"
        client.post(reverse(page + "change", args=[ours.organization.pk]), data)
        expected = [("organization_changed", ours.name, "", HERE)]
    else:
        domain = ours.provider.email_domains.get()
        fields = ["display_name", "slug", "issuer", "client_id", "client_authentication", "scopes"]
        data = {field: getattr(ours.provider, field) for field in fields}
        data |= {"organization": str(ours.organization.pk), "extra_parameters": "{}", "is_active": "on"}
        data |= {"email_domains-TOTAL_FORMS": "1", "email_domains-INITIAL_FORMS": "1"}
        data |= {"email_domains-0-id": str(domain.pk), "email_domains-0-provider": str(ours.provider.pk)}
        data |= {"email_domains-0-domain": "new.example.com"}
        client.post(reverse(page + "change", args=[ours.provider.pk]), data)
        client.post(reverse(page + "delete", args=[ours.provider.pk]), {"post": "yes"})
        expected = [(f"provider_{what}", ours.name, "", HERE) for what in ("changed", "deleted")]
        details = [event.detail for event in AuditEvent.objects.filter(action="provider_changed")]
        assert details == [f"Identity provider {ours.provider.slug}. Changed: e-mail domains."]
    assert exported(client, "admin")[1:] == expected
