"""A permission and an exception handler for Django REST framework.

Needs ``partium-auth[drf]``. Not for ``INSTALLED_APPS``; a site names them in its views or in ``REST_FRAMEWORK``.
"""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler as default_handler
from rest_framework.views import set_rollback

from partium_auth.accounts import error_texts
from partium_auth.accounts.error_pages import logged_here
from partium_auth.exceptions import LoginRequired, NoOrganization, PartiumError
from partium_auth.views import error_response

_REASON = "_partium_refusal"  # an attribute of Django's request: why HasOrganization has refused it
_FROM_ERROR_RESPONSE = ("Cache-Control", "Expires", "Retry-After", "Vary")


class HasOrganization(BasePermission):  # type: ignore[misc]
    """Allows requests of people who have an active organization; like ``IsAuthenticated``, with one more read.

    The reason is the code of REST framework's error: ``login_required`` or ``no_organization``. With
    :func:`exception_handler`, the answer is the one of :func:`partium_auth.views.error_response`.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the person has an active organization, and the login has not ended."""
        try:
            request._request.partium.require_organization()
        except LoginRequired as error:
            self.code, self.message = "login_required", _("Log in again.")
            setattr(request._request, _REASON, (self.code, error))
        except NoOrganization as error:
            text = error_texts.of_error(error)
            self.code, self.message = text.code, f"{text.title}. {text.advice}"
            setattr(request._request, _REASON, (self.code, error))
        else:
            return True
        return False


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Answer Partium errors and refusals by :class:`HasOrganization`; REST framework's own handler answers the rest.

    Args:
        exc: what the view raised.
        context: REST framework's, with ``request``.

    Returns:
        What :func:`partium_auth.views.error_response` answers, its JSON as a ``Response``. None: nobody knows the error.
    """
    request = context["request"]._request
    error = exc if isinstance(exc, PartiumError) else _refusal(exc, request)
    if error is None:
        answer: HttpResponse | None = default_handler(exc, context)
        return answer
    set_rollback()  # with ATOMIC_REQUESTS, a returned answer would commit
    answer = error_response(request, error)
    if not isinstance(answer, JsonResponse):
        return answer  # a person's browser gets a page, or is sent to the login page
    headers = {name: answer[name] for name in _FROM_ERROR_RESPONSE if name in answer}
    script_answer: HttpResponse = Response(json.loads(answer.content), status=answer.status_code, headers=headers)
    return logged_here(script_answer)


def _refusal(exc: Exception, request: Any) -> PartiumError | None:
    """Return why HasOrganization has refused the request, if that is what REST framework's error is about."""
    code, error = getattr(request, _REASON, ("", None))
    # REST framework raises NotAuthenticated without the permission's code.
    is_login = isinstance(exc, NotAuthenticated) and code == "login_required"
    is_denied = isinstance(exc, PermissionDenied) and exc.get_codes() == code
    return error if is_login or is_denied else None
