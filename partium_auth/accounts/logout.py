"""Logging out here, and then at the provider: OpenID Connect RP-Initiated Logout 1.0, and RFC 7009 for the refresh token."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from partium_auth.accounts import sessions
from partium_auth.accounts.redirects import login_page_url, to_provider, with_hint
from partium_auth.exceptions import EncryptionError, UpstreamError
from partium_auth.host.decorators import utf8_only
from partium_auth.host.per_process import PerProcess
from partium_auth.models import Grant
from partium_auth.oidc import providers
from partium_auth.oidc.authorization_request import with_query
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.tokens.revocation import revoke_at_provider

MOST_WAITING = 2
"""So many log-outs of a process wait for a revocation at once, three seconds at most; the clearing command does the others'."""
_turns = PerProcess(lambda: threading.BoundedSemaphore(MOST_WAITING))


@login_not_required
@utf8_only
@require_POST
@csrf_protect
@never_cache
def logout(request: HttpRequest) -> HttpResponse:
    """Log out here, whatever the provider does, and then at the provider where it offers that."""
    target = resolve_url(settings.LOGOUT_REDIRECT_URL or login_page_url())
    method = getattr(settings, "OIDC_OP_LOGOUT_URL_METHOD", "")
    own_target = import_string(method)(request) if method and request.user.is_authenticated else None
    at_provider = _at_provider(request)
    auth.logout(request)  # the app's signal receiver revokes the grant
    url = ""
    if at_provider is not None:
        at_provider.revoke()
        url = "" if own_target else at_provider.url(request.build_absolute_uri(target))
    if at_provider is None or own_target or url:
        messages.success(request, _("You are logged out."), fail_silently=True)
    else:
        name = at_provider.provider.display_name
        text = _("You are logged out here. You may still be logged in at %(name)s.") % {"name": name}
        messages.warning(request, text, fail_silently=True)
    return to_provider(request, url) if url else HttpResponseRedirect(own_target or target)


@dataclass(frozen=True)
class ProviderLogout:
    """What a log-out at the provider needs to know of a session, read before the session ends here."""

    provider: Provider
    id_token: str = field(repr=False)
    grant: Grant = field(repr=False)

    def url(self, target: str) -> str:
        """Return the provider's log-out URL, or an empty string where it has none or cannot be asked.

        The provider sends the browser back to ``target``, an absolute URL, if that is registered with it.
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
        """Revoke the refresh token, before the provider's own log-out ends it there; or leave it to the clearing command."""
        turns = _turns()
        if turns.acquire(blocking=False):
            try:
                revoke_at_provider(self.grant)
            finally:
                turns.release()


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
            grant=grant,
        )
    except (LookupError, EncryptionError, ImproperlyConfigured):
        return None
