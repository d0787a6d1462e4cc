"""What happened: an append-only table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from django.db import models
from django.template.defaultfilters import yesno
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from partium_auth.host.local_time import format_local_time
from partium_auth.models.keys import ApiKey
from partium_auth.models.organizations import Organization, Origin, Role
from partium_auth.models.providers import IdentityProvider


class EventDetail(models.TextChoices):
    """What can be said about an event: the code is stored, the sentence is shown."""

    ACCEPTED = "accepted", _("Partium accepted it.")
    EXCHANGE_REFUSED = "exchange_refused", _("Partium answered %(status)s to the token request.")
    SEARCH_REFUSED = "search_refused", _("Partium answered %(status)s to a search in the organization.")
    CATALOG_KEY = "catalog_key", _("Partium answered %(status)s to a search: the key was made for the Catalog API.")
    REJECTED_IN_USE = "rejected_in_use", _("Partium answered %(status)s when the key was used.")
    EXPIRES = "expires", _("Expires at %(expires)s.")
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
    ROLE = "role", _("Role: %(role)s.")
    MEMBERSHIP = "membership", _("Role: %(role)s, given %(origin)s.")
    ROLE_CHANGED = "role_changed", _("Role: %(role)s, before: %(role_before)s, given %(origin)s.")
    CHANGED = "changed", _("Changed: %(changes)s.")
    BY_PROVIDER = "by_provider", _("Identity provider %(provider)s.")
    PROVIDER_CHANGED = "provider_changed", _("Identity provider %(provider)s. Changed: %(fields)s.")
    BY_PASSWORD = "by_password", _("Partium user name and password.")
    REFUSED_BY_PROVIDER = (
        "refused_by_provider",
        _("Identity provider %(provider)s. Check: %(check)s."),
    )
    REFUSED_BY_PASSWORD = (
        "refused_by_password",
        _("Partium user name and password. Check: %(check)s."),
    )
    CLIENT_KEY = "client_key", _("Identity provider %(provider)s. Key pair %(key)s.")
    CLEARED = (
        "cleared",
        _(
            "Older than %(days)s days. Events deleted: %(events)s. "
            "Addresses of ended invitations erased: %(invitations)s."
        ),
    )


def describe(code: str, parameters: Mapping[str, Any]) -> str:
    """Return the sentence of an event in the active language; a code that is not known is returned as it is.

    ``parameters`` fill the places of the sentence; ``outcome`` is the code of a second sentence.
    """
    if code not in EventDetail.values:
        return code
    shown = dict(parameters)
    if "outcome" in shown:
        shown["outcome"] = describe(shown.pop("outcome"), shown)
    for name, words in _WORDS.items():
        if name in shown:
            shown[name] = dict(words.choices).get(shown[name], shown[name])
    if "changes" in shown:
        shown["changes"] = "; ".join(_change(name, *values) for name, values in sorted(shown["changes"].items()))
    if "fields" in shown:
        shown["fields"] = ", ".join(_name_of(IdentityProvider, name) for name in shown["fields"])
    return str(EventDetail(code).label) % shown


_WORDS: dict[str, type[models.TextChoices]] = {"role": Role, "role_before": Role, "origin": Origin}


def _change(name: str, before: Any, after: Any) -> str:
    """Return how a field of an organization, or a privilege, was changed, in words."""
    field = next((field for field in Organization._meta.concrete_fields if field.name == name), None)
    words = {} if field is None else dict(field.flatchoices)
    shown = [words.get(value, yesno(value) if isinstance(value, bool) else value or "–") for value in (before, after)]
    return f"{_name_of(Organization, name)}: {shown[0]} → {shown[1]}"


def _name_of(model: type[models.Model], name: str) -> str:
    """Return what people call a field, or the rows that belong to it; a field that is gone is called as it was."""
    for field in model._meta.get_fields():
        if field.name == name:
            return str(getattr(field, "verbose_name", "") or field.related_model._meta.verbose_name_plural)  # type: ignore[union-attr]
    return name


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Events are added and read. ``services.audit`` alone deletes old ones and erases names, with a query set of its own."""

    def update(self, **kwargs: Any) -> NoReturn:
        _refuse()

    def delete(self) -> NoReturn:
        _refuse()

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> list[AuditEvent]:
        if kwargs.get("update_conflicts") or any(args[2:]):
            _refuse()
        return super().bulk_create(objs, *args, **kwargs)


class AuditEvent(models.Model):
    """What happened: who, what, when, from where, in which organization. Append-only, and never a secret.

    No foreign key has a constraint in the database: a login must not wait for whoever has locked the organization's row.
    """

    class Action(models.TextChoices):
        KEY_ADDED = "key_added", _("key added")
        KEY_VERIFIED = "key_verified", _("key verified")
        KEY_REFUSED = "key_refused", _("key refused")
        KEY_ROTATED = "key_rotated", _("key rotated")
        KEY_RETIRED = "key_retired", _("key retiring")
        KEY_REVOKED = "key_revoked", _("key revoked")
        KEY_CHANGED = "key_changed", _("key changed")
        KEY_REJECTED = "key_rejected", _("key rejected in use")
        KEY_EXPIRES = "key_expires", _("key expires soon")
        PERSON_ERASED = "person_erased", _("personal data erased")
        EVENTS_CLEARED = "events_cleared", _("old events deleted")
        CLIENT_KEY_CREATED = "client_key_created", _("key pair for a provider created")
        IDENTITY_CONNECTED = "identity_connected", _("identity connected")
        IDENTITY_DISCONNECTED = "identity_disconnected", _("identity disconnected")
        LOGIN = "login", _("login")
        LOGIN_REFUSED = "login_refused", _("login refused")
        GRANTS_REVOKED = "grants_revoked", _("logins ended")
        MEMBER_ADDED = "member_added", _("member added")
        ROLE_CHANGED = "role_changed", _("role changed")
        MEMBER_REMOVED = "member_removed", _("member removed")
        PRIVILEGES_CHANGED = "privileges_changed", _("staff or superuser status changed by login")
        INVITATION_MADE = "invitation_made", _("invitation made")
        INVITATION_ACCEPTED = "invitation_accepted", _("invitation accepted")
        INVITATION_DECLINED = "invitation_declined", _("invitation declined")
        INVITATION_WITHDRAWN = "invitation_withdrawn", _("invitation withdrawn")
        ORGANIZATION_ADDED = "organization_added", _("organization added")
        ORGANIZATION_CHANGED = "organization_changed", _("organization changed")
        PROVIDER_ADDED = "provider_added", _("identity provider added")
        PROVIDER_CHANGED = "provider_changed", _("identity provider changed")
        PROVIDER_DELETED = "provider_deleted", _("identity provider deleted")

    organization = models.ForeignKey(
        Organization,
        verbose_name=_("organization"),
        on_delete=models.PROTECT,
        db_constraint=False,
        null=True,
        related_name="events",
    )
    action = models.CharField(_("what"), max_length=32, choices=Action.choices)
    detail_code = models.CharField(max_length=32, blank=True)  # an EventDetail, or one of a later version
    detail_parameters = models.JSONField(default=dict, blank=True)
    api_key = models.ForeignKey(
        ApiKey,
        verbose_name=_("API key"),
        on_delete=models.PROTECT,
        db_constraint=False,
        null=True,
        related_name="events",
    )
    # People by primary key, which stays when an account is deleted; erasure empties the names and the address.
    actor_id = models.CharField(_("who (id)"), max_length=64, blank=True)
    actor_name = models.CharField(_("name"), max_length=190, blank=True)
    address = models.GenericIPAddressField(_("from"), null=True, blank=True)
    person_id = models.CharField(_("person concerned (id)"), max_length=64, blank=True)
    person_name = models.CharField(_("person concerned"), max_length=254, blank=True)
    at = models.DateTimeField(_("when"), auto_now_add=True, db_index=True)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ("-at", "-id")
        base_manager_name = "objects"
        indexes = (  # for erasure
            models.Index(fields=["actor_id"], name="partium_auditevent_actor"),
            models.Index(fields=["person_id"], name="partium_auditevent_person"),
            models.Index(fields=["person_name"], name="partium_auditevent_name"),
        )

    def __str__(self) -> str:
        return f"{self.get_action_display()} {format_local_time(self.at)}"

    @property
    def is_about_a_key(self) -> bool:
        """Whether this is an event of an API key, stored or refused."""
        return self.action in KEY_ACTIONS

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
            _refuse()
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse()


KEY_ACTIONS = tuple(action.value for action in AuditEvent.Action if action.value.startswith("key_"))
NOT_OF_PEOPLE = (
    *KEY_ACTIONS,
    AuditEvent.Action.ORGANIZATION_ADDED.value,
    AuditEvent.Action.ORGANIZATION_CHANGED.value,
)
"""What developers who may not manage members see of their organization."""


def _refuse() -> NoReturn:
    raise TypeError("Events are append-only.")
