"""The site's views: one that does nothing with Partium, one that reads the token, and some to compare with."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks import others
from partium_auth.models import Membership


def untouched(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"yes" if request.user.is_authenticated else b"no")


def token(request: Any) -> HttpResponse:
    return HttpResponse(b"yes" if request.partium.access_token else b"no")


# What the least of anything costs in the same place, to compare with.


def one_select(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()
    return untouched(request)


def one_row(request: HttpRequest) -> HttpResponse:
    Membership.objects.get(user=request.user.pk)
    return untouched(request)


urlpatterns = [
    path(f"{view.__name__}/", view) for view in (untouched, token, one_select, one_row, *others.VIEWS.values())
]
