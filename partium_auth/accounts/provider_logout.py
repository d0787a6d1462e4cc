"""Logging out at the provider as well: OpenID Connect RP-Initiated Logout 1.0, and RFC 7009 for the refresh token."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest

from partium_auth.accounts import sessions
from partium_auth.accounts.code_flow import with_hint, with_query
from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError, UpstreamError
from partium_auth.oidc import providers, token_endpoint
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.tokens.workers import Executor, Saturated

logger = logging.getLogger("partium_auth.login")

WAITING_LIMIT = 200
"""So many refresh tokens may wait to be revoked at one provider; while it hangs, two of them take three seconds."""
_executor = Executor(after_job=connections.close_all, queue_limit=WAITING_LIMIT)


@dataclass(frozen=True)
class ProviderLogout:
    """What has to be known of a session to end it at the provider, taken before it is ended here."""

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


def prepare(request: HttpRequest) -> ProviderLogout | None:
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
