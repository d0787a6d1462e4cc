"""Recording events of keys, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv46_address
from django.db import transaction

from partium_auth import signals
from partium_auth.models import ApiKey, ApiKeyEvent, Organization
from partium_auth.models.database import database_alias
from partium_auth.models.key_events import EventDetail

if TYPE_CHECKING:
    from partium_auth.policy import Actor


def record(
    action: ApiKeyEvent.Action,
    *,
    actor: Actor,
    address: str | None,
    key: ApiKey | None = None,
    organization: Organization | None = None,
    detail: EventDetail | None = None,
    parameters: Mapping[str, object] | None = None,
) -> None:
    """Add an event to the history of a key, or of an organization where there is no key.

    Args:
        action: what happened.
        actor: who did it; None: the system.
        address: the IP address they did it from.
        key: the key.
        organization: the organization, where there is no key.
        detail: the sentence about it.
        parameters: what the sentence has places for, as JSON can store it; never a key's value.
    """
    event = ApiKeyEvent(
        api_key=key,
        organization=organization if key is None else key.organization,
        action=action,
        detail_code=detail or "",
        detail_parameters=parameters or {},
        actor_id=None if actor is None else actor.pk,
        actor_name="" if actor is None else str(actor.get_username())[:190],
        address=_address(address),
    )
    event.save()
    transaction.on_commit(
        partial(signals.key_event.send_robust, sender=ApiKeyEvent, event=event), using=database_alias(), robust=True
    )


def _address(address: str | None) -> str | None:
    # Behind a Unix socket REMOTE_ADDR is empty, and some proxies put a port or a name there.
    try:
        validate_ipv46_address(address or "")
    except ValidationError:
        return None
    return address
