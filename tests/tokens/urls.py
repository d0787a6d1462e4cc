"""Views of a site that uses tokens."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path


def token(request: Any) -> HttpResponse:
    return JsonResponse({"generation": request.partium.token().generation})


def token_then_failure(request: Any) -> HttpResponse:
    assert request.partium.access_token
    raise RuntimeError("a mistake of the host's")


def write_then_token(request: Any) -> HttpResponse:
    User.objects.filter(pk=request.user.pk).update(first_name="written")
    return token(request)


def cart(request: HttpRequest) -> HttpResponse:
    request.session["cart"] = ["fan"]
    return HttpResponse()


async def atoken(request: Any) -> HttpResponse:
    return JsonResponse({"generation": (await request.partium.atoken()).generation})


async def asearch(request: Any) -> HttpResponse:
    return JsonResponse({"found": len((await request.partium.client.asearch(text="fan")).results)})


async def aswitch(request: Any) -> HttpResponse:
    before = await request.partium.aorganization()
    await request.partium.aswitch_organization("globex")
    after = await request.partium.aorganization()
    state = await request.partium.astate()
    names = [organization.org_id for organization in await request.partium.aorganizations()]
    return JsonResponse({"before": before.org_id, "after": after.org_id, "all": names, "window": state.window})


urlpatterns = [
    path("token/", token),
    path("token-then-failure/", token_then_failure),
    path("write-then-token/", write_then_token),
    path("cart/", cart),
    path("atoken/", atoken),
    path("asearch/", asearch),
    path("aswitch/", aswitch),
    path("partium/", include("partium_auth.urls")),
]
