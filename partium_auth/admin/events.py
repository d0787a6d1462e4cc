"""The events: read and exported, never changed."""

from __future__ import annotations

import csv
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.organization_choice import OrganizationFilter
from partium_auth.admin.permissions import PolicyAdmin, actor_of, permissions_of
from partium_auth.host.local_time import format_exact_local_time
from partium_auth.models import AuditEvent

# For scripts, so the same in every language.
COLUMNS = (
    "when",
    "action",
    "organization",
    "key",
    "shown_as",
    "detail",
    "who",
    "from",
    "key_id",
    "person",
    "who_id",
    "person_id",
)


class PersonFilter(admin.SimpleListFilter):
    """Events by and about one person, whose name in the list leads here; the account may be gone, and the name erased."""

    title = _("person")
    parameter_name = "person"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        chosen = self.value()
        return [(chosen, gettext("by or about the person with the id %(id)s") % {"id": chosen})] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = (self.value() or "").replace("\0", "")  # PostgreSQL raises an error for NUL in a text
        return queryset.filter(Q(actor_id=chosen) | Q(person_id=chosen)) if chosen else queryset


class AuditEventAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_events)
    deferred = ("api_key__secret",)
    list_display = ("when", "action", "key", "person", "organization_name", "who", "details", "address")
    list_select_related = ("api_key", "organization")
    list_filter = ("action", OrganizationFilter, PersonFilter, ("at", admin.DateFieldListFilter))
    lookups_allowed = frozenset({"at__gte", "at__lt", "api_key__id__exact"})
    search_fields = ("api_key__label", "api_key__hint", "actor_name", "person_name", "organization__display_name")
    search_help_text = _("Label, last four characters, person or organization")
    ordering = ("-at", "-id")
    change_list_template = "admin/partium_auth/auditevent/change_list.html"
    fields = ("when", "action", "organization_name", "key", "person", "details", "who", "address")
    readonly_fields = fields

    def may_see_any(self, request: HttpRequest) -> bool:
        return permissions_of(request).may_enter_key_site

    def may_see(self, request: HttpRequest, obj: Any) -> bool:
        return policy.visible_events(actor_of(request)).filter(pk=obj.pk).exists()

    def get_queryset(self, request: HttpRequest) -> Any:
        # Django requires this for the deferred column of api_key.
        return super().get_queryset(request).select_related(*self.list_select_related)

    @admin.display(description=_("when"), ordering="at")
    def when(self, event: Any) -> str:
        return format_exact_local_time(event.at)

    @admin.display(description=_("key"), ordering="api_key__label")
    def key(self, event: Any) -> str:
        return format_html('<span class="partium-name">{}</span>', event.api_key or "–")

    @admin.display(description=_("detail"))
    def details(self, event: Any) -> str:
        return str(event.get_detail_display())

    @admin.display(description=_("who"), ordering="actor_name")
    def who(self, event: Any) -> str:
        return self._linked(event.actor_id, event.actor_name) or gettext("the system")

    @admin.display(description=_("person concerned"), ordering="person_name")
    def person(self, event: Any) -> str:
        return self._linked(event.person_id, event.person_name)

    def _linked(self, person_id: str, name: str) -> str:
        if not person_id:
            return name
        url = reverse("admin:partium_auth_auditevent_changelist", current_app=self.admin_site.name)
        shown = name or gettext("a person whose name is erased")
        return format_html('<a href="{}?{}"><bdi>{}</bdi></a>', url, urlencode({"person": person_id}), shown)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.csv_view)
        return [path("csv/", view, name="partium_auth_auditevent_csv"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        query = request.GET.urlencode()
        url = reverse("admin:partium_auth_auditevent_csv", current_app=self.admin_site.name)
        return super().changelist_view(
            request, {"csv_url": f"{url}?{query}" if query else url, **(extra_context or {})}
        )

    def csv_view(self, request: HttpRequest) -> HttpResponse:
        """Return the filtered list as CSV in UTF-8."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            events = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:  # as the list itself does
            url = reverse("admin:partium_auth_auditevent_changelist", current_app=self.admin_site.name)
            return HttpResponseRedirect(f"{url}?{ERROR_FLAG}=1")
        response = HttpResponse(
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="events.csv"', "Cache-Control": "no-store"},
        )
        response.write("\ufeff")  # tells spreadsheets that this is UTF-8
        writer = csv.writer(response)
        writer.writerow(COLUMNS)
        for event in events.iterator(chunk_size=1000):
            writer.writerow([_without_formula(cell) for cell in _cells(event)])
        return response


def _cells(event: AuditEvent) -> list[str]:
    key = event.api_key
    return [
        (timezone.localtime(event.at) if timezone.is_aware(event.at) else event.at).isoformat(timespec="seconds"),
        event.action,
        event.organization.org_id if event.organization else "",
        key.label if key else "",
        key.masked if key else "",
        event.detail,
        event.actor_name,
        event.address or "",
        str(key.pk) if key else "",
        event.person_name,
        event.actor_id,
        event.person_id,
    ]


def _without_formula(cell: str) -> str:
    # Spreadsheets run text that begins like a formula, and people write labels and names.
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")) else cell
