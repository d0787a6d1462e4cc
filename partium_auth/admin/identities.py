"""Identities, for operators: who a person is at an identity provider, and connecting one to another person."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.display import ago
from partium_auth.admin.members import PersonField
from partium_auth.admin.permissions import PolicyAdmin, actor_of
from partium_auth.models import Identity
from partium_auth.services import identities
from partium_auth.services.members import naming_columns


class IdentityForm(forms.ModelForm):  # type: ignore[type-arg]
    person = PersonField()

    class Meta:
        model = Identity
        fields = ()


class IdentityAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_identities)
    form = IdentityForm
    list_display = ("subject_name", "issuer", "user_name", "last_login")
    list_display_links = ("subject_name",)
    list_select_related = ("user",)
    search_fields = ("subject",)  # and what get_search_results() looks up
    search_help_text = _("Subject, or the beginning of a user name or e-mail address")
    ordering = ("-created_at", "-pk")
    readonly_fields = ("issuer", "subject_name", "created_at", "last_login")
    fields = ("issuer", "subject_name", "person", "created_at", "last_login")

    has_change_permission = has_delete_permission = PolicyAdmin.has_view_permission

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(Q(subject=term) | person_begins_with(term, "user__")), False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        if obj is not None:
            form.base_fields["person"].initial = obj.user.get_username()
        return form

    @admin.display(description=_("subject"), ordering="subject")
    def subject_name(self, identity: Identity) -> str:
        return format_html('<bdi class="partium-name">{}</bdi>', identity.subject)

    @admin.display(description=_("person"))
    def user_name(self, identity: Identity) -> str:
        return str(identity.user)

    @admin.display(description=_("last login"), ordering="last_login_at")
    def last_login(self, identity: Identity) -> str:
        return ago(identity.last_login_at)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        identities.connect_identity(obj, form.cleaned_data["person"], actor=actor_of(request))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        identities.disconnect_identity(obj, actor=actor_of(request))


def person_begins_with(term: str, prefix: str = "") -> Q:
    """Return the condition that a person's user name or e-mail address begins with ``term``.

    ``prefix`` is the path to the user, such as ``user__``.
    """
    return reduce(or_, (Q(**{f"{prefix}{name}__istartswith": term}) for name in naming_columns()))
