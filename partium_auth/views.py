"""What a site's views need: guards, the answer to a Partium error; the token endpoint, the switch of organization."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from partium_auth.accounts.error_pages import error_response
from partium_auth.accounts.redirects import is_safe_target
from partium_auth.exceptions import PartiumError
from partium_auth.host.decorators import utf8_only
from partium_auth.session import PartiumSession

__all__ = ["OrganizationRequiredMixin", "error_response", "organization", "organization_required", "token"]

V = TypeVar("V", bound=Callable[..., Any])


def organization_required(view: V) -> V:
    """Return a view that runs only for a person with an active organization; before it, the session is read once.

    Args:
        view: a function, sync or async. For a class use :class:`OrganizationRequiredMixin`.

    The view raises, and ``PartiumMiddleware`` answers:
        LoginRequired: nobody is logged in, or the login has ended.
        NoOrganization: the person belongs to no active organization, or not to the session's any more.
    """
    checked: Any
    if iscoroutinefunction(view):

        @wraps(view)
        async def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
            await request.partium.arequire_organization()
            return await view(request, *args, **kwargs)
    else:

        @wraps(view)
        def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
            request.partium.require_organization()
            return view(request, *args, **kwargs)

    # LoginRequiredMiddleware would redirect scripts, too, and to LOGIN_URL.
    return login_not_required(checked)  # type: ignore[no-any-return]


class OrganizationRequiredMixin:
    """:func:`organization_required` for class-based views, sync and async. Name it before ``View``."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the guarded view."""
        return organization_required(super().as_view(**initkwargs))  # type: ignore[misc]


@login_not_required  # a script is told 401 in JSON, not redirected to a page
@utf8_only
@require_POST
@csrf_protect
@never_cache
def token(request: HttpRequest) -> HttpResponse:
    """Answer with the session's access token; never with an API key.

    ``{"access_token": "…", "token_type": "Bearer", "expires_in": seconds, "organization": "acme"}``, after the names of
    RFC 6749 §5.1; ``Cache-Control: no-store``. Errors are JSON: 401 with ``login_url``, 403, or 503 with ``Retry-After``.
    """
    try:
        issued = PartiumSession(request).token()
    except PartiumError as error:
        return error_response(request, error)
    return JsonResponse(
        {
            "access_token": issued.value,
            "token_type": "Bearer",
            "expires_in": max(0, int(issued.expires_at.timestamp() - time.time())),
            "organization": issued.organization.org_id,
        }
    )


@login_not_required
@utf8_only
@require_POST
@csrf_protect
@never_cache
def organization(request: HttpRequest) -> HttpResponse:
    """Switch the session's organization to ``organization`` (Partium's id), and go to ``next``."""
    try:
        PartiumSession(request).switch_organization(request.POST.get("organization", ""))
    except PartiumError as error:
        return error_response(request, error)
    target = request.POST.get("next", "")
    if not is_safe_target(request, target):
        target = resolve_url(settings.LOGIN_REDIRECT_URL)
    return HttpResponseRedirect(target)
