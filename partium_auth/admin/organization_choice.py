"""Choosing an organization in the admin: the filter of a list, the field of a form."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin.permissions import actor_of, permissions_of
from partium_auth.models import Organization

MANY = 50
"""With more organizations than this, people search or type instead of selecting."""


class OrganizationFilter(admin.SimpleListFilter):
    """A filter by the organizations that the person sees; not offered for one organization, or for too many to list."""

    title = _("organization")
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        organizations = policy.developer_organizations(actor_of(request))
        listed = list(organizations[: MANY + 1])
        if len(listed) > MANY:
            # The overview links to the keys of one organization: list that one, so that the filter can be removed.
            listed = list(organizations.filter(pk=chosen)) if (chosen := self._chosen()) else []
        elif len(listed) == 1 and not self.value():
            listed = []
        return [(str(organization.pk), str(organization)) for organization in listed]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        chosen = self._chosen()
        return queryset.filter(organization_id=chosen) if chosen else queryset.none()

    def has_output(self) -> bool:
        return bool(self.lookup_choices) or self.value() is not None

    def _chosen(self) -> uuid.UUID | None:
        try:
            return uuid.UUID(self.value() or "")
        except ValueError:
            return None


class OrganizationField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A field for one of the organizations: a select box for up to 50.

    Above that operators search, and others type Partium's id: they have no page of organizations to search in.
    """

    def __init__(self, organizations: QuerySet[Organization], model_admin: Any, request: HttpRequest) -> None:
        few = list(organizations[: MANY + 1])
        options: dict[str, Any] = {"to_field_name": "org_id"}
        if len(few) > MANY and permissions_of(request).is_operator:
            widget = AutocompleteSelect(model_admin.opts.get_field("organization"), model_admin.admin_site)
            options = {"widget": widget}
        elif len(few) > MANY:
            options |= {"help_text": _("Partium's id of the organization, such as acme."), "widget": forms.TextInput}
        elif len(few) == 1:
            options |= {"initial": few[0].org_id, "empty_label": None}
        super().__init__(organizations, label=_("Organization"), **options)
