"""Views of a host site that use ``request.partium``, some of which let its errors through; for every host of the tests."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template import engines

from partium_auth import exceptions, for_organization, for_user


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
    found = await request.partium.client.asearch(text=request.GET["text"], limit=3)
    return JsonResponse({"names": [part.name for part in found.results]})


async def blocking(request: Any, name: str) -> HttpResponse:
    """An async view that forgot to await."""
    partium = request.partium
    attempts = {
        "organization": lambda: partium.organization,
        "organizations": lambda: partium.organizations,
        "switch_organization": lambda: partium.switch_organization("acme"),
        "access_token": lambda: partium.access_token,
        "token": partium.token,
        "state": partium.state,
        "search": lambda: partium.client.search(text="fan"),
        "request": lambda: partium.client.request("GET", "/1/x"),
        "for_organization": lambda: for_organization("acme"),
        "for_user": lambda: for_user(request.user, "acme"),
        "sdk": lambda: render(request, "tests/sdk.html"),
    }
    try:
        attempts[name]()
    except SynchronousOnlyOperation as error:
        return HttpResponse(str(error))
    return HttpResponse("it blocked the event loop")


async def asdk(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(render)(request, "tests/sdk.html")


async def aclient_in_a_template(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string("{{ request.partium.client }}")
    return HttpResponse(template.render({}, request))


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
