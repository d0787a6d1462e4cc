"""What an organization's keys are like as a whole: stored in such a way that time alone never makes it wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.conf import settings
from django.db import models
from django.db.models import Case, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from partium_auth.models.keys import EXPIRES_SOON, ApiKey
from partium_auth.models.organizations import Organization


class Health(models.IntegerChoices):
    """What the best of an organization's keys is like. Worst first: an organization that is failing had expected to work."""

    FAILING = 0, _("failing")
    NONE = 1, _("none")
    UNVERIFIED = 2, _("not verified")
    EXPIRING = 3, _("expiring within 30 days")
    HEALTHY = 4, _("healthy")

    @property
    def word(self) -> str:
        """Its name in addresses and style sheets."""
        return self.name.lower()


class KeyHealth(models.Model):
    """Until when an organization has a key that is healthy, that serves, that is not verified, that is failing.

    What its health is at a moment follows from these and the clock alone (:func:`health`), without looking at keys. An
    organization that never had a key has no row. ``partium_auth.services.health`` makes it anew whenever a key changes.
    A table of its own, so that a site which saves an organization that it read earlier overwrites nothing here.
    """

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, primary_key=True, related_name="key_health"
    )
    healthy_until = models.DateTimeField(null=True)
    serving_until = models.DateTimeField(null=True)
    unverified_until = models.DateTimeField(null=True)
    failing_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("key health")
        verbose_name_plural = _("key health")

    def __str__(self) -> str:
        return f"{self.organization_id}"


Moments = dict[str, dt.datetime | None]

# What of a key tells its health.
COLUMNS = ("status", "verification", "rejected_at", "retires_at", "expires_at")


def moments(keys: Iterable[tuple[str, str, dt.datetime | None, dt.datetime | None, dt.datetime | None]]) -> Moments:
    """Return the values of a :class:`KeyHealth` row.

    Args:
        keys: the :data:`COLUMNS` of each of an organization's keys.
    """
    found: Moments = dict.fromkeys(("healthy_until", "serving_until", "unverified_until", "failing_until"))

    def until(name: str, end: dt.datetime) -> None:
        before = found[name]
        found[name] = end if before is None else max(before, end)

    for status, verification, rejected_at, retires_at, expires_at in keys:
        end = min(retires_at or _for_ever(), expires_at or _for_ever())
        if status == ApiKey.Status.REVOKED:
            continue
        if rejected_at or verification in {ApiKey.Verification.REJECTED, ApiKey.Verification.WRONG_ORGANIZATION}:
            until("failing_until", end)
        elif status == ApiKey.Status.RETIRING:
            until("serving_until", end)
        elif verification == ApiKey.Verification.UNVERIFIED:
            until("unverified_until", end)
        else:
            until("serving_until", end)
            until("healthy_until", min(end, _warned_from(expires_at)))
    return found


# Best first: an organization is what the first of these moments that is still to come says.
_UNTIL = {
    Health.HEALTHY: "healthy_until__gt",
    Health.EXPIRING: "serving_until__gt",
    Health.UNVERIFIED: "unverified_until__gt",
    Health.FAILING: "failing_until__gt",
}


def health(now: dt.datetime | None = None, path: str = "key_health__") -> Case:
    """Return the expression for an organization's :class:`Health`.

    Args:
        now: None: the present.
        path: from what is asked for to :class:`KeyHealth`.
    """
    now = now or timezone.now()
    return Case(
        *(When(**{path + until: now}, then=Value(found.value)) for found, until in _UNTIL.items()),
        default=Value(Health.NONE.value),
        output_field=models.IntegerField(),
    )


def in_health(wanted: Health, now: dt.datetime | None = None) -> Q:
    """Return the condition that an organization's health is this.

    The same as comparing :func:`health`, but the database knows from its statistics how many that will be, and takes the
    first fifty from the index by name where it need not look far.

    Args:
        wanted: which.
        now: None: the present.
    """
    now = now or timezone.now()
    condition = Q()
    for found, until in _UNTIL.items():
        ahead = Q(**{f"key_health__{until}": now})
        if found == wanted:
            return condition & ahead
        condition &= ~ahead
    return condition


def _for_ever() -> dt.datetime:
    # Some way from the end of Python's calendar, so that any time zone can show it.
    return dt.datetime(9999, 1, 1, tzinfo=dt.UTC if settings.USE_TZ else None)


def _warned_from(expires_at: dt.datetime | None) -> dt.datetime:
    if expires_at is None:
        return _for_ever()
    try:
        return expires_at - EXPIRES_SOON
    except OverflowError:  # it expired in January of the year 1, as somebody may type
        return expires_at
