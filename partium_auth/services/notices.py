"""Notices for an organization's developers, by signal and, where the site sets it, by e-mail. Each is sent after a commit."""

from __future__ import annotations

import logging
import uuid
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage, mail_admins
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone, translation
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy, signals
from partium_auth.conf import conf
from partium_auth.host.background import run_later
from partium_auth.models import ApiKey, AuditEvent, Identity, Membership, Organization, Role
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.models.keys import EXPIRES_SOON
from partium_auth.models.texts import canonical_email
from partium_auth.services.audit import record
from partium_auth.services.organizations import lock

logger = logging.getLogger("partium_auth.notices")

_OF_ACTIONS: dict[str, str] = {
    AuditEvent.Action.KEY_ADDED: "key_added",
    AuditEvent.Action.KEY_ROTATED: "key_added",
    AuditEvent.Action.KEY_REJECTED: "key_failing",
    AuditEvent.Action.KEY_EXPIRES: "key_expires",
    AuditEvent.Action.MEMBER_ADDED: "developer_added",
    AuditEvent.Action.ROLE_CHANGED: "developer_added",
}
_TEXTS = {
    "developer_added": (
        _("%(organization)s has a new developer"),
        _(
            "%(person)s can manage the API keys of %(organization)s from now on. If that is not right, ask the people who run "
            "the site to change it."
        ),
    ),
    "key_added": (
        _("%(organization)s has a new API key"),
        _("%(who)s added the API key %(key)s. If nobody of you knows about it, revoke it and look at the events."),
    ),
    "key_failing": (
        _("Partium rejects an API key of %(organization)s"),
        _(
            "Partium rejected the API key %(key)s when it was used. Verify it. If that fails, too, rotate to a new key: "
            "without a usable key, searches fail."
        ),
    ),
    "key_expires": (
        _("An API key of %(organization)s expires soon"),
        _("The API key %(key)s expires on %(date)s. Create a new key at Partium and rotate to it before."),
    ),
    "key_duplicate": (
        _("Several organizations have the same API key"),
        _("The API key %(key)s is stored for: %(organizations)s. Each organization should have a key of its own."),
    ),
}


def connect_signals() -> None:
    """Listen to what is recorded. Called by the app's ``ready()``."""
    signals.audit_event.connect(_on_event, sender=AuditEvent, dispatch_uid="partium_auth.notices")
    signals.duplicate_key.connect(_on_duplicate, sender=ApiKey, dispatch_uid="partium_auth.notices")


def note_expiring_keys() -> int:
    """Record once of each key that it expires within 30 days, which sends its notice; return how many that were."""
    noted, now = 0, timezone.now()
    keys = ApiKey.objects.using(database_alias()).filter(status=ApiKey.Status.ACTIVE, organization__is_active=True)
    expiring = keys.filter(expires_at__gt=now, expires_at__lte=now + EXPIRES_SOON)
    for key in expiring.select_related("organization").defer("secret"):
        assert key.expires_at is not None  # noqa: S101  # for the type checker
        expires = {"expires": key.expires_at.isoformat(sep=" ", timespec="minutes")}
        with transaction.atomic(using=database_alias()):
            lock(key.organization)  # cron may run on two machines
            events = AuditEvent.objects.using(database_alias()).filter(
                api_key=key, action=AuditEvent.Action.KEY_EXPIRES
            )
            if expires not in list(events.values_list("detail_parameters", flat=True)):
                record(
                    AuditEvent.Action.KEY_EXPIRES, key=key, actor=None, detail=EventDetail.EXPIRES, parameters=expires
                )
                noted += 1
    return noted


def _on_event(*, event: AuditEvent, **_kwargs: Any) -> None:
    kind, parameters = _OF_ACTIONS.get(event.action), event.detail_parameters
    organization = event.organization
    if kind is None or organization is None or parameters.get("again"):
        return
    if kind == "developer_added" and parameters.get("role") != Role.DEVELOPER:
        return
    key = event.api_key
    values = {
        "person": event.person_name,
        "who": event.actor_name,
        "key": str(key or ""),
        "date": str(parameters.get("expires", ""))[:10],
    }
    _send(kind, organization, key_id=event.api_key_id, person_id=event.person_id, values=values)


def _on_duplicate(*, key_id: uuid.UUID, organizations: list[str], **_kwargs: Any) -> None:
    _send("key_duplicate", None, key_id=key_id, values={"key": key_id, "organizations": ", ".join(organizations)})


def _send(
    kind: str,
    organization: Organization | None,
    *,
    key_id: uuid.UUID | None,
    person_id: str = "",
    values: dict[str, Any],
) -> None:
    signals.notice.send_robust(
        sender=AuditEvent, kind=kind, organization=organization, key_id=key_id, person_id=person_id
    )
    if conf.notices_by_email:
        mail = partial(_mail, kind, organization, values)
        # Only a command records that a key expires, and a command may end before the background thread has sent anything.
        if kind == "key_expires" or conf.executor == "inline":
            mail()
        else:
            run_later(mail)


def _mail(kind: str, organization: Organization | None, values: dict[str, Any]) -> None:
    try:
        with translation.override(settings.LANGUAGE_CODE):  # whoever caused this may have another
            shown = {**values, "organization": organization, "who": values.get("who") or gettext("The system")}
            subject, text = (str(part) % shown for part in _TEXTS[kind])
            if organization is None:
                mail_admins(subject, text)
            elif recipients := _developers(organization):
                # Nobody sees the others' addresses.
                EmailMessage(" ".join(subject.split()), text, bcc=recipients).send()
    except Exception as error:  # noqa: BLE001  # a site's mail backend may raise anything; a notice is not worth a failure
        name = "-" if organization is None else organization.org_id
        logger.warning("The notice %s (%s) was not sent by e-mail: %s", kind, name, type(error).__name__)


def _developers(organization: Organization) -> list[str]:
    """Return the addresses of an organization's developers who have logged in through this app, which stores vouched ones only."""
    model = get_user_model()
    column = model.get_email_field_name()
    if column not in {field.name for field in model._meta.concrete_fields}:
        return []
    using = database_alias()
    developers = Membership.objects.filter(organization=organization, role=Role.DEVELOPER, user_id=OuterRef("pk"))
    users = model._base_manager.using(using).filter(
        Exists(developers),
        Exists(Identity.objects.filter(user_id=OuterRef("pk"))),
        **{f"{column}__contains": "@"},
        **policy.active_people(),
    )
    found = users.order_by("pk").values_list(column, flat=True)
    return [address for address in found if canonical_email(address) and not address.endswith("@users.invalid")]
