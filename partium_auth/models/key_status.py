"""The key status of an organization: what the best of its keys is like. Computed, never stored."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from partium_auth.models.keys import ApiKey, ApiKeyState, by_state
from partium_auth.models.organizations import Organization


class KeyStatus(models.IntegerChoices):
    """Worst first: an organization whose keys fail has more to lose than one that never had a key."""

    FAILING = 0, _("failing")
    NONE = 1, _("none")
    UNVERIFIED = 2, _("not verified")
    EXPIRING = 3, _("expiring within 30 days")
    HEALTHY = 4, _("healthy")

    @property
    def word(self) -> str:
        """Its name in URLs, style sheets and JSON."""
        return self.name.lower()


STATUS_OF_STATE = {
    ApiKeyState.ACTIVE: KeyStatus.HEALTHY,
    ApiKeyState.EXPIRING: KeyStatus.EXPIRING,
    ApiKeyState.RETIRING: KeyStatus.EXPIRING,
    ApiKeyState.UNVERIFIED: KeyStatus.UNVERIFIED,
    ApiKeyState.FAILING: KeyStatus.FAILING,
    ApiKeyState.EXPIRED: None,
    ApiKeyState.RETIRED: None,
    ApiKeyState.REVOKED: None,
}
"""The key status of an organization with one key in this state; None: as without the key."""


def needs_attention() -> Q:
    """Return the condition that an organization, annotated with ``key_status``, loses access to Partium or soon may.

    An organization whose people log in themselves needs no key.
    """
    own_logins = Q(token_source=Organization.TokenSource.USER)
    having_keys = [KeyStatus.FAILING, KeyStatus.UNVERIFIED, KeyStatus.EXPIRING]
    # Two alternatives: the database computes the status of each organization once, not for every condition.
    return (own_logins & Q(key_status__in=having_keys)) | (~own_logins & Q(key_status__lt=KeyStatus.HEALTHY))


def key_status(now: dt.datetime | None = None) -> Coalesce:
    """Return the expression for the :class:`KeyStatus` of an organization, for ``Organization.objects.annotate()``."""
    of_each = by_state(STATUS_OF_STATE, models.IntegerField(), now)
    keys = ApiKey.objects.filter(organization=OuterRef("pk")).order_by().values("organization")
    return Coalesce(Subquery(keys.annotate(best=Max(of_each)).values("best")), KeyStatus.NONE.value)
