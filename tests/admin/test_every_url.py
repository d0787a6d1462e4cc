"""Every URL that this app has in an admin, taken from the sites' own patterns: nothing of B for anybody but B and operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core import serializers
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from pytest_django import Settings

from partium_auth.admin import MODEL_ADMINS, key_site
from partium_auth.models import ApiKey, AuditEvent, Membership, Organization
from tests.admin.conftest import Tenant, login

SITES = {"keys": key_site, "admin": admin.site}
PEOPLE = ["anonymous", "member", "staff", "developer", "staff developer"]


def names_of(site: Any) -> Iterator[tuple[str, Any]]:
    """Every named pattern, with the model it belongs to, or None for the site's own."""
    prefixes = {f"{m._meta.app_label}_{m._meta.model_name}_": m for m in MODEL_ADMINS}

    def walk(patterns: Any) -> Iterator[URLPattern]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns)
            else:
                yield pattern

    for pattern in walk(site.get_urls()):
        if pattern.name is None:  # the redirect of old change URLs, and the catch-all
            continue
        model = next((m for prefix, m in prefixes.items() if pattern.name.startswith(prefix)), None)
        foreign = pattern.name.startswith(("auth_", "axes_"))
        if not foreign:
            yield pattern.name, model


def urls_of(site: Any, tenant: Tenant) -> Iterator[str]:
    for name, model in names_of(site):
        if name == "view_on_site":
            from django.contrib.contenttypes.models import ContentType

            kind = ContentType.objects.get_for_model(ApiKey)
            yield reverse(f"{site.name}:{name}", args=[kind.pk, tenant.key.pk])
        elif name == "app_list":
            yield reverse(f"{site.name}:{name}", args=["partium_auth"])
        elif model is not None and name.rpartition("_")[2] in {"change", "delete", "history", "rotate", "check", "key"}:
            yield reverse(f"{site.name}:{name}", args=[tenant.object_of(model).pk])
        else:
            yield reverse(f"{site.name}:{name}")


def stored(but: Tenant) -> list[Any]:
    """Everything that is stored, without what a developer may well do to their own organization."""
    models = apps.get_app_config("partium_auth").get_models()
    rows = [row for m in models for row in serializers.serialize("python", m._default_manager.order_by("pk"))]
    mine = but.organization.pk
    return [row for row in rows if row["fields"].get("organization") != mine and row["pk"] != str(mine)]


def person(who: str, ours: Tenant) -> Any:
    if who == "anonymous":
        return None
    if who == "member":
        return ours.member
    user = ours.developer
    if who == "staff":
        user = ours.member
        user.is_staff = True
        user.save()
    elif who == "staff developer":
        user.is_staff = True
        user.save()
    return user


def texts_of(tenant: Tenant) -> list[str]:
    return [tenant.name, str(tenant.organization.pk), str(tenant.key.pk), tenant.key.fingerprint]


def assert_nothing_of(tenant: Tenant, response: Any, asked: str) -> None:
    body = response.getvalue() if response.streaming else response.content
    text = body.decode() + repr(dict(response.items())) + response.cookies.output()
    for known in texts_of(tenant):
        # What the visitor typed into the URL or the form may come back.
        assert known not in text.replace(asked, ""), f"{known!r} in the answer to {asked}"


def posts(tenant: Tenant, listed: type | None) -> list[dict[str, Any]]:
    """What somebody could post that is about a tenant's things; ``listed``: the model of a list, which has actions."""
    pk = str(tenant.key.pk)
    organization = tenant.organization
    fields = {
        "organization": organization.org_id,
        "label": "x",
        "value": "some-value-000000000000",
        "allow_unverified": "on",
        "overlap_hours": "1",
        "email": "new@example.com",
        "role": "developer",
        "person": tenant.member.username,
        "expires_at_0": "",
        "expires_at_1": "",
    }
    return [
        {},
        {"post": "yes"},
        {"keys": pk, "confirmed": "1"},
        {"keys": pk},
        fields,
        {**fields, "organization": str(organization.pk)},
        *(
            {"action": action, "_selected_action": [str(tenant.object_of(model).pk)], "select_across": "0"}
            for model in ([listed] if listed else [])
            for action in ("verify_selected", "revoke_selected", "delete_selected")
        ),
    ]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("who", PEOPLE)
def test_nothing_of_another_organization_is_shown_or_changed(
    site: str, who: str, ours: Tenant, theirs: Tenant, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    settings.PARTIUM_API_URL = "http://127.0.0.1:9"  # nobody is there
    user = person(who, ours)
    before, log_before = stored(ours), LogEntry.objects.filter(object_id=str(theirs.key.pk)).count()
    urls = list(urls_of(SITES[site], theirs))
    assert len(urls) > 40
    prefix = f"{SITES[site].name}:partium_auth_"
    lists = {reverse(f"{prefix}{model._meta.model_name}_changelist"): model for model in MODEL_ADMINS}
    assert set(lists) <= set(urls)
    for url in urls:
        if url.endswith(("/logout/", "/login/")):
            continue
        client = login(user)
        response = client.get(url)
        assert response.status_code in {200, 302, 403, 404, 405}, url
        assert_nothing_of(theirs, response, url)
        for data in posts(theirs, lists.get(url)):
            response = client.post(url, data)
            assert response.status_code in {200, 302, 400, 403, 404, 405}, (url, data)
            if response.status_code == 200:
                assert_nothing_of_but(theirs, response, url, data)
    assert stored(ours) == before
    assert LogEntry.objects.filter(object_id=str(theirs.key.pk)).count() == log_before


def assert_nothing_of_but(tenant: Tenant, response: Any, url: str, data: dict[str, Any]) -> None:
    text = response.content.decode().replace(url, "")
    typed = {str(v) for v in itertools.chain.from_iterable(v if isinstance(v, list) else [v] for v in data.values())}
    for known in texts_of(tenant):
        if not any(known in value for value in typed):
            assert known not in text, f"{known!r} in the answer to {url} {data}"
    if "display" not in typed:
        assert f"{tenant.name} display" not in text
        assert f"{tenant.name} label" not in text


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("who", ["developer", "staff developer"])
def test_filters_lookups_and_searches_tell_nothing_of_another_organization(
    site: str, who: str, ours: Tenant, theirs: Tenant
) -> None:
    client = login(person(who, ours))
    queries = [
        f"organization={theirs.organization.pk}",
        f"organization__id__exact={theirs.organization.pk}",
        "organization__org_id__startswith=b",
        "organization__memberships__user__email__startswith=badger",
        "created_by__password__startswith=md5",
        "created_by__email__startswith=b",
        "secret__startswith=v1",
        "secret__isnull=0",
        "fingerprint__startswith=0",
        "api_key__fingerprint__startswith=0",
        f"api_key__id__exact={theirs.key.pk}",
        "api_key__organization__org_id__startswith=b",
        f"id__exact={theirs.key.pk}",
        f"q={theirs.key.hint}",
        "q=badger",
        "o=1.2.3",
        "p=99",
        "all=",
        "_popup=1&_to_field=fingerprint",
    ]
    for model in (ApiKey, AuditEvent, Organization, Membership):
        for page in ("changelist", *(["csv"] if model is AuditEvent else [])):
            name = f"{SITES[site].name}:partium_auth_{model._meta.model_name}_{page}"
            for query in queries:
                url = f"{reverse(name)}?{query}"
                response = client.get(url)
                assert response.status_code in {200, 302, 400, 403}, url
                text = (response.getvalue() if response.streaming else response.content).decode()
                for known in ("badger display", "badger label", "badger-dev", "badger-member", "badger repr"):
                    assert known not in text, (known, url)
    for query in ("api_key__organization__org_id__startswith=b", "created_by__password__startswith=m"):
        url = reverse(f"{SITES[site].name}:partium_auth_apikey_changelist") + f"?{query}"
        expected = 302 if (site, who) == ("admin", "developer") else 400  # not staff: the login page
        assert client.get(url).status_code == expected, "a free look-up is an oracle, even over one's own rows"


@pytest.mark.parametrize("site", SITES)
def test_the_filters_that_are_offered_work(site: str, ours: Tenant, theirs: Tenant, root: Any) -> None:
    client = login(root)
    asked = 0
    for model in MODEL_ADMINS:
        url = reverse(f"{SITES[site].name}:partium_auth_{model._meta.model_name}_changelist")
        page = client.get(url)
        for spec in page.context["cl"].filter_specs:
            for choice in spec.choices(page.context["cl"]):
                assert client.get(url + choice["query_string"]).status_code == 200, choice
                asked += 1
    assert asked > 40


@pytest.mark.parametrize("site", SITES)
def test_autocomplete_is_for_operators(site: str, ours: Tenant, theirs: Tenant, root: Any) -> None:
    ours.developer.is_staff = True
    ours.developer.save()
    url = reverse(f"{SITES[site].name}:autocomplete")
    asked = {
        "app_label": "partium_auth",
        "model_name": "identityprovider",
        "field_name": "organization",
        "term": "badger",
    }
    assert login(ours.developer).get(url, asked).status_code == 403
    assert login(root).get(url, asked).json()["results"] == [
        {"id": str(theirs.organization.pk), "text": "badger display"}
    ]


@pytest.mark.parametrize("site", SITES)
def test_a_superuser_gets_every_page(site: str, ours: Tenant, root: Any) -> None:
    """So that the walk above does not pass because everything is broken."""
    client = login(root)
    for url in urls_of(SITES[site], ours):
        if url.endswith(("/login/", "/logout/", "autocomplete/")) or "/r/" in url:
            continue
        status = client.get(url).status_code
        closed = url.endswith("/delete/") and any(
            part in url for part in ("apikey", "auditevent", "/organization/", "grant")
        )
        redirects = url.endswith(("/keys/", "/apikey/verify/", "/apikey/revoke/", "/check/", "/new-key/", "/history/"))
        nothing_to_add = url.endswith("/add/") and any(part in url for part in ("auditevent", "grant", "/identity/"))
        assert status == (
            403 if closed or nothing_to_add else 302 if redirects else 200 if "password" not in url else status
        ), url


def test_a_developer_works_in_the_key_site_without_being_staff(ours: Tenant) -> None:
    client = login(ours.developer)
    page = client.get(reverse("partium_keys:partium_auth_apikey_changelist"))
    assert page.status_code == 200
    assert "aardvark label" in page.content.decode()
    detail = client.get(reverse("partium_keys:partium_auth_apikey_change", args=[ours.key.pk])).content.decode()
    assert "<svg" in detail
    assert ": 30, failures: 2; " in detail
    assert client.get(reverse("admin:index")).status_code == 302


@pytest.mark.parametrize("who", ["member", "staff"])
def test_who_may_not_enter_is_told_so_and_not_sent_in_circles(who: str, ours: Tenant) -> None:
    client = login(person(who, ours))
    response = client.get(reverse("partium_keys:index"), follow=True)
    assert response.status_code == 403


def test_an_anonymous_visitor_is_sent_to_the_apps_login_page(db: None) -> None:
    url = reverse("partium_keys:partium_auth_apikey_changelist")
    response = Client().get(url)
    assert response.status_code == 302
    response = Client().get(response["Location"])
    assert response["Location"].startswith(reverse("partium_auth:login") + "?next=")
    assert response["Location"].endswith(url.replace("/", "%2F"))
