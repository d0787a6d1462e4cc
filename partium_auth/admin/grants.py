"""Grants, for operators: whose they are, their state, and an action that revokes them. No secrets are shown."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.display import NOTHING, moment
from partium_auth.admin.identities import person_begins_with
from partium_auth.admin.permissions import PolicyAdmin, actor_of
from partium_auth.models import ApiKey, Grant
from partium_auth.services.grants import revoke_grants

if TYPE_CHECKING:
    GrantPaginator = Paginator[Grant]
else:
    GrantPaginator = Paginator

SHOWN = 10_000
"""The list goes no further than this: counting a million rows takes longer than the page may."""


FOUND = 200
"""A search looks at the grants of at most so many people and keys."""


class FirstGrants(GrantPaginator):
    """Pages of the first :data:`SHOWN` grants."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:SHOWN].count())


class GrantList(ChangeList):
    """A list that is sorted by an index only, whatever the query string asks for."""

    def get_ordering_field(self, field_name: Any) -> Any:
        return super().get_ordering_field(field_name) if field_name in (self.sortable_by or ()) else None


class GrantAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_grants)
    deferred = ("access_token", "refresh_token", "id_token", "session_key", "api_key__secret")
    list_display = ("kind", "holder", "provider", "state", "refreshed_at", "created_at")
    list_filter = ("kind",)
    ordering = ("-created_at", "-pk")
    sortable_by = ("created_at",)  # what an index sorts
    search_fields = ("provider",)  # and what get_search_results() looks up first
    search_help_text = _("Beginning of a user name or e-mail address, identity provider, or organization")
    show_facets = admin.ShowFacets.NEVER
    paginator = FirstGrants
    actions = ("revoke_selected",)
    fields = (
        "kind",
        "holder",
        "provider",
        "state",
        "failures",
        "authenticated",
        "refreshed_at",
        "created_at",
        "revoked_at",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("user", "api_key__organization")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return GrantList

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Find grants of people, of a provider, and of the keys of an organization.

        People and keys are found first: joined to a million grants, no index would help.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        users = get_user_model()._default_manager.filter(person_begins_with(term))
        people = list(users.values_list("pk", flat=True)[:FOUND])
        of_organization = Q(organization__org_id=term) | Q(organization__display_name__istartswith=term)
        keys = list(ApiKey.objects.filter(of_organization).order_by().values_list("pk", flat=True)[:FOUND])
        return queryset.filter(Q(user__in=people) | Q(api_key__in=keys) | Q(provider=term)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and context["cl"].result_count == SHOWN:
            context["title"] = gettext("The first %(count)d grants") % {"count": SHOWN}
        return response

    @admin.display(description=_("logged in"))
    def authenticated(self, grant: Grant) -> str:
        at = grant.authenticated_at
        return moment(None if at is None else dt.datetime.fromtimestamp(at, tz=dt.UTC))

    @admin.display(description=_("whose"))
    def holder(self, grant: Grant) -> str:
        key = grant.api_key
        text = f"{key.organization}: {key}" if key else str(grant.user or NOTHING)
        return format_html('<bdi class="partium-name">{}</bdi>', text)

    @admin.display(description=_("status"))
    def state(self, grant: Grant) -> str:
        if grant.revoked_at:
            word, color = gettext("revoked"), "revoked"
        elif grant.rejected_at:
            word, color = gettext("rejected"), "failing"
        elif grant.api_key and grant.api_key.has_ended:
            word, color = gettext("expired"), "expired"
        elif grant.failures:
            word, color = gettext("failing"), "expiring"
        else:
            word, color = gettext("live"), "active"
        return format_html('<span class="partium-state partium-{}">{}</span>', color, word)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Deleting an account asks this for the rows that go with it. There is no button: revoking is what ends a grant.
        match = request.resolver_match
        own = match is not None and str(match.url_name).startswith("partium_auth_grant_")
        return self.has_view_permission(request, obj) and not own

    @admin.action(description=_("Revoke the selected grants"), permissions=["view"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # "Select all" means those that the list goes through.
        queryset = Grant.objects.filter(pk__in=list(queryset.values_list("pk", flat=True)[:SHOWN]))
        if queryset.filter(revoked_at=None).exclude(api_key=None).exists():
            messages.warning(request, gettext("An API key's grant ends with the key: revoke the key instead."))
        chosen = list(queryset.filter(revoked_at=None, api_key=None))
        ids = [grant.pk for grant in chosen]
        count = revoke_grants(ids, actor=actor_of(request))
        text = ngettext("%(count)d grant was revoked.", "%(count)d grants were revoked.", count) % {"count": count}
        messages.success(request, text)
