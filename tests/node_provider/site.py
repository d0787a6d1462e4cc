"""A site with one kind of page."""

from __future__ import annotations

from django.http import HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path
from django.views.decorators.csrf import csrf_protect

from partium_auth import PartiumRequest
from partium_auth.admin import key_site

PAGE = Template(
    "<!doctype html><html lang='en'><title>{{ name }}</title><p id='who'>{{ user.email|default:'nobody' }}</p>"
    "<p id='organization'>{{ organization }}</p>"
    "<form method='post' action='{% url 'partium_auth:logout' %}'>{% csrf_token %}<button>Log out</button></form></html>"
)


@csrf_protect
def page(request: PartiumRequest, name: str) -> HttpResponse:
    """Shows who is logged in; ``/page/token/`` also needs an access token."""
    organization = request.partium.organization
    if name == "token":
        request.partium.token()
    return HttpResponse(PAGE.render(RequestContext(request, {"name": name, "organization": organization})))


urlpatterns = [
    path("partium/", include("partium_auth.urls")),
    path("keys/", key_site.urls),
    path("page/<str:name>/", page),
]
