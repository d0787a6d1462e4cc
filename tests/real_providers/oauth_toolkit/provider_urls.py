"""Pages of a provider made with django-oauth-toolkit, and at ``/tests/`` what an operator does there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import get_application_model, get_refresh_token_model
from oauth2_provider.settings import oauth2_settings


def begin(*, site: str, secret: str) -> None:
    """Make the application and ann anew; what the other operations have changed is as it was."""
    oauth2_settings.ROTATE_REFRESH_TOKEN = False
    User.objects.all().delete()
    applications = get_application_model().objects
    applications.all().delete()
    applications.create(
        client_id="site",
        client_secret=secret,
        client_type="confidential",
        authorization_grant_type="authorization-code",
        redirect_uris=f"{site}/partium/callback/default/",
        post_logout_redirect_uris=f"{site}/partium/login/",
        algorithm="RS256",
        skip_authorization=True,
    )
    user = User.objects.create_user("ann", "ann@example.com", "demo", first_name="Ann", last_name="Otis")
    user.groups.set(Group.objects.get_or_create(name=name)[0] for name in ("acme", "globex", "acme:developer"))


def rotate_refresh_tokens() -> None:
    oauth2_settings.ROTATE_REFRESH_TOKEN = True


def take_rights() -> None:
    ann = User.objects.get()
    ann.groups.remove(*ann.groups.exclude(name="acme"))


def disable() -> None:
    User.objects.update(is_active=False)


def end_logins() -> None:
    for token in get_refresh_token_model().objects.filter(revoked=None):
        token.revoke()


def ask_for_approval() -> None:
    get_application_model().objects.update(skip_authorization=False)


def replace_key(*, pem: str) -> None:
    oauth2_settings.OIDC_RSA_PRIVATE_KEYS_INACTIVE = [oauth2_settings.OIDC_RSA_PRIVATE_KEY]
    oauth2_settings.OIDC_RSA_PRIVATE_KEY = pem


OPERATIONS: dict[str, Callable[..., None]] = {
    operation.__name__: operation
    for operation in (begin, rotate_refresh_tokens, take_rights, disable, end_logins, ask_for_approval, replace_key)
}


@csrf_exempt
def administration(request: HttpRequest, operation: str) -> JsonResponse:
    OPERATIONS[operation](**json.loads(request.body))
    return JsonResponse({"subject": str(User.objects.get().pk)})


urlpatterns: list[Any] = [
    path("o/", include("oauth2_provider.urls")),
    path("login/", LoginView.as_view()),
    path("tests/<str:operation>/", administration),
]
