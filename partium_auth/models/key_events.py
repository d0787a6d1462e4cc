"""The history of API keys: an append-only table."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.host.local_time import local_moment
from partium_auth.models import key_history
from partium_auth.models.keys import ApiKey
from partium_auth.models.organizations import Organization


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
        return f"{self.get_action_display()} {local_moment(self.at)}"

    def get_detail_display(self) -> str:
        """What ``detail`` says, in the active language."""
        return key_history.translated(self.detail)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert only. Raises TypeError for a row that exists."""
        if not self._state.adding:
            self._refuse()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("Key events are append-only.")
