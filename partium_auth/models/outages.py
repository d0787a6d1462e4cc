"""Upstreams that do not answer at the moment, as the whole fleet knows them."""

from __future__ import annotations

from django.db import models


class Outage(models.Model):
    """One upstream that fails: the row exists from the first failure to the first success. All times are the database's."""

    upstream = models.CharField(max_length=64, primary_key=True)  # "partium", "oidc:<slug>", or "oidc:<slug>:push"
    since = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)
    next_probe_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.upstream
