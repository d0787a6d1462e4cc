"""Recording what happened, in the transaction of the change."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv46_address
from django.db import models, transaction
from django.db.models import Q

from partium_auth import signals
from partium_auth.models import ApiKey, AuditEvent, Organization
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.policy import SessionActor

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from partium_auth.policy import Actor

logger = logging.getLogger("partium_auth.audit")


def record(
    action: AuditEvent.Action,
    *,
    actor: Actor,
    address: str | None = None,
    organization: Organization | None = None,
    key: ApiKey | None = None,
    person: Actor = None,
    person_name: str | None = "",
    detail: EventDetail | None = None,
    parameters: Mapping[str, object] | None = None,
) -> AuditEvent:
    """Add an event. It is one INSERT that waits for no lock; signals and the log line follow the commit.

    Args:
        action, detail: what happened, and the sentence about it.
        actor: who did it; None: the system.
        address: the IP address they did it from; a ``SessionActor`` knows it itself.
        organization: the organization concerned, where there is no key.
        key, person: the key concerned, and the person, where that is not the actor.
        person_name: the person's user name or e-mail address; empty: the user name of ``person``; None: no name.
        parameters: what the sentence has places for, as JSON can store it. Never a secret, and no name or address of a
            person: erasure does not look here.
    """
    event = AuditEvent(
        api_key=key,
        organization=organization if key is None else key.organization,
        action=action,
        detail_code=detail or "",
        detail_parameters=dict(parameters or {}),
        actor_id=_id(actor),
        actor_name=_name(actor),
        address=_valid_address(actor.address if isinstance(actor, SessionActor) else address),
        person_id=_id(person),
        person_name="" if person_name is None else person_name[:254] or _name(person),
    )
    event.save()
    transaction.on_commit(partial(_announce, event), using=database_alias(), robust=True)
    return event


def _announce(event: AuditEvent) -> None:
    logger.info("%s", json.dumps(as_json(event)))
    signals.audit_event.send_robust(sender=AuditEvent, event=event)
    if event.is_about_a_key:
        signals.key_event.send_robust(sender=AuditEvent, event=event)


def as_json(event: AuditEvent) -> dict[str, Any]:
    """Return an event for a SIEM: people by id, because an erased name would stay in a log."""
    organization = event.organization
    return {
        "id": event.pk,
        "at": event.at.isoformat(),
        "action": event.action,
        "organization": None if organization is None else organization.org_id,
        "actor": event.actor_id or None,
        "address": event.address,
        "person": event.person_id or None,
        "key": None if event.api_key_id is None else str(event.api_key_id),
        "detail": event.detail_code,
        "parameters": event.detail_parameters,
    }


def delete_before(moment: dt.datetime, *, at_most: int) -> int:
    """Delete the oldest events from before a moment; return how many. Only retention calls this, and records that it did."""
    old = _changeable().filter(at__lt=moment)
    for last in old.order_by("pk").values_list("pk", flat=True)[at_most - 1 : at_most]:
        old = old.filter(pk__lte=last)
    return old.delete()[0]


def erase_names(person: AbstractBaseUser, addresses: Collection[str]) -> int:
    """Empty a person's names and addresses; return in how many events. Only erasure calls this, and records that it did."""
    events, of_person = _changeable(), Q(person_id=_id(person)) | Q(person_id="", person_name__in=addresses)
    return events.filter(actor_id=_id(person)).exclude(actor_name="", address=None).update(
        actor_name="", address=None
    ) + events.filter(of_person).exclude(person_name="").update(person_name="")


def _changeable() -> models.QuerySet[AuditEvent]:
    """Return the events in a plain query set, which does not refuse: the one way past append-only."""
    return models.QuerySet(AuditEvent, using=database_alias())


def _id(person: Actor) -> str:
    return "" if person is None else str(person.pk)


def _name(person: Actor) -> str:
    return "" if person is None else str(person.get_username())[:190]


def _valid_address(address: str | None) -> str | None:
    # Behind a Unix socket REMOTE_ADDR is empty, and some proxies put a port or a name there.
    try:
        validate_ipv46_address(address or "")
    except ValidationError:
        return None
    return address
