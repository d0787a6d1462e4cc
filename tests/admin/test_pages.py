"""What developers and operators do in the admin, against the sandbox."""

from __future__ import annotations

import csv
import datetime as dt
import html
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from partium_auth.admin import grants as grant_admin
from partium_auth.admin import key_actions, organization_choice
from partium_auth.admin.keys import ApiKeyAdmin
from partium_auth.models import (
    ApiKey,
    ApiKeyUsage,
    AuditEvent,
    Grant,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Role,
)
from partium_auth.services import key_verification, keys, members
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants
from partium_auth.tokens import keys as usable_keys
from tests.admin.conftest import Tenant, login
from tests.oidc.provider import BendableProvider

KEY = "partium_keys:partium_auth_apikey_"


@pytest.fixture
def acme(db: None, partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="acme", display_name="Acme", token_source="api_key")


@pytest.fixture
def op() -> Iterator[BendableProvider]:
    provider = BendableProvider()
    yield provider
    provider.stop()


@pytest.fixture
def dev(acme: Organization) -> Any:
    user = get_user_model().objects.create_user("dev", "dev@example.com", "pw")
    Membership.objects.create(user=user, organization=acme, role=Role.DEVELOPER)
    return user


@pytest.fixture
def client(dev: Any) -> Client:
    return login(dev)


def new_key(value: str, **fields: str) -> dict[str, str]:
    return {
        "organization": "acme",
        "label": "shop",
        "value": value,
        "expires_at_0": "",
        "expires_at_1": "",
        "overlap_hours": "24",
        **fields,
    }


def add(client: Client, value: str, **fields: str) -> Any:
    return client.post(reverse(KEY + "add"), new_key(value, **fields), follow=True)


# -- one key


def test_a_developer_adds_a_key_for_the_only_organization_there_is(
    client: Client, dev: Any, partium_sandbox: PartiumSandbox
) -> None:
    form = client.get(reverse(KEY + "add")).content.decode()
    assert '<option value="acme" selected>Acme</option>' in form
    assert "---------" not in form
    page = add(client, partium_sandbox.add_key("acme"))
    assert "Partium accepted it." in page.content.decode()
    key = ApiKey.objects.get()
    assert (key.created_by, key.verification) == (dev, "accepted")
    event = AuditEvent.objects.get()
    assert (event.api_key, event.actor_id, event.address) == (key, str(dev.pk), "127.0.0.1")


def test_a_rejected_key_is_refused_with_a_clear_message_and_not_sent_back(client: Client) -> None:
    page = add(client, "no-such-key-00000000").content.decode()
    assert "Partium does not accept this key" in page
    assert "no-such-key" not in page
    assert not ApiKey.objects.exists()


def test_while_partium_is_down_a_key_can_be_saved_as_unverified(
    client: Client, partium_sandbox: PartiumSandbox
) -> None:
    value = partium_sandbox.add_key("acme")
    assert "allow_unverified" not in client.get(reverse(KEY + "add")).content.decode()
    with partium_sandbox.fail("auth", status=503):
        page = add(client, value).content.decode()
        assert "Couldn&#x27;t reach Partium" in page
        assert 'name="allow_unverified"' in page
        assert not ApiKey.objects.exists()
        assert "Verify it later" in add(client, value, allow_unverified="on").content.decode()
    assert ApiKey.objects.get().verification == "unverified"


def test_rotation_from_the_page(client: Client, partium_sandbox: PartiumSandbox) -> None:
    add(client, partium_sandbox.add_key("acme"))
    old = ApiKey.objects.get()
    url = reverse(KEY + "rotate", args=[old.pk])
    assert 'value="24"' in client.get(url).content.decode()
    page = client.post(url, new_key(partium_sandbox.add_key("acme"), overlap_hours="2"), follow=True)
    assert "The old key is retiring" in page.content.decode()
    assert set(ApiKey.objects.values_list("status", flat=True)) == {"active", "retiring"}
    page = client.get(url, follow=True)
    assert "You can only rotate an active key" in page.content.decode()


def test_rotating_while_partium_is_down_does_not_say_that_the_new_key_serves(
    client: Client, partium_sandbox: PartiumSandbox
) -> None:
    add(client, partium_sandbox.add_key("acme"))
    url = reverse(KEY + "rotate", args=[ApiKey.objects.get().pk])
    new = new_key(partium_sandbox.add_key("acme"), allow_unverified="on")
    with partium_sandbox.fail("auth", status=503):
        page = client.post(url, new, follow=True).content.decode()
    assert ApiKey.objects.usable().in_serving_order()[0].status == "retiring"
    assert "The new key is in use" not in page
    assert "It will be used once it is verified, or if there is no verified key left." in page


def test_verifying_one_key_tells_what_came_back(client: Client, partium_sandbox: PartiumSandbox) -> None:
    value = partium_sandbox.add_key("acme")
    add(client, value)
    key = ApiKey.objects.get()
    posted = {"keys": str(key.pk)}
    assert "Partium accepted it." in client.post(reverse(KEY + "verify"), posted, follow=True).content.decode()
    partium_sandbox.revoke_key(value)
    assert "no longer accepts this key" in client.post(reverse(KEY + "verify"), posted, follow=True).content.decode()
    assert 'partium-failing">failing' in client.get(reverse(KEY + "changelist")).content.decode()


def test_verifying_a_stored_key_of_the_catalog_api_says_what_it_is(
    client: Client, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    value = partium_sandbox.add_key("acme", permission="catalog")
    key = keys.add_key(acme, value, label="catalog", actor=None, verify=False)
    page = client.post(reverse(KEY + "verify"), {"keys": str(key.pk)}, follow=True).content.decode()
    assert "This key was made for the Catalog API." in page


def test_revoking_asks_says_what_stops_and_cannot_be_undone(client: Client, partium_sandbox: PartiumSandbox) -> None:
    add(client, partium_sandbox.add_key("acme"))
    key = ApiKey.objects.get()
    page = client.post(reverse(KEY + "revoke"), {"keys": str(key.pk)}).content.decode()
    assert "This cannot be undone" in page
    assert "searches stop for everybody" in page
    assert ApiKey.objects.usable().exists()
    posted = {"keys": str(key.pk), "confirmed": "1"}
    page = client.post(reverse(KEY + "revoke"), posted, follow=True).content.decode()
    assert "The stored value was erased" in page
    assert "Rotate" not in page
    assert ApiKey.objects.get().secret is None
    response = client.post(reverse(KEY + "change", args=[key.pk]), {"label": "x"})
    assert response.status_code == 403


def test_the_confirmation_says_when_another_key_takes_over(client: Client, partium_sandbox: PartiumSandbox) -> None:
    for label in ("one", "two"):
        add(client, partium_sandbox.add_key("acme"), label=label)
    newer = ApiKey.objects.get(label="two")
    page = client.post(reverse(KEY + "revoke"), {"keys": str(newer.pk)}).content.decode()
    assert re.search(r"one \(.*\) takes over for Acme", page)


def test_the_confirmation_says_that_nothing_stops_where_the_key_does_not_serve(
    client: Client, partium_sandbox: PartiumSandbox
) -> None:
    add(client, partium_sandbox.add_key("acme"))
    key = ApiKey.objects.get()
    ApiKey.objects.update(expires_at=timezone.now())
    page = client.post(reverse(KEY + "revoke"), {"keys": str(key.pk)}).content.decode()
    assert "searches stop" not in page
    assert "takes over" not in page
    assert "This key isn't in use; nothing will break." in page


def test_label_and_expiry_can_be_changed_and_nothing_else(client: Client, partium_sandbox: PartiumSandbox) -> None:
    add(client, partium_sandbox.add_key("acme"))
    before: dict[str, Any] = {**ApiKey.objects.values().get()}
    client.post(
        reverse(KEY + "change", args=[before["id"]]),
        {
            "label": "new",
            "expires_at_0": "2099-01-01",
            "expires_at_1": "00:00:00",
            "organization": "x",
            "secret": "x",
            "fingerprint": "x",
            "status": "revoked",
        },
    )
    after: dict[str, Any] = {**ApiKey.objects.values().get()}
    assert after.pop("label") == "new"
    assert after.pop("expires_at").year >= 2098
    assert before | after == before


def test_pages_say_which_key_is_in_use_and_what_a_new_one_replaces(
    client: Client, partium_sandbox: PartiumSandbox
) -> None:
    add(client, partium_sandbox.add_key("acme"), label="first")
    page = html.unescape(client.get(reverse(KEY + "add")).content.decode())
    assert re.search(r"replaces first \(.*\) for Acme at once; first \(.*\) stays as the fallback", page)
    add(client, partium_sandbox.add_key("acme"), label="second")
    listed = client.get(reverse(KEY + "changelist")).context["cl"].result_list
    assert {key.label: key.use for key in listed} == {"first": "fallback", "second": "in_use"}
    first, second = (ApiKey.objects.get(label=label) for label in ("first", "second"))
    assert "Fallback: this key takes over" in client.get(reverse(KEY + "change", args=[first.pk])).content.decode()
    page = client.get(reverse(KEY + "change", args=[second.pk])).content.decode()
    assert "Everybody in this organization uses this key." in page
    keys.revoke_key(second, actor=None)
    listed = client.get(reverse(KEY + "changelist")).context["cl"].result_list
    assert {key.label: key.use for key in listed} == {"first": "in_use"}  # revoked keys are shown on request
    listed = client.get(reverse(KEY + "changelist"), {"state": "all"}).context["cl"].result_list
    assert {key.label: key.use for key in listed} == {"first": "in_use", "second": "not_used"}


def test_the_key_in_use_is_the_one_that_serves(acme: Organization) -> None:
    for number in range(3):
        keys.add_key(acme, f"value-{number}-00000000000", label=str(number), actor=None, verify=False)
    for rejected in (None, "2", "1"):
        ApiKey.objects.filter(label=rejected).update(verification="rejected")
        assert ApiKey.objects.in_use().get().pk == usable_keys.in_order(acme.pk)[0].pk


def test_the_key_site_opens_with_the_keys_and_leads_to_the_organizations_other_pages(
    client: Client, settings: Settings, acme: Organization
) -> None:
    page = client.get(reverse("partium_keys:index"), follow=True)
    assert page.redirect_chain == [(reverse(KEY + "changelist"), 302)]

    def sections(url: str) -> list[tuple[str, str]]:
        shown = client.get(url).content.decode()
        bar = shown[shown.index("partium-sections") :].partition("</nav>")[0]
        return re.findall(r'<a href="[^"]*"([^>]*)>([^<]*)</a>', bar)

    current = ' aria-current="page"'
    assert sections(reverse(KEY + "add")) == [(current, "API keys"), ("", "Events")]
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    url = reverse("partium_keys:partium_auth_membership_delete", args=[Membership.objects.get().pk])
    names = ("API keys", "Events", "Invitations", "Memberships")
    assert sections(url) == [(current if name == "Memberships" else "", name) for name in names]


def test_a_keys_pages_lead_back_to_the_filtered_list(client: Client, acme: Organization) -> None:
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    listed, query = reverse(KEY + "changelist"), "?state=unverified"
    page = client.get(listed + query).content.decode()
    change = html.unescape(re.findall(rf'href="([^"]*{key.pk}[^"]*)"', page)[0])
    page = client.get(change).content.decode()
    assert f'<a href="{listed}{query}">Back to the filtered list</a>' in page
    for url, data in ((r"/rotate/[^\"]*", None), (r"/revoke/[^\"]*", {"keys": str(key.pk)})):
        (shown,) = re.findall(rf'(?:href|action)="([^"]*{url})"', page)
        target = html.unescape(shown)
        asked = client.get(target) if data is None else client.post(target, data)
        cancel = re.findall(r'partium-cancel" href="([^"]*)"', asked.content.decode())
        assert [html.unescape(link) for link in cancel] == [change]
    revoked = client.post(target, {"keys": str(key.pk), "confirmed": "1"})
    assert revoked["Location"] == change
    assert "Back to the filtered list" not in client.get(reverse(KEY + "change", args=[key.pk])).content.decode()


def test_events_say_second_and_time_zone(client: Client, acme: Organization, settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    at = timezone.localtime(AuditEvent.objects.get().at)
    for url in (reverse("partium_keys:partium_auth_auditevent_changelist"), reverse(KEY + "change", args=[key.pk])):
        assert f"{at:%Y}, {at:%H:%M:%S %Z}" in client.get(url).content.decode()


def test_ids_can_be_copied(client: Client, acme: Organization, root: Any) -> None:
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    page = client.get(reverse(KEY + "change", args=[key.pk])).content.decode()
    of_organization = reverse("admin:partium_auth_organization_change", args=[acme.pk])
    for shown, value in (
        (page, str(key.pk)),
        (page, "acme"),
        (login(root).get(of_organization).content.decode(), "acme"),
    ):
        assert re.search(rf"<code[^>]*>{value}</code> <button [^>]*data-partium-copied", shown)


@pytest.mark.parametrize("page", ["add", "find"])
def test_own_pages_have_djangos_breadcrumbs(client: Client, page: str) -> None:
    shown = client.get(reverse(KEY + page)).content.decode()
    trail = shown[shown.index('class="breadcrumbs"') :].partition("</ol>" if "<ol class=" in shown else "</div>")[0]
    title = "Add API key" if page == "add" else "Find a key by its value"
    assert [text in trail for text in ("Home", "API keys", title)] == [True] * 3


def test_red_is_for_organizations_that_need_a_key(root: Any, db: None) -> None:
    Organization.objects.create(org_id="a")  # everybody's own login
    Organization.objects.create(org_id="b", token_source="api_key")
    shown = login(root).get(reverse("admin:partium_auth_organization_changelist")).content.decode()
    assert shown.count("partium-failing") == 1
    assert "none needed" in shown


def test_a_key_is_found_by_its_value_in_a_post(client: Client, partium_sandbox: PartiumSandbox, ours: Tenant) -> None:
    value = partium_sandbox.add_key("acme")
    add(client, value)
    page = client.post(reverse(KEY + "find"), {"value": f" {value} "}).content.decode()
    assert str(ApiKey.objects.get(label="shop").pk) in page
    assert value not in page
    others = client.post(reverse(KEY + "find"), {"value": f"aardvark-secret-{'0' * 20}"}).content.decode()
    assert "None of your keys has this value" in others


# -- many keys


def test_the_picture_of_a_keys_use_says_which_color_is_what(ours: Tenant, root: Any) -> None:
    page = login(root).get(reverse(KEY + "change", args=[ours.key.pk])).content.decode()
    assert 'partium-active">searches</span>' in page
    assert 'partium-failing">failures</span>' in page
    assert ": searches 30, failures 2</title>" in page


def test_the_picture_of_a_keys_use_has_axes_and_its_numbers_in_a_table(ours: Tenant, root: Any) -> None:
    ApiKeyUsage.objects.update(searches=1_300)
    page = login(root).get(reverse(KEY + "change", args=[ours.key.pk])).content.decode()
    assert "<span>2000</span><span>1000</span><span>0</span>" in page
    today = timezone.localdate()
    for day in (today, today - dt.timedelta(days=29)):
        assert f"<span>{day:%B} {day.day}</span>" in page
    row = re.search(r'<tr><th scope="row">[^<]*</th><td>([^<]*)</td><td>([^<]*)</td></tr>', page)
    assert row is not None
    assert row.groups() == ("1300", "2")


def test_a_key_that_is_sent_as_it_is_is_not_called_unused(ours: Tenant, root: Any) -> None:
    url = reverse(KEY + "change", args=[ours.key.pk])
    ApiKeyUsage.objects.all().delete()
    ApiKey.objects.update(last_used_at=None)
    assert "This key has not been used yet." in login(root).get(url).content.decode()
    ApiKey.objects.update(last_used_at=timezone.now())
    page = login(root).get(url).content.decode()
    assert "This key has not been used yet." not in page
    assert "made no search with this key in the last 30 days" in html.unescape(page)
    Organization.objects.update(token_source="api_key_direct")
    page = login(root).get(url).content.decode()
    assert "the key itself" not in page, "searches are counted, however the key is sent"


def select(client: Client, action: str, chosen: list[ApiKey]) -> Any:
    posted = {"action": action, "_selected_action": [str(key.pk) for key in chosen]}
    return client.post(reverse(KEY + "changelist"), posted, follow=True)


def test_selected_keys_are_verified_and_one_failure_stops_nothing(
    client: Client, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    made = [keys.add_key(acme, partium_sandbox.add_key("acme"), label=f"key {n}", actor=None) for n in range(3)]
    ApiKey.objects.filter(pk=made[1].pk).update(secret=made[0].secret)  # does not open in this row
    told = sorted(str(message) for message in select(client, "verify_selected", made).context["messages"])
    failed, accepted = (told[0], told[1]) if "already revoked" in told[0] else (told[1], told[0])
    assert "key 1" in failed
    assert "accepted" in accepted
    assert "key 0" in accepted
    assert "key 2" in accepted


def test_verifying_many_keys_ends_before_the_request_lasts_too_long(
    client: Client, acme: Organization, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_actions, "VERIFY_SECONDS", 0.0)
    made = [keys.add_key(acme, f"value-{n:014}", label=f"key {n}", actor=None, verify=False) for n in range(3)]
    page = select(client, "verify_selected", made).content.decode()
    assert "3 keys were not verified, because Partium answers slowly. Select them again." in page
    assert partium_sandbox.calls() == []


@pytest.mark.parametrize("action", ["verify_selected", "revoke_selected"])
def test_no_more_keys_are_taken_than_a_page_can_show(
    client: Client, acme: Organization, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(ApiKeyAdmin, "list_max_show_all", 2)
    made = [keys.add_key(acme, f"value-{n:014}", label=f"key {n}", actor=None, verify=False) for n in range(3)]
    assert "Select at most 2 keys at a time." in select(client, action, made).content.decode()
    assert not AuditEvent.objects.exclude(action="key_added").exists()


def test_the_history_of_a_key_is_its_events(client: Client, acme: Organization) -> None:
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    client.post(reverse(KEY + "change", args=[key.pk]), {"label": "y", "expires_at_0": "", "expires_at_1": ""})
    page = client.get(reverse(KEY + "history", args=[key.pk]), follow=True)
    assert [event.action for event in page.context["cl"].result_list] == ["key_changed", "key_added"]
    assert "label changed" in page.content.decode()
    assert not LogEntry.objects.exists()


def test_django_logs_no_names_that_erasure_would_not_forget(ours: Tenant, root: Any) -> None:
    client, start = login(root), "admin:partium_auth_"
    LogEntry.objects.all().delete()
    form = {"organization": "aardvark", "email": "x@example.com", "role": "member"}
    client.post(reverse(f"{start}invitation_add"), form)
    invitation = Invitation.objects.get(email="x@example.com")
    client.post(reverse(f"{start}invitation_delete", args=[invitation.pk]), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": str(ours.membership.pk), "post": "yes"}
    client.post(reverse(f"{start}membership_changelist"), chosen)
    client.post(
        reverse(f"{start}grant_changelist"), {**chosen, "action": "revoke_selected", "_selected_action": ours.grant.pk}
    )
    assert not LogEntry.objects.exists()
    page = client.get(reverse(f"{start}organization_history", args=[ours.organization.pk]), follow=True)
    seen = [event.action for event in page.context["cl"].result_list]
    assert seen[:3] == ["member_removed", "invitation_withdrawn", "invitation_made"]
    page = client.get(reverse(f"{start}identity_history", args=[ours.identity.pk]), follow=True)
    assert [event.action for event in page.context["cl"].result_list] == ["grants_revoked", "member_removed"]


@pytest.mark.parametrize("what", ["verify", "revoke"])
def test_who_had_to_log_in_again_meanwhile_lands_on_the_list(client: Client, dev: Any, what: str) -> None:
    url = reverse(KEY + what)
    client.logout()
    sent = client.post(url, {"keys": ""})
    assert sent.status_code == 302
    assert "next=" in sent["Location"]  # back to here, with a GET
    client.force_login(dev, "django.contrib.auth.backends.ModelBackend")
    assert client.get(url)["Location"] == reverse(KEY + "changelist")


def test_where_only_revoked_keys_are_chosen_there_is_nothing_to_verify(client: Client, acme: Organization) -> None:
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    keys.revoke_key(key, actor=None)
    posted = {"action": "verify_selected", "_selected_action": [str(key.pk)]}
    page = client.post(reverse(KEY + "changelist") + "?state=all", posted, follow=True).content.decode()
    assert "There is nothing to verify." in page
    assert "0 of 0" not in page


def test_many_keys_are_revoked_after_one_question(client: Client, acme: Organization) -> None:
    made = [keys.add_key(acme, f"value-{n}-00000000000", label=str(n), actor=None, verify=False) for n in range(3)]
    asked = {"action": "revoke_selected", "_selected_action": [str(key.pk) for key in made[:2]]}
    page = client.post(reverse(KEY + "changelist"), asked)
    assert ApiKey.objects.filter(status="revoked").count() == 0
    client.post(page.context["action"], {"keys": page.context["pending"], "confirmed": "1"})
    assert list(ApiKey.objects.exclude(status="revoked")) == [made[2]]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_partium_is_asked(
    settings: Settings, client: Client, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    seen = []
    ask = key_verification.verify_at_partium

    def watched(*args: Any) -> Any:
        seen.append(connection.in_atomic_block)
        return ask(*args)

    monkeypatch.setattr(key_verification, "verify_at_partium", watched)
    add(client, partium_sandbox.add_key("acme"))
    key = ApiKey.objects.get()
    client.post(reverse(KEY + "verify"), {"keys": str(key.pk)})
    select(client, "verify_selected", [key])
    client.post(reverse(KEY + "rotate", args=[key.pk]), new_key(partium_sandbox.add_key("acme")))
    assert seen == [False] * 4
    assert ApiKey.objects.count() == 2


# -- events


@pytest.mark.parametrize("label", ["=HYPERLINK(1)", "＝HYPERLINK(1)", "+1", "－1"])
def test_events_are_exported_as_they_are_filtered_and_start_no_formula(
    client: Client, acme: Organization, label: str
) -> None:
    key = keys.add_key(acme, "value-000000000000000", label=label, actor=None, verify=False)
    keys.revoke_key(key, actor=None)
    url = reverse("partium_keys:partium_auth_auditevent_csv")
    response = client.get(url, {"action__exact": "key_revoked"})
    rows = list(csv.reader(io.StringIO(response.content.decode("utf-8-sig"))))
    assert rows[0][:2] == ["when", "action"]
    assert [row[1:5] for row in rows[1:]] == [["key_revoked", "acme", f"'{label}", key.masked]]
    # By its id, as commands know it: labels change, and two keys may have the same one.
    assert dict(zip(*rows, strict=True))["key_id"] == str(key.pk)
    assert "no-store" in response["Cache-Control"]
    assert len(client.get(url).content.decode().splitlines()) == 3


@pytest.mark.parametrize("action", ["add", "change", "delete"])
def test_nobody_changes_an_event(action: str, ours: Tenant, root: Any) -> None:
    client = login(root)
    args = [] if action == "add" else [ours.event.pk]
    response = client.post(
        reverse(f"admin:partium_auth_auditevent_{action}", args=args), {"detail": "x", "post": "yes"}
    )
    assert response.status_code == 403
    assert AuditEvent.objects.get(pk=ours.event.pk).detail == ours.event.detail


# -- members


@pytest.fixture
def _managing(settings: Settings) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True


@pytest.mark.usefixtures("_managing")
def test_a_developer_invites_and_removes(client: Client, acme: Organization) -> None:
    add_url = reverse("partium_keys:partium_auth_invitation_add")
    client.post(add_url, {"organization": "acme", "email": " New@Example.com ", "role": "developer"})
    invitation = Invitation.objects.get()
    assert (invitation.email, invitation.role, invitation.organization) == ("new@example.com", "developer", acme)
    person = get_user_model().objects.create_user("p")
    membership = Membership.objects.create(user=person, organization=acme)
    client.post(reverse("partium_keys:partium_auth_membership_delete", args=[membership.pk]), {"post": "yes"})
    assert not Membership.objects.filter(user=person).exists()
    client.post(reverse("partium_keys:partium_auth_invitation_delete", args=[invitation.pk]), {"post": "yes"})
    assert not Invitation.objects.exists()


@pytest.mark.usefixtures("_managing")
def test_developers_who_remove_themselves_remove_the_others_that_they_selected_too(
    client: Client, acme: Organization
) -> None:
    own = Membership.objects.get()
    Membership.objects.create(user=own.user, organization=acme, role=Role.DEVELOPER, origin="claims")
    for name, days in (("after", -1), ("before", 1)):  # the newest come first
        other = Membership.objects.create(user=get_user_model().objects.create_user(name), organization=acme)
        Membership.objects.filter(pk=other.pk).update(created_at=own.created_at + dt.timedelta(days=days))
    chosen = [str(pk) for pk in Membership.objects.values_list("pk", flat=True)]
    asked = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    assert client.post(reverse("partium_keys:partium_auth_membership_changelist"), asked).status_code == 302
    assert not Membership.objects.exists()


def test_who_invites_is_told_that_nothing_is_sent(client: Client, settings: Settings) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    page = client.get(reverse("partium_keys:partium_auth_invitation_add")).content.decode()
    assert "Nothing is sent" in page


def test_who_removes_a_member_is_told_what_that_does(
    client: Client, dev: Any, acme: Organization, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    other = get_user_model().objects.create_user("other")
    by_hand = Membership.objects.create(user=other, organization=acme)
    prefix = "partium_keys:partium_auth_membership_"
    url = reverse(prefix + "delete", args=[by_hand.pk])
    page = client.get(url).content.decode()
    assert "returns at the next login" in page
    assert "your own membership" not in page
    action = {"action": "delete_selected", "_selected_action": [by_hand.pk]}
    assert "returns at the next login" in client.post(reverse(prefix + "changelist"), action).content.decode()
    mine = Membership.objects.get(user=dev)
    assert "your own membership" in client.get(reverse(prefix + "delete", args=[mine.pk])).content.decode()


def test_who_deletes_an_invitation_is_told_that_the_membership_stays(
    client: Client, dev: Any, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    acme = Organization.objects.get()
    invitation = members.invite(acme, "ann@acme.example", actor=dev)
    prefix = "partium_keys:partium_auth_invitation_"
    action = {"action": "delete_selected", "_selected_action": [invitation.pk]}
    for page in (
        client.get(reverse(prefix + "delete", args=[invitation.pk])),
        client.post(reverse(prefix + "changelist"), action),
    ):
        assert "A membership from an accepted invitation stays" in page.content.decode()


@pytest.mark.usefixtures("_managing")
def test_a_developer_cannot_add_an_account_of_the_host(client: Client, acme: Organization, ours: Tenant) -> None:
    posted = {"person": ours.member.username, "organization": "acme", "role": "member"}
    url = reverse("partium_keys:partium_auth_membership_add")
    assert client.get(url).status_code == client.post(url, posted).status_code == 403


def test_an_operator_adds_a_member_by_name(ours: Tenant, theirs: Tenant, root: Any) -> None:
    url = reverse("admin:partium_auth_membership_add")
    posted = {"person": ours.member.username, "organization": "badger", "role": "developer"}
    assert login(root).post(url, posted).status_code == 302
    assert Membership.objects.get(user=ours.member, organization=theirs.organization).role == "developer"
    page = login(root).post(url, {**posted, "person": "nobody"}).content.decode()
    assert "There is no such account." in page


# -- operators


def test_operators_create_and_change_organizations_whose_id_never_changes(root: Any) -> None:
    client = login(root)
    url = reverse("admin:partium_auth_organization_add")
    client.post(url, {"org_id": "new", "display_name": "New", "token_source": "api_key", "required_provider": ""})
    organization = Organization.objects.get()
    assert organization.is_active
    change = reverse("admin:partium_auth_organization_change", args=[organization.pk])
    changed = {"org_id": "other", "display_name": "Newer", "token_source": "user", "required_provider": ""}
    assert "Make an organization inactive instead of deleting it." in client.get(change).content.decode()
    delete = reverse("admin:partium_auth_organization_delete", args=[organization.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    asked = client.post(change, changed).content.decode()
    assert "All members lose access to New at once" in asked
    assert "People in New search with their own logins" in asked
    assert 'type="checkbox" name="confirmed"' in asked
    organization.refresh_from_db()
    assert (organization.display_name, organization.is_active) == ("New", True)
    assert client.post(change, {**changed, "confirmed": "on"}).status_code == 302
    organization.refresh_from_db()
    assert (organization.org_id, organization.display_name, organization.is_active) == ("new", "Newer", False)


def test_what_takes_no_access_away_is_saved_at_once(root: Any) -> None:
    acme = Organization.objects.create(org_id="acme", token_source="api_key")
    change = reverse("admin:partium_auth_organization_change", args=[acme.pk])
    posted = {"display_name": "Newer", "token_source": "api_key", "required_provider": "", "is_active": "on"}
    assert login(root).post(change, posted).status_code == 302
    acme.refresh_from_db()
    assert acme.display_name == "Newer"


def test_a_new_required_provider_and_a_source_without_a_key_are_confirmed(ours: Tenant, root: Any) -> None:
    keys.revoke_key(ours.key, actor=None)
    change = reverse("admin:partium_auth_organization_change", args=[ours.organization.pk])
    posted = {"display_name": "D", "token_source": "api_key", "required_provider": ours.provider.pk, "is_active": "on"}
    asked = login(root).post(change, posted).content.decode()
    assert "aardvark display has no usable key: searches stop for everybody." in asked
    assert "lose access to aardvark display until people log in through aardvark login" in asked


PROVIDER = {
    "display_name": "Acme login",
    "slug": "acme",
    "issuer": "http://127.0.0.1:9/nobody",
    "organization": "",
    "client_id": "portal",
    "client_authentication": "client_secret_basic",
    "scopes": "openid",
    "extra_parameters": "{}",
    "email_domains-TOTAL_FORMS": "0",
    "email_domains-INITIAL_FORMS": "0",
}


def test_a_new_provider_is_inactive_until_it_is_activated_after_its_check(root: Any, op: BendableProvider) -> None:
    client, start = login(root), "admin:partium_auth_identityprovider_"
    added = client.post(
        reverse(start + "add"), {**PROVIDER, "issuer": op.issuer, "is_active": "on", "new_client_secret": "secret"}
    )
    provider = IdentityProvider.objects.get()
    assert provider.is_active is False
    assert added["Location"] == reverse(start + "change", args=[provider.pk])
    check = reverse(start + "check", args=[provider.pk])
    assert "The check has passed." in client.post(check).content.decode()
    assert "people can log in through it" in client.post(check, {"activate": "1"}, follow=True).content.decode()
    assert IdentityProvider.objects.get().is_active
    assert 'value="1"><button' not in client.post(check).content.decode()


def test_a_form_that_comes_back_without_the_client_secret_says_so(ours: Tenant, root: Any) -> None:
    url = reverse("admin:partium_auth_identityprovider_change", args=[ours.provider.pk])
    asked = {**PROVIDER, "slug": ours.provider.slug, "issuer": ours.provider.issuer, "new_client_secret": "typed"}
    asked["organization"] = str(ours.organization.pk)
    page = login(root).post(url, asked)
    errors = page.context["adminform"].form.errors
    assert "loses access at once" in str(errors["confirmed"])
    assert "Enter the client secret again" in str(errors["new_client_secret"])
    assert "typed" not in page.content.decode()
    assert "This provider is inactive" not in page.content.decode()  # what is stored, not what was typed
    again = login(root).post(url, {**asked, "confirmed": "on", "new_client_secret": ""})
    assert again.status_code == 302


def test_an_operator_may_insist_on_a_provider_whose_check_has_failed(ours: Tenant, root: Any) -> None:
    client, start = login(root), "admin:partium_auth_identityprovider_"
    client.post(reverse(start + "add"), PROVIDER)
    provider = IdentityProvider.objects.get(slug="acme")
    check = reverse(start + "check", args=[provider.pk])
    assert "Activate anyway" in client.post(check).content.decode()
    IdentityProvider.objects.filter(pk=provider.pk).update(issuer=ours.provider.issuer)
    refused = client.post(check, {"activate": "1"}, follow=True).content.decode()
    assert "which is active, has this issuer too" in refused
    IdentityProvider.objects.filter(pk=provider.pk).update(issuer="http://127.0.0.1:9/nobody")
    client.post(check, {"activate": "1"})
    provider.refresh_from_db()
    assert provider.is_active


def test_deactivating_a_provider_is_confirmed(ours: Tenant, root: Any) -> None:
    change = reverse("admin:partium_auth_identityprovider_change", args=[ours.provider.pk])
    posted = {**PROVIDER, "slug": "aardvark-idp", "issuer": ours.provider.issuer, "organization": ours.organization.pk}
    page = login(root).post(change, posted).content.decode()
    assert "Nobody can log in through aardvark login any more" in page
    assert IdentityProvider.objects.get().is_active
    assert login(root).post(change, {**posted, "confirmed": "on"}).status_code == 302
    assert not IdentityProvider.objects.get().is_active


def test_the_urls_to_register_are_shown_in_full_before_the_first_save(root: Any, ours: Tenant) -> None:
    client, start = login(root), "admin:partium_auth_identityprovider_"
    page = client.get(reverse(start + "add")).content.decode()
    assert ">http://testserver/partium/callback/SHORT-NAME/</code>" in page
    assert ">http://testserver/partium/backchannel-logout/SHORT-NAME/</code>" in page
    page = client.get(reverse(start + "change", args=[ours.provider.pk])).content.decode()
    assert ">http://testserver/partium/callback/aardvark-idp/</code>" in page


def test_operators_search_among_many_organizations_for_a_new_key(
    root: Any, partium_sandbox: PartiumSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(organization_choice, "MANY", 1)
    acme = Organization.objects.create(org_id="acme")
    Organization.objects.create(org_id="globex")
    client = login(root)
    page = client.get(reverse(KEY + "add")).content.decode()
    assert 'data-autocomplete-light-function="select2"' in page or "admin-autocomplete" in page
    assert "select2" in page
    asked = {"term": "acm", "app_label": "partium_auth", "model_name": "apikey", "field_name": "organization"}
    (found,) = client.get(reverse("partium_keys:autocomplete"), asked).json()["results"]
    add(client, partium_sandbox.add_key("acme"), organization=found["id"])
    assert ApiKey.objects.get().organization == acme
    for model in ("membership", "invitation"):
        assert "admin-autocomplete" in client.get(reverse(f"admin:partium_auth_{model}_add")).content.decode()


@pytest.mark.usefixtures("_managing")
def test_the_text_for_the_person_is_shown_after_an_invitation(client: Client, acme: Organization) -> None:
    invited = {"organization": "acme", "email": "new@example.com", "role": "member"}
    page = client.post(reverse("partium_keys:partium_auth_invitation_add"), invited, follow=True)
    text = html.unescape(page.content.decode())
    assert "Nothing was sent: copy this text" in text
    assert "You are invited to Acme. Log in at http://testserver/partium/login/ as new@example.com" in text
    Invitation.objects.update(accepted_at=timezone.now())
    change = reverse("partium_keys:partium_auth_invitation_change", args=[Invitation.objects.get().pk])
    assert "Nothing was sent" not in client.get(change).content.decode()


@pytest.mark.usefixtures("_managing")
def test_invitations_and_members_are_found_by_person_organization_and_state(
    client: Client, acme: Organization, theirs: Tenant, dev: Any
) -> None:
    Membership.objects.create(user=dev, organization=theirs.organization, role=Role.DEVELOPER)
    now = timezone.now()
    soon, past = now + dt.timedelta(days=1), now - dt.timedelta(days=1)
    times: dict[str, dict[str, Any]] = {
        "open": {"expires_at": soon},
        "accepted": {"expires_at": past, "accepted_at": past},
        "declined": {"expires_at": soon, "accepted_at": past, "declined_at": now},
        "expired": {"expires_at": past},
    }
    for name, values in times.items():
        Invitation.objects.create(organization=acme, email=f"{name}@example.com", **values)
    url = reverse("partium_keys:partium_auth_invitation_changelist")

    def found(url: str, **query: str) -> set[str]:
        return {
            str(getattr(row, "email", None) or row.user) for row in client.get(url, query).context["cl"].result_list
        }

    for name in times:
        assert found(url, state=name, organization=str(acme.pk)) == {f"{name}@example.com"}
        shown = client.get(url, {"state": name, "organization": str(acme.pk)}).content.decode()
        assert f'">{name}</span>' in shown
    assert found(url, q="badger") == {theirs.invitation.email}
    members_url = reverse("partium_keys:partium_auth_membership_changelist")
    assert found(members_url, q="badger-mem") == {"badger-member"}
    assert found(members_url, q="Acme") == {"dev"}
    assert found(members_url, q="badger-member@example") == set(), "addresses are not shown to developers"
    assert found(members_url, role__exact="member") == {"badger-member"}


@pytest.mark.usefixtures("_managing")
def test_who_invites_a_member_is_told_so(client: Client, acme: Organization) -> None:
    url = reverse("partium_keys:partium_auth_invitation_add")
    person = get_user_model().objects.create_user("p", "P@example.com")
    Membership.objects.create(user=person, organization=acme)

    def invite(email: str, role: str) -> str:
        posted = {"organization": "acme", "email": email, "role": role}
        return html.unescape(client.post(url, posted, follow=True).content.decode())

    assert "This person is a member of Acme already, with the role member." in invite("p@example.com", "member")
    assert not Invitation.objects.exists()
    assert "the invitation makes them a developer" in invite("p@example.com", "developer")
    assert Invitation.objects.get().role == "developer"
    get_user_model().objects.create_user(
        "q", "q@example.com"
    )  # of no organization: nothing is told of others' accounts
    assert "already" not in invite("q@example.com", "member")


def test_a_client_secret_is_written_and_never_read(root: Any) -> None:
    client = login(root)
    posted = {
        "display_name": "Acme login",
        "slug": "acme",
        "issuer": "https://login.example.com",
        "organization": "",
        "is_active": "on",
        "client_id": "portal",
        "new_client_secret": "the-client-secret",
        "client_authentication": "client_secret_basic",
        "scopes": "openid",
        "extra_parameters": "{}",
        "signing_algorithms": "RS256",
        "email_domains-TOTAL_FORMS": "1",
        "email_domains-INITIAL_FORMS": "0",
        "email_domains-0-domain": "acme.example",
    }
    add = reverse("admin:partium_auth_identityprovider_add")
    assert "keep the stored secret" not in client.get(add).content.decode()  # there is none yet
    response = client.post(add, posted)
    assert response.status_code == 302, response.content.decode()
    provider = IdentityProvider.objects.get()
    assert provider.client_secret.reveal() == "the-client-secret"
    assert provider.email_domains.get().domain == "acme.example"
    change = reverse("admin:partium_auth_identityprovider_change", args=[provider.pk])
    assert "the-client-secret" not in client.get(change).content.decode()
    inline = {
        "email_domains-TOTAL_FORMS": "1",
        "email_domains-INITIAL_FORMS": "1",
        "email_domains-0-id": str(provider.email_domains.get().pk),
        "email_domains-0-provider": str(provider.pk),
    }
    client.post(change, {**posted, **inline, "new_client_secret": "", "display_name": "Renamed"})
    provider.refresh_from_db()
    assert (provider.display_name, provider.client_secret.reveal()) == ("Renamed", "the-client-secret")
    bad = client.post(change, {**posted, **inline, "issuer": "http://login.example.com"}).content.decode()
    assert "has to begin with https://" in bad


def test_the_issuer_of_a_provider_in_use_is_fixed(ours: Tenant, root: Any) -> None:
    from partium_auth.models import Identity

    Identity.objects.create(issuer=ours.provider.issuer, subject="s", digest="d", user=ours.member)
    client = login(root)
    change = reverse("admin:partium_auth_identityprovider_change", args=[ours.provider.pk])
    assert 'name="issuer"' not in client.get(change).content.decode()
    delete = reverse("admin:partium_auth_identityprovider_delete", args=[ours.provider.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("in_use", [False, True])
def test_a_provider_is_not_given_to_an_organization_while_its_issuer_is_site_wide(
    ours: Tenant, root: Any, in_use: bool
) -> None:
    from partium_auth.models import Identity

    IdentityProvider.objects.create(slug="all", display_name="Everybody", issuer=ours.provider.issuer, client_id="c")
    if in_use:
        Identity.objects.create(issuer=ours.provider.issuer, subject="s", digest="d", user=ours.member)
    posted = {
        "display_name": "D",
        "slug": "aardvark-idp",
        "issuer": ours.provider.issuer,
        "is_active": "on",
        "client_id": "c",
        "client_authentication": "client_secret_basic",
        "scopes": "openid",
        "extra_parameters": "{}",
        "signing_algorithms": "RS256",
        "organization": str(ours.organization.pk),
        "email_domains-TOTAL_FORMS": "0",
        "email_domains-INITIAL_FORMS": "0",
    }
    change = reverse("admin:partium_auth_identityprovider_change", args=[ours.provider.pk])
    response = login(root).post(change, posted)
    assert response.status_code == 200
    assert "Everybody, which is active, has this issuer too" in response.content.decode()


def test_a_provider_is_not_called_as_the_one_of_the_settings(root: Any, settings: Settings) -> None:
    settings.OIDC_RP_CLIENT_ID = "portal"
    page = login(root).post(reverse("admin:partium_auth_identityprovider_add"), {"slug": "default"})
    assert "the settings describe has this name" in str(page.context["adminform"].form.errors["slug"])


def test_a_provider_is_checked_and_told_what_is_wrong(ours: Tenant, root: Any) -> None:
    IdentityProvider.objects.filter(pk=ours.provider.pk).update(issuer="http://127.0.0.1:9/nobody")
    url = reverse("admin:partium_auth_identityprovider_check", args=[ours.provider.pk])
    page = login(root).post(url).content.decode()
    assert "partium-failing" in page
    assert "aardvark-client-secret" not in page
    assert login(ours.developer).post(url).status_code == 302


def test_the_check_of_a_provider_names_another_organizations_with_its_issuer(
    ours: Tenant, theirs: Tenant, root: Any
) -> None:
    IdentityProvider.objects.update(issuer="http://127.0.0.1:9/nobody")
    url = reverse("admin:partium_auth_identityprovider_check", args=[ours.provider.pk])
    page = login(root).post(url).content.decode()
    assert f"The provider {theirs.provider} of another organization has the same issuer" in page


def test_grants_are_revoked_from_the_list(ours: Tenant, root: Any) -> None:
    client = login(root)
    url = reverse("admin:partium_auth_grant_changelist")
    page = client.get(url).content.decode()
    assert "aardvark-member" in page
    client.post(url, {"action": "revoke_selected", "_selected_action": [str(ours.grant.pk)]})
    assert Grant.objects.get(pk=ours.grant.pk).revoked_at is not None


def test_a_list_of_very_many_grants_shows_the_first_ones_and_says_so(
    ours: Tenant, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(root)
    url = reverse("admin:partium_auth_grant_changelist")
    oldest = ours.grant
    later = Grant.objects.bulk_create(Grant(kind=Grant.Kind.PASSWORD, user=oldest.user) for _ in range(60))
    assert client.get(url).context["title"] == "Grants"
    monkeypatch.setattr(grant_admin, "SHOWN", 55)
    page = client.get(url, {"p": 2})
    assert page.context["title"] == "The first 55 grants"
    assert len(page.context["cl"].result_list) == 5
    everything = {"action": "revoke_selected", "select_across": "1", "_selected_action": [str(later[0].pk)]}
    client.post(url, everything)
    assert Grant.objects.exclude(revoked_at=None).count() == 55, "what the list goes through, and no more"
    oldest.refresh_from_db()
    assert oldest.revoked_at is None


def test_a_list_of_grants_never_counts_or_sorts_all_of_them(ours: Tenant, root: Any) -> None:
    client = login(root)
    url = reverse("admin:partium_auth_grant_changelist")
    for asked in ({}, {"kind__exact": "oidc"}, {"_facets": "True"}, {"o": "5"}):
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url, asked).status_code == 200
        statements = [query["sql"].replace("`", '"') for query in captured]
        statements = [sql for sql in statements if '"partium_auth_grant"' in sql]
        assert statements
        assert all("LIMIT" in sql for sql in statements if "COUNT" in sql)
        assert all('ORDER BY "partium_auth_grant"."created_at" DESC' in sql for sql in statements if "COUNT" not in sql)


def test_accounts_with_grants_can_still_be_deleted(ours: Tenant, root: Any) -> None:
    client = login(root)
    url = reverse("admin:auth_user_delete", args=[ours.member.pk])
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not get_user_model().objects.filter(pk=ours.member.pk).exists()


def test_the_history_survives_the_person(ours: Tenant, root: Any) -> None:
    developer_id = str(ours.developer.pk)
    ours.developer.delete()
    event = AuditEvent.objects.get(pk=ours.event.pk)
    assert event.actor_id == developer_id


def test_operators_see_how_much_each_organization_searches(root: Any, acme: Organization) -> None:
    today = timezone.localdate()
    used = [keys.add_key(acme, f"a-made-up-value-{n}", label=f"k{n}", actor=None, verify=False) for n in (1, 2)]
    Organization.objects.create(org_id="globex")
    for key, days, searches, failures in [(used[0], 0, 1200, 3), (used[1], 29, 34, 0), (used[1], 30, 5000, 1)]:
        ApiKeyUsage.objects.create(
            api_key=key, day=today - dt.timedelta(days=days), searches=searches, failures=failures
        )
    lists = reverse("admin:partium_auth_organization_changelist")
    page = login(root).get(lists, {"o": "-3"})
    assert [each.org_id for each in page.context["cl"].result_list] == ["acme", "globex"]
    assert re.findall(r'field-recent_use">([^<]*)<', page.content.decode()) == ["1234, 3 failed", "0"]


@pytest.mark.django_db(transaction=True)
def test_the_overview_says_who_is_about_to_lose_access(root: Any) -> None:
    from django.utils import timezone

    soon = timezone.now() + dt.timedelta(days=3)
    wanted: dict[str, dict[str, Any] | None] = {
        "healthy": {"verification": "accepted"},
        "expiring": {"verification": "accepted", "expires_at": soon},
        "unverified": {},
        "failing": {"verification": "rejected"},
        "none": None,
    }
    for name, fields in wanted.items():
        organization = Organization.objects.create(org_id=name)
        if fields is not None:
            key = keys.add_key(organization, "the-same-value-000000", label="k", actor=None, verify=False)
            for field, value in fields.items():
                setattr(key, field, value)
            key.save()
    Organization.objects.filter(org_id="none").update(token_source="api_key")
    Organization.objects.create(org_id="closed", is_active=False)
    client = login(root)
    page = client.get(reverse("admin:partium_auth_organization_overview"))
    assert {status.word: count for status, count in page.context["tiles"]} == dict.fromkeys(wanted, 1)
    listed = [organization.org_id for organization, *_rest in page.context["rows"]]
    assert listed == ["failing", "none", "unverified", "expiring"]
    assert page.context["shared"] == [["expiring", "failing", "healthy", "unverified"]]
    only = client.get(reverse("admin:partium_auth_organization_overview"), {"key_status": "healthy"})
    assert [organization.org_id for organization, *_rest in only.context["rows"]] == ["healthy"]
    for name in wanted:
        found = client.get(reverse("admin:partium_auth_organization_changelist"), {"key_status": name}).context["cl"]
        expected = {"none", "closed"} if name == "none" else {name}
        assert {organization.org_id for organization in found.queryset} == expected
    lists = reverse("admin:partium_auth_organization_changelist")
    worst_first = client.get(lists, {"o": "2.1"}).context["cl"]
    names = ["failing", "closed", "none", "unverified", "expiring", "healthy"]
    assert [organization.org_id for organization in worst_first.result_list] == names
    assert not client.get(lists, {"key_status": "nonsense"}).context["cl"].queryset.exists()
    # The numbers beside the filters are by the same conditions.
    for url in (lists, reverse("admin:partium_auth_apikey_changelist")):
        assert "failing (1)" in client.get(url, {"_facets": "True"}).content.decode()


def test_the_overview_does_not_bury_who_needs_a_key_under_those_who_need_none(root: Any, db: None) -> None:
    for number in range(3):
        Organization.objects.create(org_id=f"a-{number}")  # everybody's own login: no key is missing
    Organization.objects.create(org_id="b", token_source="api_key")
    url, client = reverse("admin:partium_auth_organization_overview"), login(root)
    page = client.get(url)
    assert {status.word: count for status, count in page.context["tiles"]}["none"] == 4
    assert [organization.org_id for organization, *_rest in page.context["rows"]] == ["b"]
    assert page.context["page"].paginator.count == 1
    every = client.get(url, {"key_status": "none"}).context["rows"]
    assert [organization.org_id for organization, *_rest in every] == ["a-0", "a-1", "a-2", "b"]
    Organization.objects.filter(org_id="b").update(token_source="user")
    assert "Nothing needs attention." in client.get(url).content.decode()


@pytest.mark.parametrize("label", ["two\x1flines", "{value}", "see {value} here", " "])
def test_a_label_that_cannot_be_shown_is_refused_beside_its_field(
    ours: Tenant, partium_sandbox: PartiumSandbox, label: str
) -> None:
    value = ours.key.secret.reveal()
    url = reverse("partium_keys:partium_auth_apikey_change", args=[ours.key.pk])
    sent = {"label": label.format(value=value), "expires_at_0": "", "expires_at_1": ""}
    answer = login(ours.developer).post(url, sent)
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert value not in answer.content.decode()
    assert ApiKey.objects.get(pk=ours.key.pk).label == ours.key.label


def test_what_else_was_typed_is_still_there_after_a_key_in_the_label(ours: Tenant) -> None:
    url = reverse("partium_keys:partium_auth_apikey_add")
    sent = {"organization": str(ours.organization.pk), "label": "x-key-000000000000", "value": "x-key-000000000000"}
    page = login(ours.developer).post(url, {**sent, "expires_at_0": "2031-05-06", "expires_at_1": "07:08:09"})
    assert 'value="2031-05-06"' in page.content.decode()
    assert "x-key-000000000000" not in page.content.decode()


def test_a_keys_grant_is_not_revoked_from_the_list_while_the_key_serves(ours: Tenant, root: Any) -> None:
    grant = grants.for_key(ours.key.pk)
    url = reverse("admin:partium_auth_grant_changelist")
    client = login(root)
    page = client.post(url, {"action": "revoke_selected", "_selected_action": [str(grant.pk)]}, follow=True)
    assert Grant.objects.get(pk=grant.pk).revoked_at is None
    assert "revoke the key" in page.content.decode()
    keys.revoke_key(ours.key, actor=root)
    assert Grant.objects.get(pk=grant.pk).revoked_at is not None


@pytest.mark.django_db(transaction=True)
def test_a_key_is_named_as_kept_twice_only_while_it_is(root: Any, db: None) -> None:
    def shared() -> Any:
        return login(root).get(reverse("admin:partium_auth_organization_overview")).context["shared"]

    made = [
        keys.add_key(
            Organization.objects.create(org_id=name), "the-same-key-0000000", label="k", actor=None, verify=False
        )
        for name in ("a", "b", "c")
    ]
    assert shared() == [["a", "b", "c"]]
    keys.revoke_key(made[0], actor=None)
    assert shared() == [["b", "c"]]
    keys.revoke_key(made[2], actor=None)
    assert shared() == []


LIST_OF_EVENTS = "/keys/partium_auth/auditevent/"
WACKY = [
    "at__gte=junk",
    "api_key__id__exact=7",
    "p=99",
]


@pytest.mark.parametrize("page", ["changelist", "csv"])
@pytest.mark.parametrize("query", WACKY, ids=lambda query: query[:20])
def test_what_no_list_can_be_asked_for_leads_to_the_list_without_it(ours: Tenant, page: str, query: str) -> None:
    for _ in range(60):  # more than a page
        AuditEvent.objects.create(api_key=ours.key, organization=ours.organization, action="key_changed")
    answer = login(ours.developer).get(f"{reverse(f'partium_keys:partium_auth_auditevent_{page}')}?{query}")
    assert (answer.status_code, answer["Location"]) == (302, f"{LIST_OF_EVENTS}?e=1")


@pytest.mark.parametrize(
    ("zone", "date", "time"),
    [("America/New_York", "9999-12-31", "23:59:59"), ("Europe/Berlin", "0001-01-01", "00:00:00")],
)
@pytest.mark.parametrize("page", ["add", "change", "rotate"])
def test_an_expiry_that_no_database_can_store_is_refused_beside_its_field(
    ours: Tenant, settings: Settings, page: str, zone: str, date: str, time: str
) -> None:
    settings.TIME_ZONE = zone
    url = reverse(f"partium_keys:partium_auth_apikey_{page}", args=[] if page == "add" else [ours.key.pk])
    form = {
        "organization": ours.organization.org_id,
        "label": "x",
        "value": "another-value-0000",
        "overlap_hours": "1",
        "expires_at_0": date,
        "expires_at_1": time,
    }
    answer = login(ours.developer).post(url, form)
    assert answer.status_code == 200
    assert "This date cannot be stored." in answer.content.decode()
    assert ApiKey.objects.count() == 1


def test_the_key_site_leads_to_nothing_else_of_the_host(
    ours: Tenant, theirs: Tenant, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's view_on_site says where any object of the site is, to whoever may enter: to developers, here."""
    monkeypatch.setattr(
        type(theirs.developer), "get_absolute_url", lambda user: f"/people/{user.email}/", raising=False
    )
    kind = ContentType.objects.get_for_model(theirs.developer)
    url = reverse("partium_keys:view_on_site", args=[kind.pk, theirs.developer.pk])
    assert login(ours.developer).get(url).status_code == 404
    assert login(root).get(url)["Location"] == "http://testserver/people/badger-dev@example.com/"


def test_grants_are_found_by_person_organization_and_provider(ours: Tenant, theirs: Tenant, root: Any) -> None:
    of_key = grants.for_key(ours.key.pk)
    client, url = login(root), reverse("admin:partium_auth_grant_changelist")

    def found(term: str) -> set[Any]:
        return {grant.pk for grant in client.get(url, {"q": term}).context["cl"].result_list}

    assert found("aardvark-mem") == {ours.grant.pk}
    assert found("aardvark-member@example") == {ours.grant.pk}
    assert found("badger-idp") == {theirs.grant.pk}
    assert found("aardvark") == {ours.grant.pk, of_key.pk}
    assert found("nobody") == set()


def test_the_grant_of_an_expired_key_is_not_called_live(ours: Tenant, root: Any) -> None:
    grants.for_key(ours.key.pk)
    ApiKey.objects.update(expires_at=timezone.now())
    page = login(root).get(reverse("admin:partium_auth_grant_changelist"), {"kind__exact": "api_key"})
    assert "partium-expired" in page.content.decode()
    assert "partium-active" not in page.content.decode()


def test_the_list_of_keys_is_titled_with_the_only_organization(client: Client) -> None:
    assert "<h1>API keys of Acme</h1>" in client.get(reverse(KEY + "changelist")).content.decode()


def test_an_operator_connects_an_identity_to_another_person_and_disconnects_it(ours: Tenant, root: Any) -> None:
    client, start = login(root), "admin:partium_auth_identity_"
    Grant.objects.filter(pk=ours.grant.pk).update(identity=ours.identity)
    for term in ("aardvark-subject", "aardvark-mem"):
        found = client.get(reverse(start + "changelist"), {"q": term}).context["cl"].result_list
        assert [identity.pk for identity in found] == [ours.identity.pk]
    change = reverse(start + "change", args=[ours.identity.pk])
    assert 'value="aardvark-member"' in client.get(change).content.decode()
    assert client.post(change, {"person": "nobody"}).status_code == 200
    assert client.post(change, {"person": ours.developer.username}).status_code == 302
    ours.identity.refresh_from_db()
    assert ours.identity.user == ours.developer
    assert Grant.objects.get(pk=ours.grant.pk).revoked_at is not None
    assert client.post(reverse(start + "delete", args=[ours.identity.pk]), {"post": "yes"}).status_code == 302
    events = AuditEvent.objects.exclude(api_key__isnull=False).values_list("action", "person_name", "actor_name")
    assert list(events.order_by("pk")) == [
        ("identity_disconnected", "aardvark-member", "root"),
        ("identity_connected", "aardvark-dev", "root"),
        ("identity_disconnected", "aardvark-dev", "root"),
    ]
