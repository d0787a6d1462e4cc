"""API keys, what happened to them, and how much they are used."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from partium_auth.fields import MASK, SealedField
from partium_auth.models.organizations import Organization


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self, now: dt.datetime | None = None) -> ApiKeyQuerySet:
        """Keys that may serve: not revoked, not expired, not past the end of their overlap, not known to be rejected."""
        now = now or timezone.now()
        return (
            self.exclude(status=ApiKey.Status.REVOKED)
            .exclude(verification__in=(ApiKey.Verification.REJECTED, ApiKey.Verification.WRONG_ORGANIZATION))
            .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))
            .filter(Q(retires_at__isnull=True) | Q(retires_at__gt=now))
        )


class ApiKey(models.Model):
    """A key that Partium issued for one organization. Its value is sealed and never shown again."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")
        RETIRING = "retiring", _("retiring")
        REVOKED = "revoked", _("revoked")

    class Verification(models.TextChoices):
        UNVERIFIED = "unverified", _("not verified")
        ACCEPTED = "accepted", _("accepted")
        REJECTED = "rejected", _("rejected by Partium")
        WRONG_ORGANIZATION = "wrong_organization", _("belongs to another organization")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(
        Organization, verbose_name=_("organization"), on_delete=models.PROTECT, related_name="api_keys"
    )
    label = models.CharField(_("label"), max_length=100)
    secret = SealedField(_("API key"))
    hint = models.CharField(max_length=4, editable=False, blank=True)
    fingerprint = models.CharField(max_length=64, editable=False, db_index=True)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=Status.ACTIVE, editable=False)
    retires_at = models.DateTimeField(_("serves until"), null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
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
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "fingerprint"], name="partium_apikey_once_per_organization"
            ),
        )

    def __str__(self) -> str:
        return f"{self.label} ({self.masked})"

    @property
    def masked(self) -> str:
        """How the key is shown everywhere: ``••••3f9a``."""
        return f"{MASK[:4]}{self.hint}"


class ApiKeyEvent(models.Model):
    """What happened to a key: who, what, when, from where. Append-only, never a value."""

    class Action(models.TextChoices):
        ADDED = "added", _("added")
        VERIFIED = "verified", _("verified")
        REFUSED = "refused", _("refused")
        ROTATED = "rotated", _("rotated")
        RETIRED = "retired", _("began to retire")
        REVOKED = "revoked", _("revoked")
        CHANGED = "changed", _("changed")
        REJECTED = "rejected", _("rejected in use")

    api_key = models.ForeignKey(
        ApiKey, verbose_name=_("API key"), on_delete=models.PROTECT, null=True, related_name="events"
    )
    organization = models.ForeignKey(
        Organization, verbose_name=_("organization"), on_delete=models.PROTECT, related_name="key_events"
    )
    action = models.CharField(_("what"), max_length=16, choices=Action.choices)
    detail = models.CharField(_("detail"), max_length=255, blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("who"), on_delete=models.SET_NULL, null=True, related_name="+"
    )
    # The name as it was, so that the history stays readable after the account is gone.
    actor_name = models.CharField(_("name"), max_length=190, blank=True)
    address = models.GenericIPAddressField(_("from"), null=True, blank=True)
    at = models.DateTimeField(_("when"), auto_now_add=True, db_index=True)

    class Meta:
        verbose_name = _("key event")
        verbose_name_plural = _("key events")
        ordering = ("-at", "-id")

    def __str__(self) -> str:
        return f"{self.get_action_display()} {self.at:%Y-%m-%d %H:%M}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert only. Raises TypeError for a row that exists."""
        if not self._state.adding:
            self._refuse()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("Key events are append-only.")


class ApiKeyUsage(models.Model):
    """How often a key was exchanged, and how often that failed: one row a day."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    exchanges = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("key usage")
        verbose_name_plural = _("key usage")
        constraints = (models.UniqueConstraint(fields=["api_key", "day"], name="partium_apikeyusage_one_per_day"),)

    def __str__(self) -> str:
        return f"{self.day}: {self.exchanges}"
