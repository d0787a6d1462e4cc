"""The views that only these hosts have; the others are those of ``tests.site``."""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt


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


def broken(request: Any) -> HttpResponse:
    """A view with a mistake, after it has used everything."""
    request.partium.client.search(text="fan", limit=1)
    request.partium.token()
    raise ZeroDivisionError("the host's own mistake")
