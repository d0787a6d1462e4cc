"""Revoke the refresh tokens of ended logins at their providers (RFC 7009): at the log-out, or later until it is done."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from django.utils import timezone

from partium_auth.exceptions import EncryptionError
from partium_auth.models import Grant
from partium_auth.models.database import database_alias

if TYPE_CHECKING:
    from django.db.models import QuerySet

TRIED_FOR = dt.timedelta(days=7)
"""So long after its end a login's refresh token is kept, to revoke it at a provider that does not answer."""


def unrevoked() -> QuerySet[Grant]:
    """Return the ended logins whose refresh token may still be valid at their provider."""
    since = timezone.now() - TRIED_FOR
    ended = Grant.objects.using(database_alias()).filter(kind=Grant.Kind.OIDC, revoked_at__gt=since)
    return ended.filter(refresh_token__isnull=False)


def revoke_at_provider(grant: Grant) -> bool:
    """Revoke an ended login's refresh token and erase it. Returns False where that has to be tried again later."""
    from partium_auth.oidc import providers, token_endpoint

    try:
        op = providers.get(grant.provider)
        is_done = grant.refresh_token is None or not op.issued(grant)
        is_done = is_done or token_endpoint.revoke(op, grant.refresh_token.plain())
    except (LookupError, EncryptionError):
        is_done = True  # the provider is gone, or the refresh token does not open
    if is_done:
        # A refresh that ended meanwhile has stored a newer refresh token, with the next generation.
        rows = Grant.objects.using(database_alias()).filter(pk=grant.pk, generation=grant.generation)
        rows.update(refresh_token=None)
    return is_done


def retry(*, batch_size: int) -> None:
    """Try once more for ended logins, oldest first. A provider that fails is left alone until the next call."""
    failing: set[str] = set()
    for grant in unrevoked().select_related("identity").order_by("revoked_at")[:batch_size]:
        if grant.provider not in failing and not revoke_at_provider(grant):
            failing.add(grant.provider)
