"""A site that ran mozilla-django-oidc: its URLs, with the one include swapped, and its backend, with the one base swapped."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path

from partium_auth.backends import PartiumOIDCBackend


class SiteBackend(PartiumOIDCBackend):
    """What such a site typically has; every hook that the base library documents."""

    def verify_claims(self, claims: Any) -> bool:
        return "customers" in claims.get("groups", [])

    def filter_users_by_claims(self, claims: Any) -> Any:
        return self.UserModel.objects.filter(username=claims.get("employee"))

    def create_user(self, claims: Any) -> Any:
        user = super().create_user(claims)
        user.groups.add(Group.objects.get_or_create(name="created")[0])
        return user

    def update_user(self, user: Any, claims: Any) -> Any:
        user.first_name = claims.get("given_name", "")
        user.save()
        return user

    def get_username(self, claims: Any) -> str:
        return str(claims["employee"])


def home(request: HttpRequest) -> HttpResponse:
    text = '{% url "oidc_authentication_init" %} {% url "oidc_logout" %} {% url "oidc_authentication_callback" %}'
    return HttpResponse(Template(text).render(RequestContext(request)))


def log_out_at_the_provider(request: HttpRequest) -> str:
    return f"https://provider.example/bye?user={request.user.pk}"


def username_by_setting(email: str, claims: Any) -> str:
    return f"by-setting-{claims['employee']}"


def users() -> Any:
    return get_user_model().objects


urlpatterns = [path("", home), path("oidc/", include("partium_auth.legacy_urls"))]
