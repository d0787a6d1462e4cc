"""API keys: adding, verifying, rotating, revoking, and what happened to each. The only code that changes them.

Whatever asks Partium does so before its transaction begins: an upstream that hangs holds no row locked.
"""

from __future__ import annotations

import datetime as dt
import hmac
import logging
import time
import unicodedata
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_ipv46_address
from django.db import IntegrityError, router, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from partium_auth import policy, signals, upstream
from partium_auth.exceptions import CredentialsRejected, NotPermitted, UpstreamError
from partium_auth.fields import seal
from partium_auth.models import ApiKey, ApiKeyEvent, ApiKeyUsage, Grant, Organization, key_history
from partium_auth.models.fingerprints import fingerprint
from partium_auth.models.keys import REJECTION_REMEMBERED, local_day, mask
from partium_auth.services import health
from partium_auth.tokens import grants, invalidation

if TYPE_CHECKING:
    from partium_auth.partium.find import Bearer
    from partium_auth.policy import Actor

logger = logging.getLogger("partium_auth.keys")

VERIFICATION_SECONDS = 5.0
"""The exchange and the search of a verification together."""

DEFAULT_OVERLAP = dt.timedelta(hours=24)
LONGEST_OVERLAP = dt.timedelta(days=90)
LONGEST_VALUE = 4096
EARLIEST_YEAR, LATEST_YEAR = 1001, 9998

_OUTAGE = dt.timedelta(minutes=10)
# Rejections this close to each other are one outage, and one event in the history.


@dataclass(frozen=True)
class Outcome:
    """What came back when a key was tried.

    Args:
        verification: accepted, rejected, another organization's, or ``UNVERIFIED`` where Partium gave no answer about it.
        detail: one English sentence of ``key_history``; holds no secret.
    """

    verification: ApiKey.Verification
    detail: str

    @property
    def refused(self) -> bool:
        """Partium answered, and the answer is no."""
        return self.verification in {ApiKey.Verification.REJECTED, ApiKey.Verification.WRONG_ORGANIZATION}


@sensitive_variables("value", "clean")
def add_key(
    organization: Organization,
    value: str,
    *,
    label: str,
    actor: Actor,
    address: str | None = None,
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
        address: the IP address they do it from.
        expires_at: when Partium will stop accepting it, if that is known.
        verify: try the key at Partium first, in at most 5 s; False stores it unverified.
        allow_unverified: store it as unverified where Partium could not be asked. A refused key is never stored.

    Raises:
        PermissionDenied: the actor may not keep this organization's keys.
        ValidationError: of the field ``value``, ``label`` or ``expires_at``. Codes that scripts may care about:
            ``duplicate``, ``rejected``, ``wrong_organization``, ``unreachable``.
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    _permit(actor, organization)
    clean = clean_value(value)
    label = clean_label(label, clean)
    _check_expiry(expires_at)
    digest = fingerprint("api-key", clean)
    _refuse_duplicate(organization, digest)
    outcome = _try_before_storing(organization, clean, label, verify, allow_unverified, actor, address)
    with transaction.atomic(using=_database()):
        key = _insert(organization, clean, digest, label, expires_at, outcome, actor)
        _record(ApiKeyEvent.Action.ADDED, key=key, detail=outcome.detail, actor=actor, address=address)
    _report_duplicate(key)
    return key


@sensitive_variables("value", "clean")
def rotate_key(
    key: ApiKey,
    value: str,
    *,
    actor: Actor,
    overlap: dt.timedelta = DEFAULT_OVERLAP,
    label: str | None = None,
    address: str | None = None,
    expires_at: dt.datetime | None = None,
    verify: bool = True,
    allow_unverified: bool = False,
) -> ApiKey:
    """Store a new key in the place of another, which keeps serving for the overlap. Returns the new key.

    Sessions move to the new key with their next token; nothing is interrupted.

    Args:
        key: the one to be replaced; it must be active.
        value: the new key as it was pasted.
        actor: who does it; None: the system.
        overlap: how long the old key may still serve, up to 90 days; zero ends it at once.
        label: of the new key; None: the old one's.
        address, expires_at, verify, allow_unverified: as in :func:`add_key`, for the new key.

    Raises:
        PermissionDenied, ValidationError, EncryptionError: as :func:`add_key`; ``ValidationError`` also where the old key is
            retiring or revoked already (code ``not_active``), or the overlap is not from 0 to 90 days.
    """
    _permit(actor, key.organization)
    if not dt.timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise ValidationError({"overlap": _("The overlap has to be from 0 to 90 days.")})
    if key.status != ApiKey.Status.ACTIVE:
        raise _not_active()
    clean = clean_value(value)
    label = clean_label(key.label if label is None else label, clean)
    _check_expiry(expires_at)
    digest = fingerprint("api-key", clean)
    _refuse_duplicate(key.organization, digest)
    outcome = _try_before_storing(key.organization, clean, label, verify, allow_unverified, actor, address)
    now = timezone.now()
    with transaction.atomic(using=_database()):
        # The condition is the lock: of two people who rotate the same key, one is told that it is retiring already.
        retired = ApiKey.objects.filter(pk=key.pk, status=ApiKey.Status.ACTIVE).update(
            status=ApiKey.Status.RETIRING, retires_at=now + overlap
        )
        if not retired:
            raise _not_active()
        # Saving the new key tells of both.
        new = _insert(key.organization, clean, digest, label, expires_at, outcome, actor, replaces=key)
        hours = overlap.total_seconds() / 3600
        _record(
            ApiKeyEvent.Action.ROTATED,
            key=new,
            detail=key_history.ROTATED % {"key": f"{key.label} {key.masked}", "outcome": outcome.detail},
            actor=actor,
            address=address,
        )
        _record(
            ApiKeyEvent.Action.RETIRED,
            key=key,
            detail=key_history.RETIRED % {"key": f"{new.label} {new.masked}", "hours": f"{hours:g}"},
            actor=actor,
            address=address,
        )
    key.status, key.retires_at = ApiKey.Status.RETIRING, now + overlap
    _report_duplicate(new)
    return new


def revoke_key(key: ApiKey, *, actor: Actor, address: str | None = None) -> None:
    """End a key here, at once in every process, and erase its value. There is no way back; revoking twice is one event.

    Partium does not learn of it: a leaked key has to be deleted there as well.

    Raises:
        PermissionDenied: the actor may not keep this organization's keys.
    """
    _permit(actor, key.organization)
    with transaction.atomic(using=_database()):
        revoked = (
            ApiKey.objects.filter(pk=key.pk)
            .exclude(status=ApiKey.Status.REVOKED)
            .update(status=ApiKey.Status.REVOKED, secret=None)
        )
        if revoked:
            grants.revoke(Grant.objects.filter(api_key=key.pk))
            _record(ApiKeyEvent.Action.REVOKED, key=key, detail="", actor=actor, address=address)
            _changed(key.organization_id)
    key.status, key.secret = ApiKey.Status.REVOKED, None


def verify_key(key: ApiKey, *, actor: Actor, address: str | None = None) -> Outcome:
    """Try a stored key at Partium, in at most 5 s, and record when and what came back.

    Where Partium gives no answer about the key, what was known of it before stays.

    Raises:
        PermissionDenied: the actor may not keep this organization's keys.
        ValidationError: the key is revoked (code ``revoked``).
        EncryptionError: its value does not open.
    """
    _permit(actor, key.organization)
    if key.status == ApiKey.Status.REVOKED or key.secret is None:
        raise ValidationError(_("The key is revoked."), code="revoked")
    outcome = try_at_partium(key.organization, key.secret.reveal())
    now = timezone.now()
    with transaction.atomic(using=_database()):
        if outcome.verification != ApiKey.Verification.UNVERIFIED:
            changes: dict[str, Any] = {"verification": outcome.verification, "verified_at": now}
            if not outcome.refused:
                changes["rejected_at"] = None
            ApiKey.objects.filter(pk=key.pk).update(**changes)
            for name, value in changes.items():
                setattr(key, name, value)
            _changed(key.organization_id)
        _record(ApiKeyEvent.Action.VERIFIED, key=key, detail=outcome.detail, actor=actor, address=address)
    return outcome


def change_key(
    key: ApiKey, *, label: str, expires_at: dt.datetime | None, actor: Actor, address: str | None = None
) -> None:
    """Change a key's label and expiry.

    Raises:
        PermissionDenied: the actor may not keep this organization's keys.
        ValidationError: the label cannot be shown, or no database can store the expiry. One in the past is accepted: it ends
            the key.
        EncryptionError: the key's value does not open, so nobody knows whether the label contains it.
    """
    _permit(actor, key.organization)
    label = clean_label_of(key, label)
    check_storable(expires_at)
    before = ApiKey.objects.only("label", "expires_at").get(pk=key.pk)
    relabeled, reexpired = label != before.label, expires_at != before.expires_at
    if relabeled and reexpired:
        detail = key_history.BOTH_CHANGED
    elif relabeled or reexpired:
        detail = key_history.LABEL_CHANGED if relabeled else key_history.EXPIRY_CHANGED
    else:
        return
    with transaction.atomic(using=_database()):
        ApiKey.objects.filter(pk=key.pk).update(label=label, expires_at=expires_at)
        _record(ApiKeyEvent.Action.CHANGED, key=key, detail=detail, actor=actor, address=address)
        _changed(key.organization_id)
    key.label, key.expires_at = label, expires_at


@sensitive_variables("value", "clean")
def find_by_value(value: str, *, actor: Actor) -> list[ApiKey]:
    """Return the keys with this value that the actor may see, newest first.

    Raises:
        ValidationError: this cannot be an API key.
    """
    clean = clean_value(value)
    digest = fingerprint("api-key", clean)
    candidates = policy.visible_keys(actor).filter(fingerprint=digest).select_related("organization")
    return [key for key in candidates if hmac.compare_digest(key.fingerprint, digest)]


# -- in use -------------------------------------------------------------------------------------------------------------


def record_rejection(key_id: uuid.UUID, status: int = 401) -> None:
    """Remember that Partium did not accept a key in use: it is left alone for 60 s, and another one serves.

    The first rejection of an outage is an event in the key's history; those that follow it are not.

    Args:
        key_id: primary key of the key.
        status: what Partium answered, 401 or 403.
    """
    now = timezone.now()
    rows = ApiKey.objects.using(_database()).filter(pk=key_id)
    with transaction.atomic(using=_database()):
        # Of many processes that meet the same rejection one gets a row here, and writes the event.
        first = rows.filter(Q(rejected_at=None) | Q(rejected_at__lte=now - _OUTAGE)).update(rejected_at=now)
        if not first:
            again = rows.filter(rejected_at__lte=now - REJECTION_REMEMBERED).update(rejected_at=now)
            if again:
                _changed(rows.values_list("organization_id", flat=True).get())
            return
        key = rows.select_related("organization").defer("secret").get()
        _record(
            ApiKeyEvent.Action.REJECTED,
            key=key,
            detail=key_history.REJECTED_IN_USE % {"status": status},
            actor=None,
            address=None,
        )
        _changed(key.organization_id)
    logger.warning("Partium answered %s to the API key %s (%s).", status, key.pk, key.organization.org_id)


def count_exchange(key_id: uuid.UUID, ok: bool) -> None:
    """Count an exchange of a key, or a failure, for the picture of its use.

    Args:
        key_id: primary key of the key.
        ok: whether an access token came back.
    """
    now = timezone.now()
    database = _database()
    day = local_day(now)
    column = "exchanges" if ok else "failures"
    rows = ApiKeyUsage.objects.using(database).filter(api_key_id=key_id, day=day)
    # UPDATE first: it is what happens all day. The unique index decides who makes the day's row.
    if not rows.update(**{column: F(column) + 1}):
        try:
            with transaction.atomic(using=database):
                ApiKeyUsage.objects.using(database).create(api_key_id=key_id, day=day, **{column: 1})
        except IntegrityError:
            rows.update(**{column: F(column) + 1})
    if ok:
        _used(key_id, now)


def _used(key_id: uuid.UUID, now: dt.datetime) -> None:
    rows = ApiKey.objects.using(_database()).filter(pk=key_id)
    if rows.filter(rejected_at=None).update(last_used_at=now):
        return  # what happens all day: nothing else of the key changes
    with transaction.atomic(using=_database()):
        if rows.update(last_used_at=now, rejected_at=None):
            health.remake(rows.values_list("organization_id", flat=True).get())


def connect_signals() -> None:
    """Have what the tokens' room says about keys written down. Called by the app's ``ready()``."""
    signals.key_rejected.connect(_on_rejected, sender=ApiKey, dispatch_uid="partium_auth.record_rejection")
    signals.key_exchanged.connect(_on_exchanged, sender=ApiKey, dispatch_uid="partium_auth.count_exchange")


def _on_rejected(*, key_id: uuid.UUID, status: int, **_kwargs: Any) -> None:
    record_rejection(key_id, status)


def _on_exchanged(*, key_id: uuid.UUID, ok: bool, **_kwargs: Any) -> None:
    count_exchange(key_id, ok)


# -- trying at Partium --------------------------------------------------------------------------------------------------


@sensitive_variables()
def try_at_partium(organization: Organization, value: str) -> Outcome:
    """Exchange a key and make one search in an organization with the token, 5 s in all. Stores nothing.

    A key of another organization is exchanged like any other; it is the search that answers 403.
    """
    until = time.monotonic() + VERIFICATION_SECONDS
    kinds = ApiKey.Verification
    try:
        token = upstream.authentication_api(VERIFICATION_SECONDS).exchange_api_key(value).access_token
    except (CredentialsRejected, NotPermitted) as error:
        return Outcome(kinds.REJECTED, key_history.EXCHANGE_REFUSED % {"status": error.status})
    except UpstreamError as error:
        return _no_answer(error, key_history.EXCHANGE_FAILED)
    left = until - time.monotonic()
    if left <= 0:
        return Outcome(kinds.UNVERIFIED, key_history.TOO_SLOW)
    try:
        find = upstream.find_client(_OneToken(token), organization.org_id)
        find.search(text="a", limit=1, projection=["results.id"], total_seconds=left)
    except NotPermitted as error:
        return Outcome(kinds.WRONG_ORGANIZATION, key_history.SEARCH_REFUSED % {"status": error.status})
    except UpstreamError as error:
        # A 401 to a token that is a moment old is not about the key.
        return _no_answer(error, key_history.SEARCH_FAILED)
    return Outcome(kinds.ACCEPTED, key_history.ACCEPTED)


def _no_answer(error: UpstreamError, sentence: str) -> Outcome:
    detail = sentence % {"status": error.status} if error.status else key_history.UNREACHABLE
    return Outcome(ApiKey.Verification.UNVERIFIED, detail)


class _OneToken:
    """The bearer of one verification: there is no other."""

    def __init__(self, value: str) -> None:
        self.value = value

    def current(self) -> _OneToken:
        return self

    def replace(self, rejected: Bearer) -> NoReturn:
        raise CredentialsRejected("Partium answered 401 to a token that it had just issued.", status=401)

    async def acurrent(self) -> _OneToken:
        return self

    async def areplace(self, rejected: Bearer) -> NoReturn:
        self.replace(rejected)


@sensitive_variables("value")
def _try_before_storing(
    organization: Organization,
    value: str,
    label: str,
    verify: bool,
    allow_unverified: bool,
    actor: Actor,
    address: str | None,
) -> Outcome:
    if not verify:
        return Outcome(ApiKey.Verification.UNVERIFIED, key_history.NOT_TRIED)
    outcome = try_at_partium(organization, value)
    if outcome.refused:
        # Committed although nothing else is: who tried a key that is not theirs is worth knowing.
        with transaction.atomic(using=_database()):
            _record(
                ApiKeyEvent.Action.REFUSED,
                organization=organization,
                detail=key_history.REFUSED % {"key": f"{label} {mask(_hint(value))}", "outcome": outcome.detail},
                actor=actor,
                address=address,
            )
        raise ValidationError({"value": ValidationError(refusal(outcome), code=outcome.verification.value)})
    if outcome.verification == ApiKey.Verification.UNVERIFIED and not allow_unverified:
        raise ValidationError({"value": ValidationError(refusal(outcome), code="unreachable")})
    return outcome


def refusal(outcome: Outcome) -> str:
    """Return what a person is told about a key that was not accepted, and what to do next."""
    if outcome.verification == ApiKey.Verification.REJECTED:
        return _("Partium does not accept this key. Check that it was copied whole, and that it was not deleted there.")
    if outcome.verification == ApiKey.Verification.WRONG_ORGANIZATION:
        return _("This key belongs to another organization. Create one for this organization at Partium.")
    return _("Partium could not be asked about this key just now.")


# -- storing ------------------------------------------------------------------------------------------------------------


@sensitive_variables("value")
def _insert(
    organization: Organization,
    value: str,
    digest: str,
    label: str,
    expires_at: dt.datetime | None,
    outcome: Outcome,
    actor: Actor,
    replaces: ApiKey | None = None,
) -> ApiKey:
    key = ApiKey(
        organization=organization,
        label=label,
        hint=_hint(value),
        fingerprint=digest,
        expires_at=expires_at,
        verification=outcome.verification,
        verified_at=timezone.now() if outcome.verification == ApiKey.Verification.ACCEPTED else None,
        replaces=replaces,
        created_by_id=None if actor is None else actor.pk,
    )
    key.secret = seal(key, "secret", value)
    try:
        with transaction.atomic(using=_database()):
            key.save(force_insert=True)
    except IntegrityError:
        _refuse_duplicate(organization, digest)
        raise
    # Now, so that no later read has to make it: inside a host's transaction the renewal could not see it.
    grants.for_key(key.pk)
    return key


def _record(
    action: ApiKeyEvent.Action,
    *,
    detail: str,
    actor: Actor,
    address: str | None,
    key: ApiKey | None = None,
    organization: Organization | None = None,
) -> None:
    event = ApiKeyEvent(
        api_key=key,
        organization=organization if key is None else key.organization,
        action=action,
        detail=detail[:255],
        actor_id=None if actor is None else actor.pk,
        actor_name="" if actor is None else actor.get_username()[:190],
        address=_address(address),
    )
    event.save()
    transaction.on_commit(
        partial(signals.key_event.send_robust, sender=ApiKeyEvent, event=event), using=_database(), robust=True
    )


def _changed(organization_id: uuid.UUID) -> None:
    """Do what saving a key does by signal, after an ``update()`` of an organization's keys, which sends none."""
    health.remake(organization_id)
    transaction.on_commit(partial(invalidation.distrust_organization, organization_id), using=_database(), robust=True)


def _permit(actor: Actor, organization: Organization) -> None:
    if not policy.may_manage_keys(actor, organization):
        raise PermissionDenied


def _refuse_duplicate(organization: Organization, digest: str) -> None:
    same = ApiKey.objects.using(_database()).filter(organization=organization, fingerprint=digest).first()
    if same is None or not hmac.compare_digest(same.fingerprint, digest):
        return
    if same.status == ApiKey.Status.REVOKED:
        message = _("This key was revoked here and cannot come back. Create a new one at Partium.")
    else:
        message = _("The organization has this key already: %(label)s.") % {"label": same.label}
    raise ValidationError({"value": ValidationError(message, code="duplicate")})


def _report_duplicate(key: ApiKey) -> None:
    others = ApiKey.objects.filter(fingerprint=key.fingerprint).exclude(organization=key.organization_id)
    ids = sorted(others.values_list("organization__org_id", flat=True))
    if not ids:
        return
    health.notice([key.fingerprint])
    organizations = [key.organization.org_id, *ids]
    # Not an event: an organization's developers read those, and another organization's keys are none of their business.
    logger.error("The API key %s is kept for several organizations: %s.", key.pk, ", ".join(organizations))
    signals.duplicate_key.send_robust(sender=ApiKey, key=key, organizations=organizations)


@sensitive_variables("value", "clean")
def clean_value(value: str) -> str:
    """Return a pasted key without the space around it.

    Raises:
        ValidationError: empty, over 4096 characters, or with anything in it but visible ASCII characters, which is all that
            an ``Authorization`` header takes (RFC 6750 §2.1).
    """
    clean = value.strip()
    if not clean:
        raise ValidationError({"value": ValidationError(_("Paste the key that Partium issued."), code="required")})
    if len(clean) > LONGEST_VALUE:
        raise ValidationError({"value": ValidationError(_("This is too long to be an API key."), code="invalid")})
    if any(not "!" <= character <= "~" for character in clean):
        message = _("There are spaces, line breaks or unusual characters in this key. Was more copied than the key?")
        raise ValidationError({"value": ValidationError(message, code="invalid")})
    return clean


@sensitive_variables("label", "value", "clean")
def clean_label(label: str, value: str = "") -> str:
    """Return a label that can be stored.

    Args:
        label: as it was typed.
        value: the key; a label that contains it is refused, since labels are shown.

    Raises:
        ValidationError: empty, over 100 characters, control characters, or the key itself.
    """
    clean = label.strip()
    if not clean:
        raise ValidationError({"label": ValidationError(_("Give the key a label."), code="required")})
    if len(clean) > 100:
        raise ValidationError({"label": ValidationError(_("At most 100 characters."), code="invalid")})
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in clean):
        raise ValidationError({"label": ValidationError(_("No line breaks or control characters."), code="invalid")})
    if value and value in clean:
        message = _("The key itself was pasted here too. A label is shown to everybody who sees the list.")
        raise ValidationError({"label": ValidationError(message, code="invalid")})
    return clean


def clean_label_of(key: ApiKey, label: str) -> str:
    """Return a new label of a stored key. Raises ValidationError as :func:`clean_label`, EncryptionError: the key does not open."""
    return clean_label(label, "" if key.secret is None else key.secret.reveal())


def check_storable(expires_at: dt.datetime | None) -> None:
    """Raises ValidationError where a moment could not be stored or read by every database, in whatever time zone."""
    if expires_at is not None and not EARLIEST_YEAR <= expires_at.year <= LATEST_YEAR:
        raise ValidationError({"expires_at": _("This date cannot be stored.")})


def _check_expiry(expires_at: dt.datetime | None) -> None:
    check_storable(expires_at)
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({"expires_at": _("This is in the past.")})


def _not_active() -> ValidationError:
    return ValidationError(_("Only an active key can be rotated; this one is retiring or revoked."), code="not_active")


@sensitive_variables("value")
def _hint(value: str) -> str:
    # Four of a short key's characters would be a good part of it.
    return value[-4:] if len(value) >= 16 else ""


def _address(address: str | None) -> str | None:
    # Behind a Unix socket REMOTE_ADDR is empty, and some proxies put a port or a name there.
    try:
        validate_ipv46_address(address or "")
    except ValidationError:
        return None
    return address


def _database() -> str:
    return router.db_for_write(ApiKey)
