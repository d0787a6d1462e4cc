"""How much API keys are used."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.models.keys import ApiKey


class ApiKeyUsage(models.Model):
    """How often was searched with a key, and how often that failed: one row a day."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    searches = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("key usage")
        verbose_name_plural = _("key usage")
        constraints = (models.UniqueConstraint(fields=["api_key", "day"], name="partium_apikeyusage_one_per_day"),)

    def __str__(self) -> str:
        return f"{self.day}: {self.searches}"
