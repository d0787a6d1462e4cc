"""Views of a host site that use ``request.partium``, some of which let its errors through; for every host of the tests."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from partium_auth import exceptions


def token(request: Any) -> HttpResponse:
    issued = request.partium.token()
    return JsonResponse({"ends": issued.value[-4:], "organization": issued.organization.org_id})


async def atoken(request: Any) -> HttpResponse:
    issued = await request.partium.atoken()
    return JsonResponse({"ends": issued.value[-4:], "organization": issued.organization.org_id})


def search(request: Any) -> HttpResponse:
    found = request.partium.client.search(text=request.GET["text"], limit=3)
    return JsonResponse({"names": [part.name for part in found.results]})


async def asearch(request: Any) -> HttpResponse:
    client = await request.partium.aclient()
    found = await client.asearch(text=request.GET["text"], limit=3)
    return JsonResponse({"names": [part.name for part in found.results]})


def sdk(request: HttpRequest) -> HttpResponse:
    return render(request, "tests/sdk.html")


@login_not_required
def failing(request: HttpRequest, name: str) -> HttpResponse:
    error = getattr(exceptions, name)
    raise error("SECRET-DETAIL for developers")


def unavailable(request: HttpRequest) -> HttpResponse:
    raise exceptions.TokenUnavailable("later", retry_after=17)


def untouched(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.user.is_authenticated))
