"""The nonce of the site's Content-Security-Policy, whichever middleware sends that."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def nonce_of(request: HttpRequest) -> Any:
    """Return the request's nonce, from django-csp or from Django 6's own middleware; None where there is neither.

    Both are lazy: false until they are used, and using one adds it to the policy. So ask for ``None``, not for truth.
    """
    nonce = getattr(request, "csp_nonce", None)
    if nonce is None:
        try:
            from django.middleware.csp import get_nonce
        except ImportError:  # Django 5.2
            return None
        nonce = get_nonce(request)
    return nonce
