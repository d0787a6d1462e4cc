"""Organizations, for operators: the list, and the page that says who is about to lose access."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.search import SearchedAdmin
from partium_auth.models import ApiKey, DuplicateKey, Health, KeyHealth, Organization
from partium_auth.models.health import health, in_health
from partium_auth.models.keys import ApiKeyState
from partium_auth.services import members

PER_PAGE = 50


class HealthFilter(admin.SimpleListFilter):
    title = _("keys")
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(health.word, health.label) for health in Health]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        chosen = _named(self.value())
        return queryset.none() if chosen is None else queryset.filter(in_health(chosen))


class OrganizationAdmin(SearchedAdmin):
    visible = staticmethod(policy.visible_organizations)
    deferred = ("search_text",)
    list_display = ("name", "org_id", "health_word", "token_source", "required_provider", "is_active")
    list_display_links = ("name",)
    list_select_related = ("required_provider",)
    list_filter = (HealthFilter, "token_source", "is_active")
    lookups_allowed = frozenset({"token_source__exact", "is_active__exact"})
    search_help_text = _("Name or Partium id")
    ordering = ("display_name", "org_id")
    autocomplete_fields = ("required_provider",)
    fields = ("org_id", "display_name", "token_source", "required_provider", "is_active", "keys_link")
    change_list_template = "admin/partium_auth/organization/change_list.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.enters(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("org_id", "keys_link") if obj else ("is_active", "keys_link")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.fields if obj else self.fields[:4]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        organizations: QuerySet[Any] = super().get_queryset(request).annotate(health=health())
        return organizations

    @admin.display(description=_("name"), ordering="display_name")
    def name(self, organization: Organization) -> str:
        return str(organization)

    @admin.display(description=_("keys"), ordering="health")
    def health_word(self, organization: Any) -> str:
        found = Health(organization.health)
        return format_html('<span class="partium-state partium-{}">{}</span>', found.word, found.label)

    @admin.display(description=_("API keys"))
    def keys_link(self, organization: Organization) -> str:
        url = reverse("admin:partium_auth_apikey_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?organization={}">{}</a>', url, organization.pk, gettext("Show its keys"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        values = {name: getattr(obj, name) for name in ("display_name", "token_source", "required_provider")}
        if change:
            members.change_organization(obj, actor=request.user, is_active=obj.is_active, **values)
            return
        stored = members.add_organization(obj.org_id, actor=request.user, **values)
        # The admin goes on with its own object.
        obj.pk = stored.pk
        obj._state.adding = False

    # -- the overview -------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.overview_view)
        return [path("overview/", view, name="partium_auth_organization_overview"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        url = reverse("admin:partium_auth_organization_overview", current_app=self.admin_site.name)
        return super().changelist_view(request, {"overview_url": url, **(extra_context or {})})

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        """How many organizations have healthy keys, and which ones are about to lose access: worst first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        active: QuerySet[Any] = policy.visible_organizations(request.user).filter(is_active=True)
        totals = _totals(active, now)
        chosen = _named(request.GET.get("health"))
        parts: dict[Health, tuple[QuerySet[Any], int]]
        if chosen is None:
            parts = {found: (active, totals[found]) for found in Health if found != Health.HEALTHY}
            if totals[Health.NONE]:
                # Who needs no key misses none, and there may be many of them.
                without = active.exclude(token_source=Organization.TokenSource.USER)
                parts[Health.NONE] = without, without.filter(in_health(Health.NONE, now)).count()
        else:
            parts = {chosen: (active, totals[chosen])}
        pages = Paginator(_WorstFirst(parts, now), PER_PAGE)
        page = pages.get_page(request.GET.get("page"))
        rows = list(page.object_list)
        states = _states([organization for organization, _health in rows])
        keys_url = reverse("admin:partium_auth_apikey_changelist", current_app=self.admin_site.name)
        return TemplateResponse(
            request,
            "admin/partium_auth/organization/overview.html",
            {
                **self.admin_site.each_context(request),
                "title": gettext("Keys by organization"),
                "opts": self.opts,
                "media": self.media,
                "list_url": reverse("admin:partium_auth_organization_changelist", current_app=self.admin_site.name),
                "tiles": [(found, totals[found]) for found in Health],
                "chosen": chosen,
                "page": page,
                "rows": [
                    (organization, found, states[organization.pk], f"{keys_url}?organization={organization.pk}")
                    for organization, found in rows
                ],
                "shared": _shared(),
            },
        )


def _totals(active: QuerySet[Any], now: dt.datetime) -> dict[Health, int]:
    # Of all organizations: nobody but an operator gets this far. Those that are not active are few, and taking them out is
    # faster than joining all the others.
    stored: Any = KeyHealth.objects.exclude(organization__in=Organization.objects.filter(is_active=False).values("pk"))
    counts = stored.annotate(health=health(now, path="")).values_list("health").annotate(n=Count("pk"))
    totals = dict.fromkeys(Health, 0) | dict(counts)
    totals[Health.NONE] += active.count() - sum(totals.values())  # and those that never had a key
    return totals


class _WorstFirst(Sequence[Any]):
    """Organizations and their health, worst first and then by name, without sorting all of them for one page."""

    def __init__(self, parts: dict[Health, tuple[QuerySet[Any], int]], now: dt.datetime) -> None:
        self._parts = parts  # where to look for those, and how many there are
        self._now = now

    def __len__(self) -> int:
        return sum(size for _organizations, size in self._parts.values())

    def __getitem__(self, wanted: Any) -> Any:
        found: list[Any] = []
        start, stop, _step = wanted.indices(len(self))
        for kind, (organizations, size) in self._parts.items():
            if start < size and stop > 0:
                rows = organizations.filter(in_health(kind, self._now)).order_by("display_name", "org_id")
                found += [(organization, kind) for organization in rows[max(start, 0) : min(stop, size)]]
            start, stop = start - size, stop - size
        return found


def _named(word: str | None) -> Health | None:
    return next((found for found in Health if found.word == word), None)


def _states(organizations: list[Any]) -> dict[Any, Counter[str]]:
    counts: dict[Any, Counter[str]] = {organization.pk: Counter() for organization in organizations}
    rows: Any = ApiKey.objects.with_state().filter(organization__in=list(counts)).order_by()
    for organization_id, state, number in rows.values_list("organization_id", "state").annotate(n=Count("pk")):
        counts[organization_id][state] = number
    for count in counts.values():
        count["ending"] = count[ApiKeyState.EXPIRING] + count[ApiKeyState.RETIRING]
    return counts


def _shared() -> list[list[str]]:
    """Return the organizations that keep the same key, group by group; the same key is kept by one in a sane world."""
    noticed = DuplicateKey.objects.order_by("-noticed_at").values_list("pk", flat=True)[:500]
    rows = ApiKey.objects.exclude(status=ApiKey.Status.REVOKED).filter(fingerprint__in=list(noticed))
    groups: dict[str, list[str]] = {}
    for digest, org_id in rows.values_list("fingerprint", "organization__org_id").order_by("organization__org_id"):
        groups.setdefault(digest, []).append(org_id)
    return [group for group in groups.values() if len(group) > 1][:50]
