"""Adding, verifying, rotating, revoking, changing and finding API keys.

Partium is asked before a transaction begins, so that no row is locked while we wait for an answer.
"""

from __future__ import annotations

import datetime as dt
import hmac
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from partium_auth import policy, signals
from partium_auth.fields import seal
from partium_auth.models import ApiKey, AuditEvent, Grant, Organization
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.models.fingerprints import fingerprint
from partium_auth.sealed.plain import Plain
from partium_auth.services import key_verification
from partium_auth.services.audit import record
from partium_auth.services.key_validation import (
    check_expiry,
    clean_label,
    clean_label_of,
    clean_value,
    hint_of,
)
from partium_auth.services.key_verification import Outcome, refusal
from partium_auth.services.organizations import lock
from partium_auth.tokens import grants

if TYPE_CHECKING:
    from partium_auth.policy import Actor

logger = logging.getLogger("partium_auth.keys")

DEFAULT_OVERLAP = dt.timedelta(hours=24)
LONGEST_OVERLAP = dt.timedelta(days=90)


def add_key(
    organization: Organization,
    value: str | Plain,
    *,
    label: str,
    actor: Actor,
    expires_at: dt.datetime | None = None,
    verify: bool = True,
    allow_unverified: bool = False,
) -> ApiKey:
    """Store a key that Partium issued for an organization.

    Args:
        organization: whose key it is; that never changes.
        value: the key as it was pasted.
        label: what people call it.
        actor: who adds it; None: the system.
        expires_at: when Partium will stop accepting it, if that is known.
        verify: verify the key at Partium first, in at most 5 s; False stores it unverified.
        allow_unverified: store it as unverified where Partium could not be asked. A refused key is never stored.

    Raises:
        PermissionDenied: the actor may not manage this organization's keys.
        FreshLoginRequired: the actor has to log in again first.
        ValidationError: of the field ``value``, ``label`` or ``expires_at``. Codes that scripts may care about:
            ``duplicate``, ``rejected``, ``wrong_organization``, ``unreachable``.
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    value = Plain.of(value)
    _permit(actor, organization)
    policy.require_fresh_login(actor)
    key, outcome = _tested(
        organization, value, label, expires_at, actor=actor, verify=verify, allow_unverified=allow_unverified
    )
    with transaction.atomic(using=database_alias()):
        _permit_still(actor, organization)
        _insert(key)
        record(AuditEvent.Action.KEY_ADDED, key=key, detail=outcome.code, actor=actor, parameters=outcome.parameters)
        _report_duplicate_after_commit(key)
    return key


def rotate_key(
    key: ApiKey,
    value: str | Plain,
    *,
    actor: Actor,
    overlap: dt.timedelta = DEFAULT_OVERLAP,
    label: str | None = None,
    expires_at: dt.datetime | None = None,
    verify: bool = True,
    allow_unverified: bool = False,
) -> ApiKey:
    """Store a new key that replaces another, which may still be used during the overlap. Return the new key.

    Sessions use the new key from their next token on; no request fails.

    Args:
        key: the one to be replaced; it must be active.
        value: the new key as it was pasted.
        actor: who does it; None: the system.
        overlap: how long the old key may still be used, up to 90 days; zero ends it at once.
        label: of the new key; None: the old one's.
        expires_at, verify, allow_unverified: as in :func:`add_key`, for the new key.

    Raises:
        PermissionDenied, FreshLoginRequired, ValidationError, EncryptionError: as :func:`add_key`; ``ValidationError`` also where the old key is
            retiring or revoked already (code ``not_active``), or the overlap is not from 0 to 90 days.
    """
    value = Plain.of(value)
    _permit(actor, key.organization)
    policy.require_fresh_login(actor)
    if not dt.timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise ValidationError({"overlap": _("The overlap has to be from 0 to 90 days.")})
    if key.status != ApiKey.Status.ACTIVE:
        raise _not_active()
    label = key.label if label is None else label
    new, outcome = _tested(
        key.organization, value, label, expires_at, actor=actor, verify=verify, allow_unverified=allow_unverified
    )
    new.replaces = key
    now = timezone.now()
    with transaction.atomic(using=database_alias()):
        _permit_still(actor, key.organization)
        # The condition decides a race: the second of two rotations of the same key updates no row.
        retired = ApiKey.objects.filter(pk=key.pk, status=ApiKey.Status.ACTIVE).update(
            status=ApiKey.Status.RETIRING, retires_at=now + overlap
        )
        if not retired:
            raise _not_active()
        _insert(new)
        record(
            AuditEvent.Action.KEY_ROTATED,
            key=new,
            actor=actor,
            detail=EventDetail.ROTATED,
            parameters=_in_history(key, outcome),
        )
        record(
            AuditEvent.Action.KEY_RETIRED,
            key=key,
            actor=actor,
            detail=EventDetail.RETIRED,
            parameters={**_in_history(new), "hours": f"{overlap.total_seconds() / 3600:g}"},
        )
        _report_duplicate_after_commit(new)
    key.status, key.retires_at = ApiKey.Status.RETIRING, now + overlap
    return new


def revoke_key(key: ApiKey, *, actor: Actor) -> None:
    """End a key at once in every process and erase its value. This cannot be undone; revoking twice is one event.

    Partium is not told: a leaked key has to be deleted there as well.

    Raises:
        PermissionDenied: the actor may not manage this organization's keys.
        FreshLoginRequired: the actor has to log in again first.
    """
    _permit(actor, key.organization)
    policy.require_fresh_login(actor)
    with transaction.atomic(using=database_alias()):
        _permit_still(actor, key.organization)
        revoked = (
            ApiKey.objects.filter(pk=key.pk)
            .exclude(status=ApiKey.Status.REVOKED)
            .update(status=ApiKey.Status.REVOKED, secret=None)
        )
        if revoked:
            grants.revoke(Grant.objects.filter(api_key=key.pk))
            record(AuditEvent.Action.KEY_REVOKED, key=key, actor=actor)
    key.status, key.secret = ApiKey.Status.REVOKED, None


def verify_key(key: ApiKey, *, actor: Actor) -> Outcome:
    """Verify a stored key at Partium in at most 5 s, and record the time and the result.

    Where Partium gives no answer about the key, the previous result stays.

    Raises:
        PermissionDenied: the actor may not manage this organization's keys.
        ValidationError: the key is revoked (code ``revoked``).
        EncryptionError: its value does not open.
    """
    _permit(actor, key.organization)
    if key.status == ApiKey.Status.REVOKED or key.secret is None:
        raise ValidationError(_("The key is revoked."), code="revoked")
    outcome = key_verification.verify_at_partium(key.organization, key.secret.plain())
    now = timezone.now()
    with transaction.atomic(using=database_alias()):
        _permit_still(actor, key.organization)
        if outcome.verification != ApiKey.Verification.UNVERIFIED:
            changes: dict[str, Any] = {"verification": outcome.verification, "verified_at": now}
            if not outcome.refused:
                changes["rejected_at"] = None
            ApiKey.objects.filter(pk=key.pk).update(**changes)
            for name, value in changes.items():
                setattr(key, name, value)
        record(AuditEvent.Action.KEY_VERIFIED, key=key, detail=outcome.code, actor=actor, parameters=outcome.parameters)
    return outcome


def change_key(key: ApiKey, *, label: str, expires_at: dt.datetime | None, actor: Actor) -> None:
    """Change a key's label and expiry.

    Raises:
        PermissionDenied: the actor may not manage this organization's keys.
        FreshLoginRequired: the expiry changes, and the actor has to log in again first.
        ValidationError: the label cannot be shown, or no database can store the expiry. An expiry in the past is
            accepted: it ends the key.
        EncryptionError: the key's value does not open, so nobody knows whether the label contains it.
    """
    _permit(actor, key.organization)
    label = clean_label_of(key, label)
    check_expiry(expires_at, is_new=False)
    before = ApiKey.objects.using(database_alias()).only("label", "expires_at").get(pk=key.pk)
    relabeled, reexpired = label != before.label, expires_at != before.expires_at
    if not relabeled and not reexpired:
        return
    # The history has no labels: an old one may have been a mistake that had to go.
    detail, times = EventDetail.LABEL_CHANGED, {}
    if reexpired:
        policy.require_fresh_login(actor)  # an expiry in the past ends the key
        detail = EventDetail.BOTH_CHANGED if relabeled else EventDetail.EXPIRY_CHANGED
        times = {"before": _utc(before.expires_at), "after": _utc(expires_at)}
    with transaction.atomic(using=database_alias()):
        _permit_still(actor, key.organization)
        ApiKey.objects.filter(pk=key.pk).update(label=label, expires_at=expires_at)
        record(AuditEvent.Action.KEY_CHANGED, key=key, detail=detail, actor=actor, parameters=times)
    key.label, key.expires_at = label, expires_at


def find_by_value(value: str | Plain, *, actor: Actor) -> list[ApiKey]:
    """Return the keys with this value that the actor may see, newest first.

    Raises:
        ValidationError: this cannot be an API key.
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    value = Plain.of(value)
    digest = fingerprint("api-key", clean_value(value))
    candidates = policy.visible_keys(actor).filter(fingerprint=digest).select_related("organization")
    return [key for key in candidates if hmac.compare_digest(key.fingerprint, digest)]


def _tested(
    organization: Organization,
    value: Plain,
    label: str,
    expires_at: dt.datetime | None,
    *,
    actor: Actor,
    verify: bool,
    allow_unverified: bool,
) -> tuple[ApiKey, Outcome]:
    """Return a new key that may be stored, not saved yet, and what Partium said about it."""
    value = clean_value(value)
    label = clean_label(label, value)
    check_expiry(expires_at, is_new=True)
    digest = fingerprint("api-key", value)
    key = ApiKey(organization=organization, label=label, hint=hint_of(value), fingerprint=digest, expires_at=expires_at)
    _refuse_duplicate(key)
    outcome = Outcome(ApiKey.Verification.UNVERIFIED, EventDetail.NOT_TRIED)
    if verify:
        outcome = key_verification.verify_at_partium(organization, value)
        _refuse_unless_accepted(key, outcome, actor=actor, allow_unverified=allow_unverified)
    key.verification = outcome.verification
    key.verified_at = timezone.now() if outcome.verification == ApiKey.Verification.ACCEPTED else None
    key.created_by_id = None if actor is None else actor.pk
    key.secret = seal(key, "secret", value)
    return key, outcome


def _refuse_unless_accepted(key: ApiKey, outcome: Outcome, *, actor: Actor, allow_unverified: bool) -> None:
    if outcome.refused:
        # Recorded although no key is stored: somebody may have tried a key that is not theirs.
        with transaction.atomic(using=database_alias()):
            record(
                AuditEvent.Action.KEY_REFUSED,
                organization=key.organization,
                actor=actor,
                detail=EventDetail.REFUSED,
                parameters=_in_history(key, outcome),
            )
        raise ValidationError({"value": ValidationError(refusal(outcome), code=outcome.verification.value)})
    if outcome.verification == ApiKey.Verification.UNVERIFIED and not allow_unverified:
        raise ValidationError({"value": ValidationError(refusal(outcome), code="unreachable")})


def _insert(key: ApiKey) -> None:
    try:
        with transaction.atomic(using=database_alias()):
            key.save(force_insert=True)
    except IntegrityError:
        _refuse_duplicate(key)
        raise
    # Create the grant now: created by a read inside the host's transaction, the refresh thread could not see it.
    grants.for_key(key.pk)


def _permit(actor: Actor, organization: Organization) -> None:
    if not policy.may_manage_keys(actor, organization):
        raise PermissionDenied


def _permit_still(actor: Actor, organization: Organization) -> None:
    """Ask again in the transaction that writes: while Partium was asked, the actor may have been removed."""
    lock(organization)
    _permit(actor, organization)


def _refuse_duplicate(key: ApiKey) -> None:
    keys = ApiKey.objects.using(database_alias()).filter(organization=key.organization_id)
    same = keys.filter(fingerprint=key.fingerprint).first()
    if same is None or not hmac.compare_digest(same.fingerprint, key.fingerprint):
        return
    if same.status == ApiKey.Status.REVOKED:
        message = _("This key was revoked here and cannot come back. Create a new one at Partium.")
    else:
        message = _("The organization has this key already: %(label)s.") % {"label": same.label}
    raise ValidationError({"value": ValidationError(message, code="duplicate")})


def _report_duplicate_after_commit(key: ApiKey) -> None:
    # A key that is rolled back alerts nobody, and before the commit two transactions do not see each other's key.
    transaction.on_commit(partial(_report_duplicate, key), using=database_alias(), robust=True)


def _report_duplicate(key: ApiKey) -> None:
    same = (
        ApiKey.objects.using(database_alias()).filter(fingerprint=key.fingerprint).exclude(status=ApiKey.Status.REVOKED)
    )
    others = same.exclude(organization=key.organization_id)
    ids = sorted(others.values_list("organization__org_id", flat=True))
    if not ids:
        return
    organizations = [key.organization.org_id, *ids]
    # No event: the developers of one organization read it, and must not learn about another's keys.
    logger.error("The API key %s is stored for several organizations: %s.", key.pk, ", ".join(organizations))
    signals.duplicate_key.send_robust(sender=ApiKey, key_id=key.pk, organizations=organizations)


def _in_history(key: ApiKey, outcome: Outcome | None = None) -> dict[str, Any]:
    """Return how an event's sentence names a key, and what came back when it was tried."""
    named = {"key": f"{key.label} {key.masked}"}
    return named if outcome is None else {**named, "outcome": outcome.code, **outcome.parameters}


def _utc(at: dt.datetime | None) -> str:
    if at is None:
        return "–"
    return (at.astimezone(dt.UTC) if timezone.is_aware(at) else at).isoformat(sep=" ", timespec="minutes")


def _not_active() -> ValidationError:
    return ValidationError(_("You can only rotate an active key. This key is retiring or revoked."), code="not_active")
