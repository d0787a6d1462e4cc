"""``manage.py seed_demo``: create what the demo starts with; can be run again."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from example_project.demo_provider import read_people
from partium_auth.models import Organization
from partium_auth.services import add_key, add_organization
from partium_auth.testing.sandbox import ACME, ACME_KEY, GLOBEX, GLOBEX_KEY

# The two kinds of organization: people's own access tokens, and one key for everybody.
ORGANIZATIONS = (
    (ACME, "Acme Industrial", Organization.TokenSource.USER, ACME_KEY),
    (GLOBEX, "Globex Machines", Organization.TokenSource.API_KEY, GLOBEX_KEY),
)


class Command(BaseCommand):
    """Create the demo's two organizations with their keys, and the local superuser.

    Everybody else comes from the identity provider: their accounts and memberships are made of claims at their first
    login. Nothing that exists is changed.
    """

    help = "Create the demo's organizations, API keys and superuser. Only with DEBUG on: the password is public."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "seed_demo creates a superuser whose password everybody knows, so it runs with DEBUG=1 only. "
                "A real site needs none of it: add organizations in the admin."
            )
        with transaction.atomic():
            for org_id, name, source, key in ORGANIZATIONS:
                self._organization(org_id, name, source, key)
            self._operator()

    def _organization(self, org_id: str, name: str, source: str, key: str) -> None:
        organization = Organization.objects.filter(org_id=org_id).first()
        if organization is None:
            organization = add_organization(org_id, actor=None, display_name=name, token_source=source)
            self.stdout.write(f"Created the organization {name}.")
        # Do not add a key again that somebody has revoked in the demo.
        if not organization.api_keys.exists():
            # The sandbox may not be running yet.
            add_key(organization, key, label="Demo key", actor=None, verify=False)
            self.stdout.write(f"Added an API key to {name}.")

    def _operator(self) -> None:
        people = read_people()
        users = get_user_model()._default_manager
        if not users.filter(username=people.operator_username).exists():
            users.create_superuser(people.operator_username, people.operator_email, people.password)
            self.stdout.write(f"Created the superuser {people.operator_username}.")
