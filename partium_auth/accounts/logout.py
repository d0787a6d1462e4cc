"""Logging out here, and then at the provider: OpenID Connect RP-Initiated Logout 1.0, and RFC 7009 for the refresh token."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from partium_auth.accounts import sessions
from partium_auth.accounts.redirects import login_page_url, to_provider, with_hint, with_query
from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError, UpstreamError
from partium_auth.host.decorators import utf8_only
from partium_auth.oidc import providers, token_endpoint
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.tokens.workers import Executor, Saturated

logger = logging.getLogger("partium_auth.login")

WAITING_LIMIT = 200
"""At most this many refresh tokens wait to be revoked at one provider; while it hangs, two of them take three seconds."""
REVOCATION_THREADS = 2
_executor = Executor(threads=lambda: REVOCATION_THREADS, queue_limit=WAITING_LIMIT)


@login_not_required
@utf8_only
@require_POST
@csrf_protect
@never_cache
@sensitive_variables()
def logout(request: HttpRequest) -> HttpResponse:
    """Log out here, whatever the provider does, and then at the provider where it offers that."""
    target = resolve_url(settings.LOGOUT_REDIRECT_URL or login_page_url())
    method = getattr(settings, "OIDC_OP_LOGOUT_URL_METHOD", "")
    own_target = import_string(method)(request) if method and request.user.is_authenticated else None
    at_provider = _at_provider(request)
    auth.logout(request)  # the app's signal receiver revokes the grant
    if at_provider is None:
        return HttpResponseRedirect(own_target or target)
    at_provider.revoke()
    url = "" if own_target else at_provider.url(request.build_absolute_uri(target))
    return to_provider(url) if url else HttpResponseRedirect(own_target or target)


@dataclass(frozen=True)
class ProviderLogout:
    """What a log-out at the provider needs to know of a session, read before the session ends here."""

    provider: Provider
    id_token: str = field(repr=False)
    refresh_token: str = field(repr=False)

    def url(self, target: str) -> str:
        """Return the provider's log-out URL, or an empty string where it has none or cannot be asked.

        Args:
            target: absolute; where the provider sends the browser back to, if that is registered with it.
        """
        try:
            endpoint = metadata_of(self.provider).end_session_endpoint
        except (Refused, UpstreamError):
            return ""
        if not endpoint:
            return ""
        parameters = {
            "client_id": self.provider.client_id,
            "post_logout_redirect_uri": target,
            "state": secrets.token_urlsafe(16),
        }
        # Without the hint the provider asks whether to log out.
        return with_hint(with_query(endpoint, parameters), self.id_token)

    def revoke(self) -> None:
        """Revoke the refresh token at the provider in the background, where it offers that. Never raises or waits."""
        if not self.refresh_token:
            return
        if conf.executor == "inline":
            self._revoke()
            return
        try:
            _executor.submit(self.provider.slug, self._revoke)
        except Saturated:
            logger.warning(
                "The refresh token was not revoked at %s: too many wait for that already. It ends when the provider says.",
                self.provider.slug,
            )

    def _revoke(self) -> None:
        token_endpoint.revoke(self.provider, self.refresh_token)


def _at_provider(request: HttpRequest) -> ProviderLogout | None:
    """Return how to end the request's session at the provider; None where it did not log in through one."""
    grant = sessions.oidc_grant_of(request)
    if grant is None:
        return None
    try:
        provider = providers.get(grant.provider)
        if not provider.issued(grant):
            return None
        return ProviderLogout(
            provider=provider,
            id_token=grant.id_token.reveal() if grant.id_token is not None else "",
            refresh_token=grant.refresh_token.reveal() if grant.refresh_token is not None else "",
        )
    except (LookupError, EncryptionError, ImproperlyConfigured):
        return None
