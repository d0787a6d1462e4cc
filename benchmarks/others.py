"""How others read a stored token: allauth's SocialToken and social-auth's ``get_access_token``, where they are installed."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse

HAS_ALLAUTH = importlib.util.find_spec("allauth") is not None
HAS_SOCIAL_AUTH = importlib.util.find_spec("social_django") is not None
APPS = [
    *(["allauth", "allauth.account", "allauth.socialaccount"] if HAS_ALLAUTH else []),
    *(["social_django"] if HAS_SOCIAL_AUTH else []),
]


def allauth_token(request: HttpRequest) -> HttpResponse:
    """What allauth's documentation shows."""
    found = import_module("allauth.socialaccount.models").SocialToken.objects.get(
        account__user=request.user, account__provider="bench"
    )
    return HttpResponse(b"yes" if found.token else b"no")


def social_auth_token(request: Any) -> HttpResponse:
    """What social-auth's documentation shows."""
    strategy = import_module("social_django.utils").load_strategy(request)
    found = request.user.social_auth.get(provider="google-oauth2")
    return HttpResponse(b"yes" if found.get_access_token(strategy) else b"no")


VIEWS = {
    **({"allauth's SocialToken": allauth_token} if HAS_ALLAUTH else {}),
    **({"social-auth's get_access_token": social_auth_token} if HAS_SOCIAL_AUTH else {}),
}


def store_tokens() -> None:
    """Store one token for each user."""
    users = list(get_user_model().objects.all())
    if HAS_ALLAUTH:
        models = import_module("allauth.socialaccount.models")
        for user in users:
            account = models.SocialAccount.objects.create(user=user, provider="bench", uid=str(user.pk))
            models.SocialToken.objects.create(account=account, token="a" * 43, token_secret="r" * 43)
    if HAS_SOCIAL_AUTH:
        models = import_module("social_django.models")
        for user in users:
            data = {"access_token": "a" * 43, "refresh_token": "r" * 43, "expires": 86_400}
            models.UserSocialAuth.objects.create(user=user, provider="google-oauth2", uid=str(user.pk), extra_data=data)
