"""Organizations, for operators: the list, and the page that says who is about to lose access."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, IntegerField, Min, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.scope import PolicyAdmin
from partium_auth.models import ApiKey, Organization
from partium_auth.models.keys import ApiKeyState, by_state
from partium_auth.services import members

PER_PAGE = 50

# Worst first. What somebody sees of an organization's keys as a whole.
FAILING, NONE, UNVERIFIED, EXPIRING, HEALTHY = "failing", "none", "unverified", "expiring", "healthy"
WORDS = {
    FAILING: _("failing"),
    NONE: _("none"),
    UNVERIFIED: _("not verified"),
    EXPIRING: _("expiring within 30 days"),
    HEALTHY: _("healthy"),
}


# The better a key, the lower; NONE is what organizations have that no key with a lower rank names.
RANKS = {HEALTHY: 0, EXPIRING: 1, UNVERIFIED: 2, FAILING: 3, NONE: 4}
_RANK_OF_KEY = dict.fromkeys(ApiKeyState, RANKS[NONE]) | {
    ApiKeyState.ACTIVE: RANKS[HEALTHY],
    ApiKeyState.EXPIRING: RANKS[EXPIRING],
    ApiKeyState.RETIRING: RANKS[EXPIRING],
    ApiKeyState.UNVERIFIED: RANKS[UNVERIFIED],
    ApiKeyState.FAILING: RANKS[FAILING],
}


def _best(**of: Any) -> Any:
    """Return, for every organization with keys, the rank of its best one: one pass over the keys, no subquery per row."""
    rank = by_state(_RANK_OF_KEY, IntegerField(), timezone.now())
    return ApiKey.objects.filter(**of).order_by().values("organization").annotate(best=Min(rank))


def in_health(organizations: QuerySet[Any], health: str) -> QuerySet[Any]:
    """Return those organizations whose keys as a whole are like that."""
    if health == NONE:
        return organizations.exclude(pk__in=_best().filter(best__lt=RANKS[NONE]).values("organization"))
    return organizations.filter(pk__in=_best().filter(best=RANKS.get(health, -1)).values("organization"))


class HealthFilter(admin.SimpleListFilter):
    title = _("keys")
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(WORDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else in_health(queryset, self.value() or "")


class OrganizationAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_organizations)
    list_display = ("name", "org_id", "token_source", "required_provider", "is_active")
    list_display_links = ("name",)
    list_select_related = ("required_provider",)
    list_filter = (HealthFilter, "token_source", "is_active")
    lookups_allowed = frozenset({"token_source__exact", "is_active__exact"})
    search_fields = ("display_name", "org_id")
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

    @admin.display(description=_("name"), ordering="display_name")
    def name(self, organization: Organization) -> str:
        return str(organization)

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
        active = policy.visible_organizations(request.user).filter(is_active=True)
        counted = {word: Count("organization", filter=Q(best=rank)) for word, rank in RANKS.items() if word != NONE}
        totals = _best(organization__is_active=True).aggregate(**counted)
        totals[NONE] = active.count() - sum(totals.values())
        chosen = request.GET.get("health", "")
        shown = [chosen] if chosen in WORDS else [word for word in WORDS if word != HEALTHY]
        pages = Paginator(_Buckets(active, {word: totals[word] for word in shown}), PER_PAGE)
        page = pages.get_page(request.GET.get("page"))
        organizations = list(page.object_list)
        counts = _counts(organizations)
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
                "tiles": [(word, label, totals.get(word, 0)) for word, label in WORDS.items()],
                "chosen": chosen,
                "page": page,
                "rows": [
                    (
                        organization,
                        WORDS[organization.health],
                        counts[organization.pk],
                        f"{keys_url}?organization={organization.pk}",
                    )
                    for organization in organizations
                ],
                "shared": _shared(),
            },
        )


class _Buckets(Sequence[Any]):
    """Organizations, worst first and then by name, without sorting all of them for one page."""

    def __init__(self, organizations: QuerySet[Organization], sizes: dict[str, int]) -> None:
        self._organizations = organizations
        self._sizes = sizes

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def __getitem__(self, wanted: Any) -> Any:
        found: list[Any] = []
        start, stop, _step = wanted.indices(len(self))
        for word, size in self._sizes.items():
            if start < size and stop > 0:
                rows = in_health(self._organizations, word).order_by("display_name", "org_id")
                for organization in rows[max(start, 0) : min(stop, size)]:
                    organization.health = word
                    found.append(organization)
            start, stop = start - size, stop - size
        return found


def _counts(organizations: list[Any]) -> dict[Any, Counter[str]]:
    counts: dict[Any, Counter[str]] = {organization.pk: Counter() for organization in organizations}
    rows: Any = ApiKey.objects.with_state().filter(organization__in=list(counts)).order_by()
    for organization_id, state, number in rows.values_list("organization_id", "state").annotate(n=Count("pk")):
        counts[organization_id][state] = number
    for count in counts.values():
        count["ending"] = count[ApiKeyState.EXPIRING] + count[ApiKeyState.RETIRING]
    return counts


def _shared() -> list[list[str]]:
    """Return the organizations that keep the same key, group by group; the same key is kept by one in a sane world."""
    unrevoked = ApiKey.objects.exclude(status=ApiKey.Status.REVOKED).order_by()
    twice = unrevoked.values("fingerprint").annotate(n=Count("organization")).filter(n__gt=1).values("fingerprint")
    groups: dict[str, list[str]] = {}
    rows = unrevoked.filter(fingerprint__in=list(twice.values_list("fingerprint", flat=True)[:50]))
    for digest, org_id in rows.values_list("fingerprint", "organization__org_id").order_by("organization__org_id"):
        groups.setdefault(digest, []).append(org_id)
    return list(groups.values())
