"""The Content-Security-Policy of every page: nothing inline, nothing from a host that the settings do not name."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from partium_auth.conf import conf


class ContentSecurityPolicy(MiddlewareMixin):
    """Send :func:`policy` with every response that has none of its own."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Add the header."""
        response.headers.setdefault("Content-Security-Policy", policy())
        return response


def policy() -> str:
    """Return the policy of this site, from its settings.

    Forms may lead anywhere over https: signing in and out redirects to the identity provider of the person's company,
    and browsers apply ``form-action`` to redirects, too.
    """
    api, sdk = origin_of(conf.api_url), origin_of(conf.find_sdk_url)
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


def origin_of(url: str) -> str:
    """Return the origin of a URL, such as ``https://api.partium.io``; empty for an empty one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
