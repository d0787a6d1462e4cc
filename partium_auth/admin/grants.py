"""Grants, for operators: who holds the right to tokens, in what state, and a way to end it. No secrets."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.scope import PolicyAdmin
from partium_auth.models import Grant
from partium_auth.services.grants import revoke_grants


class GrantAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_grants)
    deferred = ("access_token", "refresh_token", "id_token", "session_key", "api_key__secret")
    list_display = ("kind", "holder", "provider", "state", "renewed_at", "created_at")
    list_filter = ("kind",)
    lookups_allowed = frozenset({"kind__exact"})
    ordering = ("-created_at", "-pk")
    actions = ("revoke_selected",)
    fields = (
        "kind",
        "holder",
        "provider",
        "state",
        "failures",
        "authenticated_at",
        "renewed_at",
        "created_at",
        "revoked_at",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("user", "api_key__organization")

    @admin.display(description=_("whose"))
    def holder(self, grant: Grant) -> str:
        key = grant.api_key
        text = f"{key.organization}: {key}" if key else str(grant.user or "–")
        return format_html('<span class="partium-name">{}</span>', text)

    @admin.display(description=_("status"))
    def state(self, grant: Grant) -> str:
        if grant.revoked_at:
            word, color = gettext("revoked"), "revoked"
        elif grant.rejected_at:
            word, color = gettext("rejected"), "failing"
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
        if queryset.filter(revoked_at=None).exclude(api_key=None).exists():
            messages.warning(request, gettext("An API key's grant ends with the key: revoke the key instead."))
        chosen = list(queryset.filter(revoked_at=None, api_key=None))
        count = revoke_grants([grant.pk for grant in chosen], actor=request.user)
        for grant in chosen:
            self.log_change(request, grant, gettext("Revoked."))
        text = ngettext("%(count)d grant was revoked.", "%(count)d grants were revoked.", count) % {"count": count}
        messages.success(request, text)
