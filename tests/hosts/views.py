"""A host's views, synchronous and asynchronous."""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt

from partium_auth import exceptions


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")


@csrf_exempt
@login_not_required
def local_login(request: HttpRequest) -> HttpResponse:
    """The host's own login form."""
    user = auth.authenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        return HttpResponse(status=403)
    auth.login(request, user)
    return HttpResponse("welcome")


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


def broken(request: Any) -> HttpResponse:
    """A view with a mistake, after it has used everything."""
    request.partium.client.search(text="fan", limit=1)
    request.partium.token()
    raise ZeroDivisionError("the host's own mistake")
