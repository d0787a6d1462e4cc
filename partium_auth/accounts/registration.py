"""What to register at a provider: the site's URLs in full, to copy."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import resolve_url
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from partium_auth.accounts.code_flow import redirect_uri_of
from partium_auth.accounts.redirects import login_page_url
from partium_auth.http.loopback import is_loopback
from partium_auth.services.provider_check import Finding


def urls_to_register(request: HttpRequest, slug: str) -> Iterator[tuple[str, str]]:
    """Yield the URLs to register at a provider, in full, each after what it is called; the request says scheme and host."""
    yield _("Redirect URI to register"), redirect_uri_of(request, slug)
    target = resolve_url(settings.LOGOUT_REDIRECT_URL or login_page_url())
    yield _("Post-logout redirect URI to register"), request.build_absolute_uri(target)
    for name, text in (
        ("oidc_login", _("Initiate login URI, if people start there")),
        ("backchannel_logout", _("Back-channel logout URI, if it has one")),
        ("frontchannel_logout", _("Front-channel logout URI, if it has no back-channel")),
        ("jwks", _("Key set (jwks_uri), if this site uses private_key_jwt")),
    ):
        yield text, request.build_absolute_uri(reverse(f"partium_auth:{name}", args=[slug]))


def check_urls(request: HttpRequest, slug: str) -> Iterator[Finding]:
    """Name the URLs to register, and say what is wrong with them; the request says scheme and host."""
    for text, url in urls_to_register(request, slug):
        yield Finding("ok", f"{text}: {url}")
    redirect_uris = set()
    for language, _name in settings.LANGUAGES:
        with translation.override(language):
            redirect_uris.add(redirect_uri_of(request, slug))
    if len(redirect_uris) > 1:
        yield Finding(
            "warning",
            _("The redirect URI is another one in each language: %s") % ", ".join(sorted(redirect_uris)),
            _("Include partium_auth.urls outside of i18n_patterns(), or register each of them."),
        )
    is_forwarded = request.headers.get("X-Forwarded-Proto") == "https" or settings.SESSION_COOKIE_SECURE
    if not request.is_secure() and (is_forwarded or not is_loopback(request.get_host().partition(":")[0])):
        yield Finding(
            "error" if is_forwarded else "warning",
            _("The redirect URI begins with http://, because this request does not look like https to Django."),
            _("If a proxy ends TLS, let it set X-Forwarded-Proto, and set SECURE_PROXY_SSL_HEADER to that header."),
        )
