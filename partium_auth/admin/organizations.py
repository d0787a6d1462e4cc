"""Organizations, for operators: the list, and the overview of their key status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.confirmation import ConfirmedForm
from partium_auth.admin.display import copyable
from partium_auth.admin.permissions import PolicyAdmin, actor_of, page_context
from partium_auth.models import ApiKey, ApiKeyUsage, KeyStatus, Organization
from partium_auth.models.key_status import key_status, needs_attention
from partium_auth.models.keys import ApiKeyState
from partium_auth.services.organizations import add_organization, change_organization

PER_PAGE = 50


class KeyStatusFilter(admin.SimpleListFilter):
    title = _("keys")
    parameter_name = "key_status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(status.word, status.label) for status in KeyStatus]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        chosen = _named(self.value())
        return queryset.none() if chosen is None else queryset.filter(key_status=chosen)


class DeveloperFilter(admin.SimpleListFilter):
    title = _("developers")
    parameter_name = "developers"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("none", _("none: only operators can manage its keys"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(policy.lacks_developer()) if self.value() == "none" else queryset


class OrganizationForm(ConfirmedForm):
    class Meta:
        model = Organization
        fields = ("org_id", "display_name", "token_source", "required_provider", "is_active")
        help_texts: ClassVar = {
            "is_active": _(
                "Make an organization inactive instead of deleting it. Nobody gets in any more; its keys, members and events stay."
            )
        }

    def losses(self, data: dict[str, Any]) -> Iterator[str]:
        stored, source, provider = self.instance, data.get("token_source"), data.get("required_provider")
        names = {"organization": stored, "provider": provider}
        if stored.is_active and not data.get("is_active", True):
            text = gettext("All members lose access to %(organization)s at once, and its keys are not used any more.")
            yield text % names
        if source and source != stored.token_source:
            if source == Organization.TokenSource.USER:
                text = gettext(
                    "People in %(organization)s search with their own logins. A login that Partium does not accept cannot search."
                )
            elif ApiKey.objects.usable().filter(organization=stored).exists():
                text = gettext("Everybody in %(organization)s searches with its API key instead of their own login.")
            else:
                text = gettext("%(organization)s has no usable key: searches stop for everybody.")
            yield text % names
        if provider and provider != stored.required_provider:
            text = gettext(
                "Sessions that logged in elsewhere lose access to %(organization)s until people log in through %(provider)s."
            )
            yield text % names


class OrganizationAdmin(PolicyAdmin):
    form = OrganizationForm
    visible = staticmethod(policy.developer_organizations)
    list_display = ("name", "org_id", "key_status_word", "recent_use", "token_source", "required_provider", "is_active")
    list_display_links = ("name",)
    list_select_related = ("required_provider",)
    list_filter = (KeyStatusFilter, DeveloperFilter, "token_source", "is_active")
    search_fields = ("display_name", "org_id")
    search_help_text = _("Name or Partium id")
    ordering = ("display_name", "org_id")
    autocomplete_fields = ("required_provider",)
    fields = ("org_id", "display_name", "token_source", "required_provider", "is_active", "keys_link")
    change_list_template = "admin/partium_auth/organization/change_list.html"

    has_add_permission = PolicyAdmin.may_see_any
    has_change_permission = PolicyAdmin.has_view_permission

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("partium_id", "keys_link") if obj else ("is_active", "keys_link")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("partium_id", *self.fields[1:], "confirmed") if obj else self.fields[:4]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        organizations: QuerySet[Any] = (
            super()
            .get_queryset(request)
            .annotate(key_status=key_status(), searches=_recent("searches"), failures=_recent("failures"))
        )
        return organizations

    @admin.display(description=_("name"), ordering="display_name")
    def name(self, organization: Organization) -> str:
        return str(organization)

    @admin.display(description=_("Partium id"))
    def partium_id(self, organization: Organization) -> str:
        return copyable(organization.org_id)

    @admin.display(description=_("keys"), ordering="key_status")
    def key_status_word(self, organization: Any) -> str:
        return _status_word(organization)

    @admin.display(description=_("searches with keys, 30 days"), ordering="searches")
    def recent_use(self, organization: Any) -> str:
        searches, failures = number_format(organization.searches), number_format(organization.failures)
        if not organization.failures:
            return searches
        return gettext("%(searches)s, %(failures)s failed") % {"searches": searches, "failures": failures}

    @admin.display(description=_("API keys"))
    def keys_link(self, organization: Organization) -> str:
        url = reverse("admin:partium_auth_apikey_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?organization={}">{}</a>', url, organization.pk, gettext("Show its keys"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        values = {name: getattr(obj, name) for name in ("display_name", "token_source", "required_provider")}
        if change:
            values["is_active"] = obj.is_active
            change_organization(obj, actor=actor_of(request), **values)
            return
        stored = add_organization(obj.org_id, actor=actor_of(request), **values)
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
        """Show how many organizations have each key status, and list those that need attention, worst first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        active: Any = policy.developer_organizations(actor_of(request)).filter(is_active=True)
        organizations = active.annotate(key_status=key_status())
        totals = dict.fromkeys(KeyStatus, 0)
        for status, number in organizations.order_by().values_list("key_status").annotate(number=Count("org_id")):
            totals[KeyStatus(status)] = number
        chosen = _named(request.GET.get("key_status"))
        listed = organizations.filter(needs_attention() if chosen is None else Q(key_status=chosen))
        pages = Paginator(listed.order_by("key_status", *self.ordering), PER_PAGE)
        page = pages.get_page(request.GET.get("page"))
        rows = list(page.object_list)
        states = _states(rows)
        keys_url = reverse("admin:partium_auth_apikey_changelist", current_app=self.admin_site.name)
        return TemplateResponse(
            request,
            "admin/partium_auth/organization/overview.html",
            {
                **self.admin_site.each_context(request),
                **page_context(gettext("Keys by organization")),
                "opts": self.opts,
                "media": self.media,
                "tiles": [(status, totals[status]) for status in KeyStatus],
                "chosen": chosen,
                "page": page,
                "rows": [(row, _status_word(row), states[row.pk], f"{keys_url}?organization={row.pk}") for row in rows],
                "shared": _shared(),
            },
        )


def _recent(count: str) -> Coalesce:
    """Return the sum of a count over an organization's keys in the last 30 days, to annotate with."""
    usage = ApiKeyUsage.objects.recent().filter(api_key__organization=OuterRef("pk")).order_by()
    return Coalesce(Subquery(usage.values("api_key__organization").values_list(Sum(count))), 0)


def _status_word(organization: Any) -> str:
    """Return an organization's key status as a colored word: red only where somebody has to act."""
    status = KeyStatus(organization.key_status)
    color, label = status.word, status.label
    if status == KeyStatus.NONE:
        needs_key = organization.token_source != Organization.TokenSource.USER
        color, label = ("failing", label) if needs_key else (color, _("none needed"))
    return format_html('<span class="partium-state partium-{}">{}</span>', color, label)


def _named(word: str | None) -> KeyStatus | None:
    return next((status for status in KeyStatus if status.word == word), None)


def _states(organizations: list[Any]) -> dict[Any, Counter[str]]:
    counts: dict[Any, Counter[str]] = {organization.pk: Counter() for organization in organizations}
    rows: Any = ApiKey.objects.with_state().filter(organization__in=list(counts)).order_by()
    for organization_id, state, number in rows.values_list("organization_id", "state").annotate(n=Count("pk")):
        counts[organization_id][state] = number
    for count in counts.values():
        count["ending"] = count[ApiKeyState.EXPIRING] + count[ApiKeyState.RETIRING]
    return counts


def _shared() -> list[list[str]]:
    """Return the organizations that have the same key, at most 50 groups of them."""
    keys = ApiKey.objects.exclude(status=ApiKey.Status.REVOKED)
    duplicates = list(ApiKey.objects.of_several_organizations()[:50])
    groups: dict[str, list[str]] = {fingerprint: [] for fingerprint in duplicates}
    rows = keys.filter(fingerprint__in=duplicates).order_by("organization__org_id")
    for fingerprint, org_id in rows.values_list("fingerprint", "organization__org_id"):
        groups[fingerprint].append(org_id)
    return list(groups.values())
