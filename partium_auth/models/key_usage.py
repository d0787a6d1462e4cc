"""How much API keys are used."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from partium_auth.host.local_time import local_date
from partium_auth.models.keys import ApiKey

SHOWN_DAYS = 30


class ApiKeyUsageQuerySet(models.QuerySet["ApiKeyUsage"]):
    def recent(self) -> ApiKeyUsageQuerySet:
        """Return the counts of the last 30 days, today included."""
        today = local_date(timezone.now())
        return self.filter(day__gt=today - dt.timedelta(days=SHOWN_DAYS), day__lte=today)

    def totals(self) -> dict[str, int]:
        """Return how many ``searches`` and ``failures`` these counts are; one query."""
        totals = self.aggregate(searches=Sum("searches"), failures=Sum("failures"))
        return {name: total or 0 for name, total in totals.items()}


class ApiKeyUsage(models.Model):
    """How often was searched with a key, and how often that failed: one row a day."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    searches = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)

    objects = models.Manager.from_queryset(ApiKeyUsageQuerySet)()

    class Meta:
        verbose_name = _("key usage")
        verbose_name_plural = _("key usage")
        constraints = (models.UniqueConstraint(fields=["api_key", "day"], name="partium_apikeyusage_one_per_day"),)

    def __str__(self) -> str:
        return f"{self.day}: {self.searches}"
