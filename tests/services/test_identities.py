"""Connecting an identity to another person."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from pytest_django import Settings

from partium_auth.models import Identity, Invitation, Membership, Organization, Origin, Role
from partium_auth.models.identities import identity_digest
from partium_auth.services import connect_identity, invite

pytestmark = pytest.mark.django_db
ISSUER = "https://login.example.com"


def person(name: str) -> Any:
    return get_user_model().objects.create_user(name, f"{name}@example.com")


def test_what_its_claims_have_given_stays_with_nobody(settings: Settings) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    acme = Organization.objects.create(org_id="acme")
    before, after = person("before"), person("after")
    identity = Identity.objects.create(issuer=ISSUER, subject="s", digest=identity_digest(ISSUER, "s"), user=before)
    Membership.objects.create(
        user=before, organization=acme, role=Role.DEVELOPER, origin=Origin.CLAIMS, identity=identity
    )
    by_hand = Membership.objects.create(user=before, organization=Organization.objects.create(org_id="globex"))
    invite(acme, "friend@example.com", actor=before)
    version = acme.version

    connect_identity(identity, after, actor=None)

    assert list(Membership.objects.all()) == [by_hand]
    assert not Invitation.objects.exists()
    acme.refresh_from_db()
    assert acme.version != version
