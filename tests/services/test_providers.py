"""Identity providers as operators write them: whose accounts an issuer opens."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from partium_auth.models import IdentityProvider, Organization
from partium_auth.services import save_provider

pytestmark = pytest.mark.django_db
ISSUER = "https://login.example.com/realms/all"


def provider(slug: str, owner: Organization | None, **fields: Any) -> IdentityProvider:
    return IdentityProvider(slug=slug, display_name=slug.title(), organization=owner, issuer=ISSUER, **fields)


@pytest.fixture
def acme() -> Organization:
    return Organization.objects.create(org_id="acme")


@pytest.mark.parametrize("first_is_site_wide", [True, False])
def test_an_organizations_provider_and_a_site_wide_one_never_share_an_issuer(
    acme: Organization, first_is_site_wide: bool
) -> None:
    first, second = (None, acme) if first_is_site_wide else (acme, None)
    save_provider(provider("first", first), actor=None)
    with pytest.raises(ValidationError, match="First, which is active, has this issuer too") as caught:
        save_provider(provider("second", second), actor=None)
    assert list(caught.value.error_dict) == ["issuer"]
    assert IdentityProvider.objects.count() == 1


@pytest.mark.parametrize(
    "configured",
    [
        {"OIDC_OP_ISSUER": ISSUER},
        {"OIDC_OP_DISCOVERY_ENDPOINT": ISSUER + "/.well-known/openid-configuration"},
        {"PARTIUM_API_URL": ISSUER},
    ],
)
def test_nor_does_it_share_one_with_the_provider_of_the_settings_or_with_partium(
    acme: Organization, settings: Settings, configured: dict[str, str]
) -> None:
    settings.OIDC_RP_CLIENT_ID = "portal"
    for name, value in configured.items():
        setattr(settings, name, value)
    with pytest.raises(ValidationError, match="has this issuer too"):
        save_provider(provider("acme", acme), actor=None)
    save_provider(provider("site-wide", None), actor=None)


def test_the_name_of_the_provider_of_the_settings_is_taken(settings: Settings) -> None:
    """A row of that name would be taken for it: switched off, it would end everybody's login."""
    settings.OIDC_RP_CLIENT_ID = "portal"
    with pytest.raises(ValidationError) as caught:
        save_provider(provider("default", None), actor=None)
    assert list(caught.value.error_dict) == ["slug"]
    settings.OIDC_RP_CLIENT_ID = ""
    row = save_provider(provider("default", None), actor=None)
    settings.OIDC_RP_CLIENT_ID = "portal"
    row.slug = "renamed"
    assert save_provider(row, actor=None).slug == "renamed"


def test_a_provider_cannot_be_given_to_an_organization_or_made_active_into_a_shared_issuer(acme: Organization) -> None:
    save_provider(provider("site-wide", None), actor=None)
    other = save_provider(provider("other", None), actor=None)
    other.organization = acme
    with pytest.raises(ValidationError):
        save_provider(other, actor=None)
    other.is_active = False
    save_provider(other, actor=None)
    other.is_active = True
    with pytest.raises(ValidationError):
        save_provider(other, actor=None)


def test_what_differs_in_one_letter_is_another_issuer(acme: Organization) -> None:
    save_provider(provider("site-wide", None), actor=None)
    other = provider("acme", acme)
    other.issuer = ISSUER.replace("all", "ALL")
    save_provider(other, actor=None)


def test_providers_of_one_owner_and_of_two_organizations_may_share_an_issuer(acme: Organization) -> None:
    for slug, owner in (("a", acme), ("b", acme), ("c", Organization.objects.create(org_id="globex"))):
        save_provider(provider(slug, owner), actor=None)
    assert IdentityProvider.objects.count() == 3
