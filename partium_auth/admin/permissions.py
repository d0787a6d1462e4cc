"""Asks ``partium_auth/policy.py`` once per request what somebody may do in the admin, and the ``ModelAdmin`` that uses the answers."""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.accounts import sessions
from partium_auth.admin.display import NOTHING
from partium_auth.models import Organization
from partium_auth.policy import SessionActor

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class Permissions:
    """What the person behind a request may do. Kept on the request: an admin page asks dozens of times."""

    def __init__(self, user: Any, actor: SessionActor | None) -> None:
        self.user = user  # of the host's own model, or None
        self.actor = actor
        self._manages_keys: dict[uuid.UUID, bool] = {}
        self._manages_members: dict[uuid.UUID, bool] = {}

    @cached_property
    def is_operator(self) -> bool:
        return self.actor is not None and policy.is_operator(self.actor)

    @cached_property
    def may_enter_key_site(self) -> bool:
        return self.actor is not None and policy.may_enter_key_site(self.actor)

    @cached_property
    def sees_several_organizations(self) -> bool:
        return len(policy.developer_organizations(self.actor).order_by().values_list("pk")[:2]) > 1

    @cached_property
    def manages_members(self) -> bool:
        """Whether they manage the members of any organization."""
        return self.is_operator or (self.may_enter_key_site and policy.member_organizations(self.actor).exists())

    def may_manage_keys(self, organization_id: uuid.UUID) -> bool:
        if organization_id not in self._manages_keys:
            self._manages_keys[organization_id] = self.is_operator or policy.may_manage_keys(
                self.actor, Organization(pk=organization_id)
            )
        return self._manages_keys[organization_id]

    def may_manage_members(self, organization_id: uuid.UUID) -> bool:
        if organization_id not in self._manages_members:
            self._manages_members[organization_id] = self.is_operator or policy.may_manage_members(
                self.actor, Organization(pk=organization_id)
            )
        return self._manages_members[organization_id]


def permissions_of(request: HttpRequest) -> Permissions:
    """Return what the person behind the request may do."""
    permissions = getattr(request, "_partium_permissions", None)
    user = getattr(request, "user", None)
    if permissions is None or permissions.user is not user:
        actor = None if user is None else sessions.actor_of(request)
        permissions = Permissions(user, actor)
        request._partium_permissions = permissions  # type: ignore[attr-defined]
    return permissions


def actor_of(request: HttpRequest) -> SessionActor:
    """Return who acts: the person behind the request, in their session."""
    return permissions_of(request).actor or SessionActor(AnonymousUser(), None)


class PolicyAdmin(ModelAdmin):
    """A ``ModelAdmin`` that asks ``partium_auth.policy`` for every permission, and Django's model permissions for none.

    A staff member without a role sees nothing.
    """

    visible: ClassVar[Any]
    """One of ``policy.visible_…``, wrapped in ``staticmethod``."""
    deferred: ClassVar[tuple[str, ...]] = ()
    """Columns that are not read from the database: the sealed ones."""
    lookups_allowed: ClassVar[frozenset[str]] = frozenset()
    """Look-ups allowed in a list's query string beside its filters: with others one could guess hidden values."""

    opens_after_add: ClassVar[bool] = False
    """Whether an added object's own page follows, because there is more to do with it, instead of the list."""

    empty_value_display = NOTHING
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    show_add_link = True  # django-unfold asks for it

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("partium_auth/admin.css",)}
        js: ClassVar[tuple[str, ...]] = ("partium_auth/copy.js",)

    def may_see_any(self, request: HttpRequest) -> bool:
        """Return whether the person sees objects of this model at all."""
        return permissions_of(request).is_operator

    def may_see(self, request: HttpRequest, obj: Any) -> bool:
        """Return whether the person sees this object."""
        return permissions_of(request).is_operator

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = type(self).visible(actor_of(request)).defer(*self.deferred)
        ordering = self.get_ordering(request)
        return rows.order_by(*ordering) if ordering else rows

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        of_filters = (
            f"{choice}__exact" if isinstance(choice, str) else getattr(choice, "parameter_name", None)
            for choice in self.list_filter
        )
        return lookup in {*self.lookups_allowed, *of_filters}

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        if self.opens_after_add and "_addanother" not in request.POST:
            posted = request.POST.copy()
            posted["_continue"] = "1"
            request.POST = posted  # type: ignore[assignment]
        return super().response_add(request, obj, post_url_continue)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns: list[Any] = list(super().get_list_display(request))
        if "organization_name" in columns and not permissions_of(request).sees_several_organizations:
            columns.remove("organization_name")
        return columns

    @admin.display(description=_("organization"), ordering="organization__display_name")
    def organization_name(self, obj: Any) -> str:
        # A method, because Django makes a link of a foreign key, to a page that developers may not open.
        return str(obj.organization or "–")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def log_addition(self, *args: Any, **kwargs: Any) -> Any:
        """Write no entry of Django's log: the service has recorded an event, and erasure and retention know events only."""

    log_change = log_deletions = log_addition

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show the events: Django's log has no entries."""
        return HttpResponseRedirect(self.events_url(self.seen_object(request, object_id)))

    def events_url(self, obj: Any) -> str:
        """Return the URL of the events of an object's organization and person, as far as it has them."""
        organization_id = obj.pk if isinstance(obj, Organization) else getattr(obj, "organization_id", None)
        chosen = {"organization": organization_id, "person": getattr(obj, "user_id", None)}
        url = reverse("admin:partium_auth_auditevent_changelist", current_app=self.admin_site.name)
        return f"{url}?{urlencode({name: str(value) for name, value in chosen.items() if value is not None})}"

    def seen_object(self, request: HttpRequest, object_id: str) -> Any:
        """Return the object that a URL names. Raises Http404 or PermissionDenied."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.may_see_any(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may_see_any(request) and (obj is None or self.may_see(request, obj))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def page_context(title: str) -> dict[str, Any]:
    """Return what Django's own breadcrumbs need on a page of ours: they end with the title."""
    return {"title": title, "original": title, "has_view_permission": True}
