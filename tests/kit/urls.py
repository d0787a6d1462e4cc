"""A site with a page that searches."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from partium_auth import PartiumRequest
from partium_auth.views import organization_required


@organization_required
def parts(request: PartiumRequest) -> JsonResponse:
    found = request.partium.client.search(text=request.GET["q"])
    organization = request.partium.organization
    assert organization is not None
    return JsonResponse({"organization": organization.org_id, "parts": [part.name for part in found.results]})


def unguarded(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"user": str(request.user)})


urlpatterns = [path("partium/", include("partium_auth.urls")), path("parts/", parts), path("who/", unguarded)]
