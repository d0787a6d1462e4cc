"""The site that works, which each row of the table breaks in one place; and parts that break it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from partium_auth.backends import PartiumOIDCBackend
from partium_auth.models import ApiKey, Organization
from partium_auth.testing import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from tests.oidc.provider import BendableProvider


@dataclass(frozen=True)
class Site:
    """What a row may break.

    Args:
        settings: of the site.
        sandbox: Partium, for the site.
        provider: of the settings, named ``default``.
        organization: ``acme``, whose people share an API key.
        key: the key.
        person: the member.
        monkeypatch: for what is not a setting.
    """

    settings: Any
    sandbox: PartiumSandbox
    provider: BendableProvider
    organization: Organization
    key: ApiKey
    person: PartiumUser
    monkeypatch: pytest.MonkeyPatch

    def set(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.settings, name, value)

    def without_provider(self) -> None:
        """The site has no identity provider of its own any more."""
        for name in ("OIDC_RP_CLIENT_ID", "OIDC_OP_ISSUER"):
            delattr(self.settings, name)

    def without_our_logins(self) -> None:
        """People log in some other way, as with django-allauth."""
        self.without_provider()
        self.settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]


class OverridesGetToken(PartiumOIDCBackend):
    """As written for the base library."""

    def get_token(self, payload: Any) -> Any:
        return payload


class PeopleElsewhere:
    """A database router that sends the app's tables into another database than the users'."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "elsewhere" if model._meta.app_label == "partium_auth" else None


class WithoutUrls:
    urlpatterns: list[Any] = []


class WithLibraryUrls:
    urlpatterns = [
        path("partium/", include("partium_auth.urls")),
        path("oidc/", include("mozilla_django_oidc.urls")),
    ]


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")


urlpatterns = [
    path("home/", home),
    path("partium/", include("partium_auth.urls")),
    path("back/", RedirectView.as_view(pattern_name="partium_auth:login")),
]
