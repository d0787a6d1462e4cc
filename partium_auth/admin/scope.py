"""The policy's answers for one request, asked once, and the ``ModelAdmin`` whose every permission comes from them."""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.models import Organization

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

LONGEST_SEARCH = 1000
"""In characters. Each word is a condition, and databases take so many."""

MANY = 50
"""From so many organizations on, a select box is no help: people search or type instead."""


class Scope:
    """What the person behind a request may do. Kept on the request, since an admin page asks dozens of times."""

    def __init__(self, user: Any) -> None:
        self.user = user
        self._keeps: dict[uuid.UUID, bool] = {}
        self._manages: dict[uuid.UUID, bool] = {}

    @cached_property
    def operates(self) -> bool:
        return self.user is not None and policy.is_operator(self.user)

    @cached_property
    def enters(self) -> bool:
        return self.user is not None and policy.may_enter_key_site(self.user)

    @cached_property
    def organizations(self) -> int:
        """How many organizations they see; from 2 on it is not counted further."""
        return len(policy.visible_organizations(self.user).order_by().values_list("pk")[:2])

    @cached_property
    def invites(self) -> bool:
        return self.operates or (self.enters and policy.member_organizations(self.user).exists())

    def keeps(self, organization_id: uuid.UUID) -> bool:
        """Whether they keep this organization's keys."""
        if organization_id not in self._keeps:
            self._keeps[organization_id] = self.operates or policy.may_manage_keys(
                self.user, Organization(pk=organization_id)
            )
        return self._keeps[organization_id]

    def manages(self, organization_id: uuid.UUID) -> bool:
        """Whether they manage this organization's members."""
        if organization_id not in self._manages:
            self._manages[organization_id] = self.operates or policy.may_manage_members(
                self.user, Organization(pk=organization_id)
            )
        return self._manages[organization_id]


def scope_of(request: HttpRequest) -> Scope:
    """Return the request's scope."""
    scope = getattr(request, "_partium_scope", None)
    user = getattr(request, "user", None)
    if scope is None or scope.user is not user:
        scope = Scope(user)
        request._partium_scope = scope  # type: ignore[attr-defined]
    return scope


class PolicyAdmin(ModelAdmin):
    """A ``ModelAdmin`` that shows what :attr:`visible` returns, and allows what its subclass says, to nobody else.

    Django's model permissions are not asked: a staff member without a role sees nothing.
    """

    visible: ClassVar[Any]
    """``policy.visible_…``; wrap in ``staticmethod``."""
    deferred: ClassVar[tuple[str, ...]] = ()
    """Columns that lists and pages have no use for: the sealed ones."""
    lookups_allowed: ClassVar[frozenset[str]] = frozenset()
    """What may be asked in a list's query string beside its filters; a free look-up is an oracle."""

    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    show_add_link = True  # django-unfold asks for it

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("partium_auth/admin.css",)}

    def enters(self, request: HttpRequest) -> bool:
        """Whether somebody sees this kind of thing at all."""
        return scope_of(request).operates

    def sees(self, request: HttpRequest, obj: Any) -> bool:
        """Whether somebody sees this object."""
        return scope_of(request).operates

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = type(self).visible(request.user).defer(*self.deferred)
        ordering = self.get_ordering(request)
        return rows.order_by(*ordering) if ordering else rows

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in self.lookups_allowed or any(
            lookup == getattr(choice, "parameter_name", None) for choice in self.list_filter
        )

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns: list[Any] = list(super().get_list_display(request))
        if "organization_name" in columns and scope_of(request).organizations < 2:
            columns.remove("organization_name")
        return columns

    @admin.display(description=_("organization"), ordering="organization__display_name")
    def organization_name(self, obj: Any) -> str:
        # A method, because Django makes a link of a foreign key, to a page that developers may not open.
        return str(obj.organization)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        # Django shows the list without what was asked where that makes no sense, but notices only some of it.
        asked = [value for _name, values in request.GET.lists() for value in values]
        if any("\0" in value for value in asked) or len(request.GET.get(SEARCH_VAR, "")) > LONGEST_SEARCH:
            raise IncorrectLookupParameters
        try:
            return super().get_changelist_instance(request)
        except OverflowError:  # a date that Python cannot put into another time zone
            raise IncorrectLookupParameters from None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # Django takes this name in a POST for "make a new one" even where the button is not offered.
        if "_saveasnew" in request.POST:
            raise BadRequest("Nothing here is saved as new.")
        return super().changeform_view(request, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        # Django looks for what was posted without checking that it could be a key of this table.
        try:
            for pk in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(pk)
        except ValidationError:
            raise BadRequest("Not the primary key of such a thing.") from None
        return super().response_action(request, queryset, *args, **kwargs)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.enters(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.enters(request) and (obj is None or self.sees(request, obj))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class OrganizationFilter(admin.SimpleListFilter):
    """The organizations that somebody sees; not offered where those are one, or too many to list."""

    title = _("organization")
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        organizations = policy.visible_organizations(request.user)
        listed = list(organizations[: MANY + 1])
        if len(listed) > MANY:
            # Found by searching the list, or linked to from the overview; then it can at least be taken away again.
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
    """One of the organizations somebody may choose: a select box for a few, the organization's id for many."""

    def __init__(self, organizations: QuerySet[Organization], **kwargs: Any) -> None:
        few = list(organizations[: MANY + 1])
        kwargs.setdefault("label", _("Organization"))
        if len(few) > MANY:
            kwargs.setdefault("help_text", _("Partium's id of the organization, such as acme."))
            super().__init__(organizations, to_field_name="org_id", widget=forms.TextInput, **kwargs)
        else:
            only = few[0].org_id if len(few) == 1 else None
            super().__init__(
                organizations, to_field_name="org_id", initial=only, empty_label=None if only else "---------", **kwargs
            )
