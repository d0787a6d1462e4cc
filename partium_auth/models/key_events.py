"""The history of API keys: an append-only table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from partium_auth.host.local_time import format_local_time
from partium_auth.models.keys import ApiKey
from partium_auth.models.organizations import Organization


class EventDetail(models.TextChoices):
    """What can be said about an event: the code is stored, the sentence is shown."""

    ACCEPTED = "accepted", _("Partium accepted it.")
    EXCHANGE_REFUSED = "exchange_refused", _("Partium answered %(status)s to the token request.")
    SEARCH_REFUSED = "search_refused", _("Partium answered %(status)s to a search in the organization.")
    CATALOG_KEY = "catalog_key", _("Partium answered %(status)s to a search: the key was made for the Catalog API.")
    REJECTED_IN_USE = "rejected_in_use", _("Partium answered %(status)s when the key was used.")
    NOT_TRIED = "not_tried", _("Not verified.")
    TOO_SLOW = "too_slow", _("Partium did not answer in time.")
    EXCHANGE_FAILED = "exchange_failed", _("Not verified: Partium answered %(status)s to the token request.")
    SEARCH_FAILED = "search_failed", _("Not verified: Partium answered %(status)s to a search.")
    UNREACHABLE = "unreachable", _("Not verified: Partium could not be reached or did not answer in time.")
    LABEL_CHANGED = "label_changed", _("label changed")
    EXPIRY_CHANGED = "expiry_changed", _("expiry changed from %(before)s to %(after)s")
    BOTH_CHANGED = "both_changed", _("label changed; expiry changed from %(before)s to %(after)s")
    ROTATED = "rotated", _("Replaces %(key)s. %(outcome)s")
    RETIRED = "retired", _("Replaced by %(key)s; stays valid for another %(hours)s h.")
    REFUSED = "refused", _("%(key)s: %(outcome)s")


def describe(code: str, parameters: Mapping[str, Any]) -> str:
    """Return the sentence of an event in the active language; a code that is not known is returned as it is.

    Args:
        code: an :class:`EventDetail`, or empty.
        parameters: what the sentence has places for; ``outcome`` is the code of a second sentence.
    """
    if code not in EventDetail.values:
        return code
    shown = dict(parameters)
    if "outcome" in shown:
        shown["outcome"] = describe(shown.pop("outcome"), shown)
    return str(EventDetail(code).label) % shown


class ApiKeyEvent(models.Model):
    """What happened to a key: who, what, when, from where. Append-only, never a value."""

    class Action(models.TextChoices):
        ADDED = "added", _("added")
        VERIFIED = "verified", _("verified")
        REFUSED = "refused", _("refused")
        ROTATED = "rotated", _("rotated")
        RETIRED = "retired", _("retiring")
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
    detail_code = models.CharField(max_length=32, blank=True)  # an EventDetail, or one of a later version
    detail_parameters = models.JSONField(default=dict, blank=True)
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
        return f"{self.get_action_display()} {format_local_time(self.at)}"

    def get_detail_display(self) -> str:
        """Return the detail in the active language."""
        return describe(self.detail_code, self.detail_parameters)

    @property
    def detail(self) -> str:
        """The detail in English, for scripts."""
        with translation.override("en"):
            return self.get_detail_display()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert only. Raises TypeError for a row that exists."""
        if not self._state.adding:
            self._refuse()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("Key events are append-only.")
