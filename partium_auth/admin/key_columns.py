"""What the pages of API keys show of a key, and the filter by its state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth.admin.display import NOTHING, ago, copyable, moment
from partium_auth.models import ApiKey
from partium_auth.models.keys import ApiKeyState, KeyUse

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


class StateFilter(admin.SimpleListFilter):
    """A filter by state. Without a choice it hides revoked keys."""

    title = _("status")
    parameter_name = "state"
    all_states = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, StrOrPromise]]:
        return [*ApiKeyState.choices, (self.all_states, _("all, revoked ones too"))]

    def choices(self, changelist: Any) -> Iterator[Any]:
        not_revoked, *others = super().choices(changelist)
        yield {**not_revoked, "display": _("not revoked")}
        yield from others

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        chosen = self.value()
        rows: QuerySet[Any] = queryset
        if chosen is None:
            rows = queryset.exclude(status=ApiKey.Status.REVOKED)
        elif chosen != self.all_states:
            rows = queryset.in_state(chosen) if chosen in ApiKeyState.values else queryset.none()
        return rows


def state_word(state: str) -> str:
    """Return a key's state as a colored word."""
    return format_html('<span class="partium-state partium-{}">{}</span>', state, ApiKeyState(state).label)


@admin.display(description=_("key"), ordering="label")
def name(key: Any) -> str:
    return format_html(
        '<span class="partium-name"><bdi>{}</bdi> <span class="partium-hint">{}</span></span>', key.label, key.masked
    )


@admin.display(description=_("status"), ordering="state")
def status_word(key: Any) -> str:
    return state_word(key.state)


@admin.display(description=_("use"))
def use(key: Any) -> str:
    if key.use == KeyUse.IN_USE:
        return format_html('<span class="partium-badge">{}</span>', KeyUse.IN_USE.label)
    return str(KeyUse.FALLBACK.label) if key.use == KeyUse.FALLBACK else NOTHING


@admin.display(description=_("access tokens come from"))
def token_source(key: Any) -> str:
    return str(key.organization.get_token_source_display())


@admin.display(description=_("last used"), ordering="last_used_at")
def last_used(key: Any) -> str:
    return ago(key.last_used_at)


@admin.display(description=_("last verified"), ordering="verified_at")
def last_verified(key: Any) -> str:
    if key.verified_at is None:
        return NOTHING
    return format_html("{}, {}", key.get_verification_display(), ago(key.verified_at))


@admin.display(description=_("expires in"), ordering="expires_at")
def expires_in(key: Any) -> str:
    now = timezone.now()
    end = key.ends_at
    if key.status == ApiKey.Status.REVOKED or end is None:
        return NOTHING
    if end <= now:
        return format_html("<s>{}</s>", moment(end))
    return format_html('<span class="partium-nowrap" title="{}">{}</span>', moment(end), timeuntil(end, now, depth=1))


@admin.display(description=_("key"))
def masked_value(key: Any) -> str:
    return str(key.masked) if key.status != ApiKey.Status.REVOKED else gettext("erased; it was %s") % key.masked


@admin.display(description=_("Partium id of the organization"))
def partium_id(key: Any) -> str:
    return copyable(key.organization.org_id)


@admin.display(description=_("key id"))
def identifier(key: Any) -> str:
    return copyable(str(key.pk))


@admin.display(description=_("added"))
def added(key: Any) -> str:
    at = moment(key.created_at)
    return gettext("%(at)s by %(who)s") % {"at": at, "who": key.created_by} if key.created_by else at
