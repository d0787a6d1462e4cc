"""``{% load partium %}``: Partium's Find SDK in a page, with a token that is refreshed; a form that switches the organization."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import template
from django.middleware.csrf import get_token
from django.template import Context
from django.urls import reverse
from django.utils.asyncio import async_unsafe

from partium_auth.clients import external_user_id
from partium_auth.conf import conf
from partium_auth.host.csp import nonce_of
from partium_auth.models import Organization
from partium_auth.partium.part import Part
from partium_auth.partium.report import link_query

register = template.Library()


@register.simple_tag
def partium_viewed(part: Part) -> str:
    """Return the query string for a link to a part's own page: ``href="{% url 'part' part.id %}?{% partium_viewed part %}"``.

    The view of that page calls ``request.partium.client.report.viewed_link(request.GET)``.
    """
    return urlencode(link_query(part))


@register.inclusion_tag("partium_auth/find_sdk.html", takes_context=True)
@async_unsafe("{% partium_find_sdk %} reads the database: in async views use await sync_to_async(render)(request, …).")
def partium_find_sdk(context: Context) -> dict[str, Any]:
    """Start Partium's browser SDK with a token from the token endpoint, and refresh it while the page is open.

    Renders nothing if nobody is logged in or the person has no organization. The HTML contains no token: the script asks
    the token endpoint for it. Other scripts get a promise of a valid token from ``partiumAuth.token()``. Events on
    ``document``: ``partium:token``, there is a new access token (for pages that bundle the SDK); ``partium:ready``, the SDK has started; ``partium:login``, the person has to log in; ``partium:reload``,
    the page is out of date because somebody logged in or switched organization in another tab.
    """
    request = _request(context)
    session = getattr(request, "partium", None)
    organization = session.organization if session is not None else None
    if organization is None:
        return {"organization": None}
    nonce = context.get("csp_nonce", nonce_of(request))
    shared = organization.token_source != Organization.TokenSource.USER
    return {
        "organization": organization,
        "token_url": reverse("partium_auth:token"),
        "csrf_token": get_token(request),
        "sdk_url": conf.find_sdk_url,
        "external_user_id": external_user_id(request.user.pk) if shared else "",
        "nonce": "" if nonce is None else str(nonce),  # as text, because a lazy nonce is false until it is used
    }


@register.inclusion_tag("partium_auth/organization_switch.html", takes_context=True)
@async_unsafe(
    "{% partium_organization_switch %} reads the database: in async views use await sync_to_async(render)(request, …)."
)
def partium_organization_switch(context: Context, next: str = "") -> dict[str, Any]:  # noqa: A002 - the form's field
    """Show a form to switch the session's organization. It works without JavaScript and under any Content-Security-Policy.

    Renders nothing for a person of a single organization, which is open already, or of none. The form has the class
    ``partium-organization-switch``; a template ``partium_auth/organization_switch.html`` of the site replaces it.

    Args:
        context: of the page.
        next: the path of the page after the switch; default: the same page again.
    """
    request = _request(context)
    session = getattr(request, "partium", None)
    organizations = session.organizations if session is not None else []
    if session is None or not organizations or organizations == [session.organization]:
        return {"organizations": []}
    return {
        "organizations": organizations,
        "organization": session.organization,
        "csrf_token": get_token(request),
        "next": next or request.get_full_path(),
    }


def _request(context: Context) -> Any:
    # Not every site uses the context processor "request", but render() always passes the request.
    return getattr(context, "request", None) or context["request"]
