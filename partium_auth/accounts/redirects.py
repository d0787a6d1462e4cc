"""Where a browser is sent, and where it may be sent: the login page, ``next``, the same page again, a provider."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.encoding import iri_to_uri
from django.utils.http import escape_leading_slashes, url_has_allowed_host_and_scheme

from partium_auth.oidc.authorization_request import with_query

_LONGEST_TARGET = 1800
"""As a parameter of another URL, in characters: Django 5.2.8 refuses to redirect to more than 2048."""
_LONGEST_PROVIDER_URL = 8000  # many servers refuse more


# --- what the request says ----------------------------------------------------------------------------------------------


def is_navigation(request: HttpRequest) -> bool:
    """Tell whether a person's browser is opening a page, as opposed to a script asking for data."""
    if request.headers.get("X-Requested-With") == "XMLHttpRequest":
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in request.headers.get("Accept", "")


def is_safe_target(
    request: HttpRequest, url: str, *, hosts: Iterable[str] = (), require_https: bool | None = None
) -> bool:
    """Tell whether a browser may be sent to a URL that a request names: it is on this site or these hosts, and short enough.

    Plain http is safe by default only where this request came by it.
    """
    if len(url) > _LONGEST_TARGET or len(quote(url, safe="")) > _LONGEST_TARGET:
        return False
    if require_https is None:
        require_https = request.is_secure()
    return url_has_allowed_host_and_scheme(url, {request.get_host(), *hosts}, require_https=require_https)


def parameter(request: HttpRequest, name: str) -> str:
    """Return a parameter of the form or of the query, without space around it."""
    return (request.POST.get(name) or request.GET.get(name) or "").strip()


def response_of(request: HttpRequest) -> QueryDict:
    """Return the parameters of an authorization response: of the form (``response_mode=form_post``) or of the query."""
    return request.POST if request.method == "POST" else request.GET


def next_url_of(request: HttpRequest) -> str:
    """Return where the person wants to go after the login, if that is on this site; else an empty string."""
    # A site can rename the field; Django itself always says "next".
    names = next_field(), REDIRECT_FIELD_NAME, "target_link_uri"  # the last one: Core §4
    url = next((url for name in names if (url := parameter(request, name))), "")
    hosts = getattr(settings, "OIDC_REDIRECT_ALLOWED_HOSTS", ())
    require_https = getattr(settings, "OIDC_REDIRECT_REQUIRE_HTTPS", None)
    return url if is_safe_target(request, url, hosts=hosts, require_https=require_https) else ""


def next_field() -> str:
    """Return the name of the field ``next`` on this site."""
    name: str = getattr(settings, "OIDC_REDIRECT_FIELD_NAME", REDIRECT_FIELD_NAME)
    return name


# --- pages of this site -------------------------------------------------------------------------------------------------


def login_page_url(next_url: str = "") -> str:
    """Return the URL of the login page, to come back to ``next_url`` afterwards."""
    return _with_parameters(reverse("partium_auth:login"), {next_field(): next_url} if next_url else {})


def login_url(request: HttpRequest, *, provider: str = "", silent: bool = False, fresh: bool = False) -> str:
    """Return the URL to log in at, coming back to the page that is open now.

    Args:
        request: what was asked for.
        provider: slug of the provider to send the browser to; empty: the login page.
        silent: with ``prompt=none``: only if the provider does not have to ask the person anything.
        fresh: only with a login from the last minutes.
    """
    parameters = {}
    coming_back = this_page(request) if request.method in {"GET", "HEAD"} else request.headers.get("Referer", "")
    if is_navigation(request) and is_safe_target(request, coming_back):
        parameters[next_field()] = coming_back
    url = reverse("partium_auth:oidc_login", args=[provider]) if provider else reverse("partium_auth:login")
    if provider and silent:
        parameters["prompt"] = "none"
    if provider and fresh:
        parameters["fresh"] = "1"
    return _with_parameters(url, parameters)


def after_login(next_url: str, *, has_joined: bool = False) -> HttpResponse:
    """Send a browser that has logged in on its way; by the page that tells of invitations, where the login has accepted one."""
    if has_joined:
        return HttpResponseRedirect(memberships_url(next_url, joined=True))
    return HttpResponseRedirect(next_url or resolve_url(settings.LOGIN_REDIRECT_URL))


def memberships_url(next_url: str, *, joined: bool) -> str:
    """Return the URL of the person's memberships; ``joined``: it tells of the invitations that a login has just accepted."""
    parameters = ({"joined": "1"} if joined else {}) | ({next_field(): next_url} if next_url else {})
    return _with_parameters(reverse("partium_auth:memberships"), parameters)


def this_page(request: HttpRequest) -> str:
    """Return the address of the page that was asked for, to be linked to.

    A browser would take a path that begins with two slashes for the name of another host.
    """
    return escape_leading_slashes(request.get_full_path())


def may_repeat(request: HttpRequest) -> bool:
    """Tell whether a browser may be sent to the same address again, when a view was rolled back.

    Not after a POST: the view may have done more than its transaction, such as sending a mail.
    """
    return request.method in {"GET", "HEAD"} and is_safe_target(request, this_page(request))


def repeat(request: HttpRequest) -> HttpResponse:
    """Send a browser to the same address again; see :func:`may_repeat`."""
    response = HttpResponseRedirect(this_page(request))
    add_never_cache_headers(response)
    return response


# --- pages of a provider --------------------------------------------------------------------------------------------------


def with_hint(url: str, id_token: str) -> str:
    """Return a URL at a provider with an ``id_token_hint``, unless there is none or the URL would be too long for servers."""
    is_short = len(url) + len(id_token) < _LONGEST_PROVIDER_URL
    return with_query(url, {"id_token_hint": id_token}) if id_token and is_short else url


def to_provider(request: HttpRequest, url: str) -> HttpResponse:
    """Send the browser to a provider.

    A form's answer is a page that goes on by itself: ``form-action 'self'`` would block a redirect to another site. Other
    requests are redirected. Django 5.2.8 refuses redirects of more than 2048 characters; a log-out URL with an ID token
    has more.
    """
    location = iri_to_uri(url) or ""
    if request.method == "POST" and is_navigation(request):
        response = render(request, "partium_auth/continue.html")
        response["Refresh"] = f"0; url={location}"
    else:
        response = HttpResponseRedirect(url.partition("?")[0])
        response["Location"] = location
    return response


def _with_parameters(url: str, parameters: dict[str, str]) -> str:
    return f"{url}?{urlencode(parameters)}" if parameters else url
