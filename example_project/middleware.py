"""The Content-Security-Policy of every page: nothing inline, nothing from a host that the settings do not name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from partium_auth.conf import conf


def origin_of(url: str) -> str:
    """The origin of an absolute URL, such as ``https://api.partium.io``; empty where it is not absolute."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and parts.netloc else ""


def policy() -> str:
    """The policy of this site, from its settings.

    Partium's API is named for pictures and for the browser's own searches. Forms may lead anywhere over https, because
    signing in and out ends in a redirect to the identity provider of the person's company, and browsers hold a form's
    redirects to ``form-action`` too.
    """
    api = origin_of(conf.api_url)
    sdk = origin_of(conf.find_sdk_url)
    names = ("OIDC_OP_AUTHORIZATION_ENDPOINT", "OIDC_OP_DISCOVERY_ENDPOINT", "OIDC_OP_ISSUER")
    provider = next(filter(None, (origin_of(getattr(settings, name, "")) for name in names)), "")
    directives = {
        "default-src": ("'self'",),
        "script-src": ("'self'", sdk),
        "connect-src": ("'self'", api, sdk),
        "img-src": ("'self'", "data:", "blob:", "https:", api),
        "form-action": ("'self'", "https:", provider),
        "object-src": ("'none'",),
        "base-uri": ("'none'",),
        "frame-ancestors": ("'none'",),
    }
    return "; ".join(" ".join((name, *filter(None, sources))) for name, sources in directives.items())


GetResponse = Callable[[HttpRequest], HttpResponse] | Callable[[HttpRequest], Awaitable[HttpResponse]]


@sync_and_async_middleware
def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Middleware: send :func:`policy` with every response that has none of its own."""

    def add(response: HttpResponse) -> HttpResponse:
        response.headers.setdefault("Content-Security-Policy", policy())
        return response

    if iscoroutinefunction(get_response):

        async def amiddleware(request: HttpRequest) -> HttpResponse:
            return add(await get_response(request))

        return amiddleware

    def middleware(request: HttpRequest) -> HttpResponse:
        return add(cast("HttpResponse", get_response(request)))

    return middleware
