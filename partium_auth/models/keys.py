"""API keys: which of them may be used, in which order, and the state that the admin shows."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Case, Count, F, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from partium_auth.fields import MASK, SealedField
from partium_auth.models.organizations import Organization
from partium_auth.models.versions import DecidesAccess, DecidesAccessQuerySet

REJECTION_REMEMBERED = dt.timedelta(seconds=60)
"""How long a key that Partium rejected in use is not used before it is tried again."""

EXPIRES_SOON = dt.timedelta(days=30)
"""How long before its expiry the admin warns about a key."""


def validate_storable(at: dt.datetime) -> None:
    """Raise ValidationError for a time that not every database can store in every time zone, such as one in the year 1."""
    if not 1001 <= at.year <= 9998:
        raise ValidationError(_("This date cannot be stored."))


class ApiKeyState(models.TextChoices):
    """The state of a key as the admin shows it; computed by :meth:`ApiKeyQuerySet.with_state`."""

    ACTIVE = "active", _("active")
    EXPIRING = "expiring", _("expires soon")
    RETIRING = "retiring", _("retiring")
    UNVERIFIED = "unverified", _("not verified")
    FAILING = "failing", _("failing")
    EXPIRED = "expired", _("expired")
    RETIRED = "retired", _("retired")
    REVOKED = "revoked", _("revoked")


class Usability(models.IntegerChoices):
    """Whether a key that has not ended may serve; the lower ones serve first."""

    USABLE = 0
    PAUSED = 1  # rejected in use a moment ago
    REFUSED = 2  # by a verification, until it is verified anew


class KeyUse(models.TextChoices):
    """Whether an organization's tokens come from a key; computed by :meth:`ApiKeyQuerySet.with_use`."""

    IN_USE = "in_use", _("in use")
    FALLBACK = "fallback", _("fallback")
    NOT_USED = "not_used", _("not used")


class ApiKeyQuerySet(DecidesAccessQuerySet["ApiKey"]):
    def usable(self, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Keys that may serve: not revoked, not expired, not past the end of their overlap, not known to be rejected.

        A rejection in use is remembered for 60 s, then the key is tried again; one that a verification found stays
        until the key is verified anew.
        """
        now = now or timezone.now()
        return self._not_ended(now).exclude(_REFUSED).exclude(_paused(now))

    def in_serving_order(self, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Keys that have not ended, the one that should serve first, each with its ``usability``: one of :class:`Usability`."""
        now = now or timezone.now()
        usability = Case(
            When(_REFUSED, then=Usability.REFUSED),
            When(_paused(now), then=Usability.PAUSED),
            default=Usability.USABLE,
            output_field=models.IntegerField(),
        )
        # mypy's plugin accepts no annotation that the model declares.
        keys = self._not_ended(now).annotate(**{"usability": usability})  # noqa: PIE804
        return keys.order_by(F("usability"), *_SERVING_ORDER)

    def with_use(self, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Add ``use`` to every row, one of :class:`KeyUse`: which key of its organization serves, and which could."""
        now = now or timezone.now()
        of_the_same = ApiKey.objects.usable(now).filter(organization=models.OuterRef("organization"))
        first = models.Subquery(of_the_same.order_by(*_SERVING_ORDER).values("pk")[:1])
        usable = models.Exists(ApiKey.objects.usable(now).filter(pk=models.OuterRef("pk")).order_by())
        use = Case(
            When(pk=first, then=Value(KeyUse.IN_USE)),
            When(usable, then=Value(KeyUse.FALLBACK)),
            default=Value(KeyUse.NOT_USED),
            output_field=models.CharField(max_length=16),
        )
        # mypy's plugin accepts no annotation that the model declares.
        return self.annotate(**{"use": use})  # noqa: PIE804

    def in_use(self, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Keys that serve now: the first usable one of each organization."""
        return self.with_use(now).filter(**{"use": KeyUse.IN_USE})  # noqa: PIE804

    def _not_ended(self, now: dt.datetime) -> ApiKeyQuerySet:
        keys = self
        for _state, ended in _endings(now):
            keys = keys.exclude(ended)
        return keys

    def of_several_organizations(self) -> models.QuerySet[ApiKey, str]:
        """The fingerprints of keys that several organizations have, not counting revoked keys."""
        unrevoked = self.exclude(status=ApiKey.Status.REVOKED).order_by().values("fingerprint")
        return unrevoked.annotate(n=Count("fingerprint")).filter(n__gt=1).values_list("fingerprint", flat=True)

    def with_state(self, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Add ``state``, one of :class:`ApiKeyState`, to every row."""
        same = dict(zip(ApiKeyState, ApiKeyState, strict=True))
        return self.annotate(**{"state": by_state(same, models.CharField(max_length=16), now)})  # noqa: PIE804

    def in_state(self, wanted: ApiKeyState, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Keys in this state. Faster than comparing ``state``, because no state is computed."""
        keys = self
        for state, condition in _conditions(now):
            if state == wanted:
                return keys.filter(condition)
            keys = keys.exclude(condition)
        return keys


def _endings(now: dt.datetime) -> list[tuple[ApiKeyState, Q]]:
    return [
        (ApiKeyState.REVOKED, Q(status="revoked")),
        (ApiKeyState.RETIRED, Q(retires_at__lte=now)),
        (ApiKeyState.EXPIRED, Q(expires_at__lte=now)),
    ]


_REFUSED = Q(verification__in=("rejected", "wrong_organization"))
_SERVING_ORDER = (  # verified before unverified, active before retiring, newest first
    Case(When(verification="accepted", then=0), default=1),
    Case(When(status="active", then=0), default=1),
    "-created_at",
    "-pk",
)


def _paused(now: dt.datetime) -> Q:
    return Q(rejected_at__gt=now - REJECTION_REMEMBERED)


def by_state(values: Mapping[ApiKeyState, Any], output_field: models.Field[Any, Any], now: dt.datetime | None) -> Case:
    """Return the expression for a value that depends on the state of a key."""
    return Case(
        *(When(condition, then=Value(values[state])) for state, condition in _conditions(now)),
        default=Value(values[ApiKeyState.ACTIVE]),
        output_field=output_field,
    )


def _conditions(now: dt.datetime | None) -> list[tuple[ApiKeyState, Q]]:
    """Return the condition of each state. The first one that is true counts; if none is, the key is active."""
    now = now or timezone.now()
    return [
        *_endings(now),
        (ApiKeyState.FAILING, Q(rejected_at__isnull=False) | _REFUSED),
        (ApiKeyState.RETIRING, Q(status=ApiKey.Status.RETIRING)),
        (ApiKeyState.UNVERIFIED, Q(verification=ApiKey.Verification.UNVERIFIED)),
        (ApiKeyState.EXPIRING, Q(expires_at__lte=now + EXPIRES_SOON)),
    ]


class ApiKey(DecidesAccess):
    """A key that Partium issued for one organization. Its value is sealed and never shown again.

    Revoking erases the value. A constraint of the database makes sure that this cannot be undone.
    """

    irrelevant_to_access = frozenset({"last_used_at"})  # written all day
    # A key that is moved to another organization does not open.
    sealed_with: ClassVar = {"secret": ("organization_id",)}
    usability: int  # of a row of in_serving_order()
    state: str  # of a row of with_state()
    use: str  # of a row of with_use()

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")
        RETIRING = "retiring", _("retiring")
        REVOKED = "revoked", _("revoked")

    class Verification(models.TextChoices):
        UNVERIFIED = "unverified", _("not verified")
        ACCEPTED = "accepted", _("accepted")
        REJECTED = "rejected", _("rejected by Partium")
        WRONG_ORGANIZATION = "wrong_organization", _("not for searches in this organization")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(
        Organization, verbose_name=_("organization"), on_delete=models.PROTECT, related_name="api_keys", db_index=False
    )
    label = models.CharField(_("label"), max_length=100)
    secret = SealedField(_("API key"), null=True)  # None: erased, because the key was revoked
    hint = models.CharField(max_length=4, editable=False, blank=True)
    fingerprint = models.CharField(max_length=64, editable=False)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=Status.ACTIVE, editable=False)
    retires_at = models.DateTimeField(_("valid until"), null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True, validators=[validate_storable])
    replaces = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="replaced_by"
    )
    verification = models.CharField(
        _("verification"),
        max_length=24,
        choices=Verification.choices,
        default=Verification.UNVERIFIED,
        editable=False,
    )
    verified_at = models.DateTimeField(_("last verified"), null=True, blank=True, editable=False)
    rejected_at = models.DateTimeField(null=True, blank=True, editable=False)  # in use, and not accepted since
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("added by"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ("-created_at",)
        indexes = (
            models.Index(fields=["created_at", "id"], name="partium_apikey_by_age"),  # the order of the admin's list
            # All that tells a key's state, so that the key status of all organizations is computed without their rows.
            models.Index(
                fields=["organization", "status", "verification", "rejected_at", "retires_at", "expires_at"],
                name="partium_apikey_by_state",
            ),
            models.Index(fields=["fingerprint", "status"], name="partium_apikey_duplicates"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "fingerprint"], name="partium_apikey_once_per_organization"
            ),
            models.CheckConstraint(
                condition=Q(status="revoked", secret__isnull=True) | (~Q(status="revoked") & Q(secret__isnull=False)),
                name="partium_apikey_revoked_is_erased",
            ),
        )

    def __str__(self) -> str:
        return f"{self.label} ({self.masked})"

    @property
    def ends_at(self) -> dt.datetime | None:
        """When the key stops serving by itself: the end of its overlap or its expiry, whichever comes first."""
        return min((at for at in (self.retires_at, self.expires_at) if at is not None), default=None)

    @property
    def has_ended(self) -> bool:
        """Whether the key is revoked, or past its overlap or its expiry."""
        return self.status == ApiKey.Status.REVOKED or (self.ends_at is not None and self.ends_at <= timezone.now())

    @property
    def masked(self) -> str:
        """How the key is shown everywhere: ``••••3f9a``."""
        return f"{MASK[:4]}{self.hint}"
