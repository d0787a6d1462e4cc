"""Opens every page of both sites in a host of another kind; run by ``tests.admin.test_hosts`` in a process of its own.

The host's settings module is in ``DJANGO_SETTINGS_MODULE``. Exits with a message where a page does not come out right.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import django

django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import get_script_prefix, reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from partium_auth.admin import MODEL_ADMINS, key_site  # noqa: E402
from partium_auth.models import (  # noqa: E402
    ApiKey,
    ApiKeyUsage,
    AuditEvent,
    Grant,
    Identity,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
)
from partium_auth.services import keys, members, organizations  # noqa: E402


def fail(message: str) -> None:
    sys.exit(message)


def check(client: Client, url: str, expected: int = 200) -> str:
    prefix = get_script_prefix()
    response = client.get("/" + url.removeprefix(prefix))
    if response.status_code != expected:
        fail(f"{url}: {response.status_code} {response.get('Location', '')}")
    body = (response.getvalue() if response.streaming else response.content).decode()
    if prefix != "/":
        for link in re.findall(r'(?:href|action)="(/[^"]*)"', body):
            if not f"{link}/".startswith((prefix, "/static/")):
                fail(f"{url}: the link {link} forgets where the site is")
    return body


def main() -> None:  # noqa: C901  # one long walk
    call_command("migrate", run_syncdb=True, verbosity=0)
    users: Any = get_user_model()._default_manager
    name = get_user_model().USERNAME_FIELD
    root = users.create_superuser(**{name: "root@example.com", "password": "pw"})
    dev = users.create_user(**{name: "dev@example.com", "password": "pw"})
    acme = organizations.add_organization("acme", display_name="Acme", actor=None)
    Membership.objects.create(user=dev, organization=acme, role="developer")
    key = keys.add_key(acme, "value-0000000000000", label="shop", actor=dev, verify=False)
    ApiKeyUsage.objects.create(api_key=key, day=timezone.localdate(), searches=1)
    provider = IdentityProvider.objects.create(slug="acme", display_name="A", issuer="https://i.example", client_id="c")
    objects: dict[type, Any] = {
        ApiKey: key,
        AuditEvent: AuditEvent.objects.get(action="key_added"),
        Organization: acme,
        Membership: Membership.objects.get(),
        Invitation: members.invite(acme, "a@example.com", actor=dev),
        IdentityProvider: provider,
        Grant: Grant.objects.get(),
        Identity: Identity.objects.create(issuer="https://i.example", subject="s", digest="d", user=dev),
    }
    pages = 0
    for user, sites in ((root, (key_site, admin.site)), (dev, (key_site,))):
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        for site in sites:
            check(client, reverse(f"{site.name}:index"), 302 if site is key_site else 200)
            check(client, reverse(f"{site.name}:app_list", args=["partium_auth"]))
            for model in MODEL_ADMINS:
                if user is dev and model in (Organization, IdentityProvider, Grant, Identity):
                    continue
                start = f"{site.name}:partium_auth_{model._meta.model_name}_"
                pk = objects[model].pk
                check(client, reverse(start + "changelist"))
                body = check(client, reverse(start + "change", args=[pk]))
                check(client, reverse(start + "history", args=[pk]), 302)
                pages += 3
                if model is ApiKey:
                    for wanted in ("Verify at Partium", "Rotate", "Revoke", "<svg", "History"):
                        if wanted not in body:
                            fail(f"{wanted!r} is missing on a key's page")
                    for page in ("add", "find"):
                        check(client, reverse(start + page))
                    check(client, reverse(start + "rotate", args=[pk]))
                    asked = reverse(start + "revoke").removeprefix(get_script_prefix())
                    answer = client.post(f"/{asked}", {"keys": str(pk)}).content.decode()
                    if "This cannot be undone" not in answer:
                        fail("revoking does not ask")
                elif model is AuditEvent:
                    check(client, reverse(start + "csv"))
                    if "Export as CSV" not in check(client, reverse(start + "changelist")):
                        fail("no way to the CSV")
                elif model in (Organization, IdentityProvider, Invitation) or (user is root and model is Membership):
                    check(client, reverse(start + "add"))
            if user is root:
                check(client, reverse(f"{site.name}:partium_auth_organization_overview"))
    print(f"{pages} pages")


main()
