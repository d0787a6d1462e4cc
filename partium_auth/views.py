"""The token endpoint for the page's own JavaScript, the switch of organization, and the answer to a Partium error."""

from __future__ import annotations

import time

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from partium_auth.accounts.error_pages import error_response
from partium_auth.accounts.redirects import is_safe_target
from partium_auth.exceptions import PartiumError
from partium_auth.host.decorators import utf8_only
from partium_auth.session import PartiumSession

__all__ = ["error_response", "organization", "token"]


@login_not_required  # a script is told 401 in JSON, not redirected to a page
@utf8_only
@require_POST
@csrf_protect
@never_cache
@sensitive_variables("issued")
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
