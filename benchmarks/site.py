"""The site's views: one that does nothing with Partium, one that reads the token."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path


def untouched(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"yes" if request.user.is_authenticated else b"no")


def token(request: Any) -> HttpResponse:
    return HttpResponse(b"yes" if request.partium.access_token else b"no")


urlpatterns = [path("untouched/", untouched), path("token/", token)]
