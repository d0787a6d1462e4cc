"""Which API keys of an organization serve now, for every reader: sessions, and clients without a request."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from django.utils import timezone

from partium_auth.exceptions import KeyRejected, NoUsableKey
from partium_auth.models import ApiKey
from partium_auth.models.database import database_alias
from partium_auth.models.keys import REJECTION_REMEMBERED, Standing
from partium_auth.tokens import state
from partium_auth.tokens.state import GrantState


class ServingKeys(NamedTuple):
    """The keys of an organization at one moment.

    Args:
        candidates: grants of the keys that may serve, the first one first; one that Partium has just refused comes last, because
            its access token may still be good.
        refused: Partium refuses a key that has not ended.
        until: when a key ends or may be tried again, in seconds since the epoch.
    """

    candidates: tuple[GrantState, ...] = ()
    refused: bool = False
    until: float = math.inf


def read(organization_id: uuid.UUID) -> ServingKeys:
    """Read the keys of an organization that may serve, with their grants."""
    keys = in_order(organization_id)
    standing = {key.pk: key.standing for key in keys if key.standing != Standing.REFUSED}
    candidates = state.read_keys(list(standing)) if standing else []
    return ServingKeys(
        candidates=tuple(
            # A key that rests is not sent again, but its access token may still be good.
            seen if standing[seen.grant_id] == Standing.USABLE else seen._replace(rejected=True, waiting=True)
            for seen in candidates
        ),
        refused=any(key.standing != Standing.USABLE for key in keys),
        until=_until(keys),
    )


def in_order(organization_id: uuid.UUID) -> list[ApiKey]:
    """Return an organization's keys that have not ended, the one that should serve first; each has its ``standing``."""
    keys = ApiKey.objects.using(database_alias()).in_serving_order()
    return list(keys.filter(organization_id=organization_id, organization__is_active=True))


def nothing_serves(*, refused: bool) -> NoUsableKey | KeyRejected:
    """Return what to raise where no key serves.

    Args:
        refused: there is a key, and Partium refuses it.
    """
    if refused:
        return KeyRejected("Partium does not accept the API key. Verify it, or add another one, in the key admin.")
    return NoUsableKey("The organization has no usable API key. Add one in the key admin.")


def _until(keys: Sequence[ApiKey]) -> float:
    now = timezone.now()
    moments = [key.expires_at for key in keys] + [key.retires_at for key in keys]
    moments += [key.rejected_at + REJECTION_REMEMBERED for key in keys if key.rejected_at is not None]
    return min((moment.timestamp() for moment in moments if moment is not None and moment > now), default=math.inf)
