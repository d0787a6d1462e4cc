"""Pages of the site under test: one that reads the token, one that sends it, one that does nothing with Partium."""

from __future__ import annotations

import os
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path


def control(request: HttpRequest) -> HttpResponse:
    """A page of the site that never touches Partium."""
    return HttpResponse(b"yes" if request.user.is_authenticated else b"no")


def token(request: Any) -> HttpResponse:
    """A page that needs a token."""
    return JsonResponse({"token": bool(request.partium.access_token)})


def search(request: Any) -> HttpResponse:
    """A page that sends the token."""
    request.partium.client.search(text="fan")
    return HttpResponse(b"yes")


def pid(request: HttpRequest) -> HttpResponse:
    """Which worker holds this connection."""
    return HttpResponse(str(os.getpid()))


urlpatterns = [
    path("partium/", include("partium_auth.urls")),
    *(path(f"{view.__name__}/", view) for view in (control, token, search, pid)),
]
