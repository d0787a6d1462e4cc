from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from partium_auth.fields import seal
from partium_auth.models import (
    ApiKey,
    ApiKeyUsage,
    AuditEvent,
    EmailDomain,
    Grant,
    Identity,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Role,
)
from partium_auth.services import keys


@dataclass
class Tenant:
    """An organization with one of everything; every text in it has the organization's name."""

    name: str
    organization: Organization
    key: ApiKey
    event: AuditEvent
    member: Any
    developer: Any
    membership: Membership
    invitation: Invitation
    provider: IdentityProvider
    grant: Grant
    identity: Identity

    def object_of(self, model: type[Model]) -> Any:
        return {
            ApiKey: self.key,
            AuditEvent: self.event,
            Organization: self.organization,
            Membership: self.membership,
            Invitation: self.invitation,
            IdentityProvider: self.provider,
            Grant: self.grant,
            Identity: self.identity,
        }[model]


def make_tenant(name: str) -> Tenant:
    users = get_user_model().objects
    organization = Organization.objects.create(org_id=name, display_name=f"{name} display")
    developer = users.create_user(f"{name}-dev", f"{name}-dev@example.com", "pw")
    member = users.create_user(f"{name}-member", f"{name}-member@example.com", "pw")
    Membership.objects.create(user=developer, organization=organization, role=Role.DEVELOPER)
    membership = Membership.objects.create(user=member, organization=organization, role=Role.MEMBER)
    key = keys.add_key(organization, f"{name}-secret-{'0' * 20}", label=f"{name} label", actor=developer, verify=False)
    ApiKeyUsage.objects.create(api_key=key, day=timezone.localdate(), searches=30, failures=2)
    provider = IdentityProvider(
        slug=f"{name}-idp", display_name=f"{name} login", organization=organization, client_id="c"
    )
    provider.issuer = f"https://{name}.example.com"
    provider.client_secret = seal(provider, "client_secret", f"{name}-client-secret")
    provider.save()
    EmailDomain.objects.create(provider=provider, domain=f"{name}.example.com")
    LogEntry.objects.create(
        user=developer,
        content_type=ContentType.objects.get_for_model(ApiKey),
        object_id=str(key.pk),
        object_repr=f"{name} repr",
        action_flag=ADDITION,
        change_message="",
    )
    return Tenant(
        name=name,
        organization=organization,
        key=key,
        event=AuditEvent.objects.get(api_key=key),
        member=member,
        developer=developer,
        membership=membership,
        invitation=Invitation.objects.create(
            organization=organization,
            email=f"invited@{name}.example.com",
            expires_at=timezone.now() + dt.timedelta(days=3),
        ),
        provider=provider,
        identity=Identity.objects.create(
            issuer="https://elsewhere.example", subject=f"{name}-subject", digest=name, user=member
        ),
        grant=Grant.objects.create(kind=Grant.Kind.OIDC, user=member, provider=provider.slug),
    )


@pytest.fixture(autouse=True)
def _urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.admin.urls"


@pytest.fixture
def ours(db: None) -> Tenant:
    return make_tenant("aardvark")


@pytest.fixture
def theirs(db: None) -> Tenant:
    return make_tenant("badger")


@pytest.fixture
def root(db: None) -> Any:
    return get_user_model().objects.create_superuser("root", "root@example.com", "pw")


def login(user: Any = None) -> Client:
    """A browser, with the CSRF check on."""
    client = Client(raise_request_exception=True)
    if user is not None:
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client
