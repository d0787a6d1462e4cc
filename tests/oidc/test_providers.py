"""What the settings and a row say about a provider."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from partium_auth.models import IdentityProvider
from partium_auth.oidc import providers
from partium_auth.oidc.metadata import interpret_metadata
from partium_auth.oidc.provider import ENDPOINTS
from tests.oidc.conftest import add_provider
from tests.oidc.provider import BendableProvider


@pytest.mark.parametrize("value", ["HS512 none", "rs256", [], ""])
def test_an_unknown_algorithm_is_a_mistake(op: BendableProvider, settings: Settings, value: Any) -> None:
    settings.OIDC_RP_SIGN_ALGO = value
    with pytest.raises(ImproperlyConfigured, match="OIDC_RP_SIGN_ALGO"):
        providers.get("default")


@pytest.mark.parametrize(("name", "setting"), ENDPOINTS.items())
def test_each_url_can_be_set_in_the_settings_and_in_a_row(
    op: BendableProvider, settings: Settings, db: None, name: str, setting: str
) -> None:
    url = "https://elsewhere.example/x"
    setattr(settings, setting, url)
    row = add_provider(op, **{name: url})
    for provider in (providers.get("default"), providers.from_row(row)):
        assert getattr(interpret_metadata(provider, op.discovery()), name) == url


def test_every_url_of_a_provider_decides_who_gets_its_secrets() -> None:
    assert set(ENDPOINTS) <= set(IdentityProvider.DECIDES_WHO_GETS_SECRETS)


def test_without_a_client_id_there_is_no_default_provider(settings: Settings, db: None) -> None:
    settings.OIDC_OP_ISSUER = "https://provider.example"
    with pytest.raises(LookupError):
        providers.get("default")


@pytest.mark.parametrize(
    ("settings_given", "name"),
    [
        ({"OIDC_OP_NAME": "Contoso"}, "Contoso"),
        ({"OIDC_OP_ISSUER": "https://login.example.com/realms/a"}, "login.example.com"),
        ({"OIDC_OP_AUTHORIZATION_ENDPOINT": "https://a.example.com/x"}, "a.example.com"),
        ({}, "default"),
    ],
)
def test_what_the_login_page_calls_it(settings: Settings, settings_given: dict[str, str], name: str) -> None:
    for setting, value in settings_given.items():
        setattr(settings, setting, value)
    assert providers.settings_name() == name
