"""``{% load partium %}``: Partium's Find SDK in a page, with a token that is renewed."""

from __future__ import annotations

from typing import Any

from django import template
from django.middleware.csrf import get_token
from django.template import Context
from django.urls import reverse

from partium_auth.clients import external_user_id
from partium_auth.conf import conf
from partium_auth.models import Organization

register = template.Library()


@register.inclusion_tag("partium_auth/find_sdk.html", takes_context=True)
def partium_find_sdk(context: Context) -> dict[str, Any]:
    """Start Partium's browser SDK with a token from the token endpoint, and renew it while the page is open.

    Renders nothing where nobody is logged in or the person has no organization. The page is given no token: its script
    asks the token endpoint. ``partiumAuth.token()`` gives other scripts a promise of a valid one; the event
    ``partium:ready`` on ``document`` says that the SDK has been started, ``partium:login`` that the person has to log in, and
    ``partium:reload`` that the page is out of date, because somebody has logged in or switched organization in another tab.
    """
    # A site need not have the context processor "request"; render() passes the request all the same.
    request = getattr(context, "request", None) or context["request"]
    session = getattr(request, "partium", None)
    organization = session.organization if session is not None else None
    if organization is None:
        return {"organization": None}
    shared = organization.token_source != Organization.TokenSource.USER
    return {
        "organization": organization,
        "token_url": reverse("partium_auth:token"),
        "csrf_token": get_token(request),
        "sdk_url": conf.find_sdk_url,
        "external_user_id": external_user_id(request.user.pk) if shared else "",
        # Django's own context processor, or django-csp.
        "nonce": context.get("csp_nonce") or getattr(request, "csp_nonce", ""),
    }
