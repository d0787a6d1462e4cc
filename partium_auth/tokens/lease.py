"""The writes of one refresh: lease, mark of what was sent, commit, failure.

Each is one compare-and-swap: an ``UPDATE`` whose ``WHERE`` names the generation or the lease it is based on; the number of rows it
changed tells whether it took place. No transaction is held open between two of them.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from typing import TYPE_CHECKING, Any

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from partium_auth.fields import seal
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.sealed.plain import Plain
from partium_auth.tokens.state import Now

if TYPE_CHECKING:
    from partium_auth.partium.token_response import TokenResponse

LEASE_SECONDS = 14.0
"""How long nobody else may refresh: the send deadline, the exchange and a second (5 + 8 + 1 s)."""

_FREE: dict[str, Any] = {"lease_id": None, "lease_until": None}
"""The columns of a lease that nobody holds."""


def take(grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID) -> bool:
    """Take the right to refresh one generation, for :data:`LEASE_SECONDS` by the database's clock."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=Now())
    due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=Now())
    changed = _rows().filter(free, due, pk=grant_id, generation=generation, revoked_at__isnull=True)
    return bool(changed.update(lease_id=lease_id, lease_until=Now() + dt.timedelta(seconds=LEASE_SECONDS)))


def mark_sent(grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID) -> bool:
    """Store that the request is about to be sent, if the lease is still held."""
    held = _rows().filter(
        pk=grant_id, generation=generation, lease_id=lease_id, lease_until__gt=Now(), revoked_at__isnull=True
    )
    return bool(held.update(sent_at=Now()))


def commit(
    grant: Grant,
    tokens: TokenResponse,
    issued_at: float,
    *,
    generation: int,
    reusable: bool | None = None,
    unrotated: int = 0,
    pause_seconds: float | None = None,
) -> bool:
    """Store refreshed tokens, if the generation is still the one they replace and the grant neither revoked nor rejected.

    The lease is not checked: an answer that arrives late is still the newest one.

    Args:
        grant: as it was when the request was sent.
        issued_at: just before the request was sent, in seconds since the epoch.
        reusable: whether the refresh token was seen to allow being sent twice; None: as before.
        unrotated: how many answers in a row brought no other refresh token.
        pause_seconds: until the next refresh may begin; None: whenever it is due.
    """
    values: dict[str, Any] = {
        "access_token": seal(grant, "access_token", Plain(tokens.access_token)),
        "issued_at": issued_at,
        "lifetime_seconds": tokens.lifetime_seconds,
        "generation": generation + 1,
        **_FREE,
        "sent_at": None,
        "next_attempt_at": None if pause_seconds is None else Now() + dt.timedelta(seconds=pause_seconds),
        "failures": 0,
        "refreshed_at": timezone.now(),
    }
    current = _rows().filter(pk=grant.pk, generation=generation, revoked_at__isnull=True)
    if grant.kind == Grant.Kind.API_KEY:
        values["rejected_at"] = None  # the key's refresh token is not kept: the key itself is exchanged again
    else:
        current = current.filter(rejected_at__isnull=True)
        if tokens.refresh_token:
            values["refresh_token"] = seal(grant, "refresh_token", Plain(tokens.refresh_token))
        values["unrotated"] = unrotated
        if reusable is not None:
            values["reusable"] = reusable
    if current.update(**values):
        return True
    if grant.kind == Grant.Kind.OIDC and tokens.refresh_token:
        # Revoked meanwhile: the new refresh token has to be revoked at the provider, too (tokens.revocation).
        revoked = _rows().filter(pk=grant.pk, generation=generation, revoked_at__isnull=False)
        revoked.update(refresh_token=values["refresh_token"], generation=generation + 1)
    return False


def record_failure(
    grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID, *, retry_in_seconds: float, sent_at: Any
) -> None:
    """Give the lease back after a refresh that failed; nobody in the fleet asks the upstream before the wait is over.

    Args:
        sent_at: when a request was sent whose outcome is unknown: ``F("sent_at")`` for this one, otherwise the value from before.
    """
    next_attempt_at = Now() + dt.timedelta(seconds=retry_in_seconds)
    held = _rows().filter(pk=grant_id, generation=generation, lease_id=lease_id)
    held.update(**_FREE, next_attempt_at=next_attempt_at, failures=F("failures") + 1, sent_at=sent_at)


def record_rejection(
    grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID, *, retry_in_seconds: float | None
) -> None:
    """Store that the upstream rejected the credential itself.

    Args:
        retry_in_seconds: when an API key may be tried again; None for a refresh token, which is never tried again.
    """
    values: dict[str, Any] = {"next_attempt_at": None, "refresh_token": None}
    if retry_in_seconds is not None:
        values = {"next_attempt_at": Now() + dt.timedelta(seconds=retry_in_seconds)}
    held = _rows().filter(pk=grant_id, generation=generation, lease_id=lease_id)
    held.update(**_FREE, sent_at=None, rejected_at=timezone.now(), failures=F("failures") + 1, **values)


def release(grant_id: uuid.UUID, lease_id: uuid.UUID, *, sent_at: Any) -> None:
    """Give a lease back, so that anybody may refresh at once.

    Args:
        sent_at: as for :func:`record_failure`.
    """
    _rows().filter(pk=grant_id, lease_id=lease_id).update(**_FREE, sent_at=sent_at)


def seconds_to_next_attempt(grant_id: uuid.UUID) -> int:
    """Return the seconds until the next attempt is due, or the lease of another process expires; at least 1."""
    row = _rows().filter(pk=grant_id).values_list("next_attempt_at", "lease_until", Now()).first()
    if row is None:
        return 1
    next_attempt_at, lease_until, now = row
    waits = [(at - now).total_seconds() for at in (next_attempt_at, lease_until) if at is not None]
    return max(1, math.ceil(max(waits, default=1)))


def load(grant_id: uuid.UUID) -> Grant | None:
    """Read the row itself, with what a refresh needs: the refresh token and whose it is, or the key."""
    return _rows().select_related("api_key__organization", "identity").filter(pk=grant_id).first()


def _rows() -> QuerySet[Grant]:
    return Grant.objects.using(database_alias())
