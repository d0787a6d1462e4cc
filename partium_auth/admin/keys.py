"""API keys in the admin: the list, adding, rotating, changing, verifying, revoking, and finding by value."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.admin import key_columns
from partium_auth.admin.key_actions import posted_ids, revoke_keys, too_many, verify_keys, what_stops
from partium_auth.admin.key_forms import CANNOT_ENCRYPT, AddForm, ChangeForm, FindForm, NewKeyForm, RotateForm
from partium_auth.admin.organization_choice import OrganizationField, OrganizationFilter
from partium_auth.admin.permissions import PolicyAdmin, actor_of, page_context, permissions_of
from partium_auth.admin.usage_chart import usage_of
from partium_auth.exceptions import EncryptionError
from partium_auth.host.decorators import never_atomic
from partium_auth.host.local_time import format_exact_local_time
from partium_auth.host.posted_secrets import hide_in_urls
from partium_auth.models import ApiKey
from partium_auth.services import keys


class ApiKeyAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_keys)
    deferred = ("secret",)
    list_display = (
        key_columns.name,
        "organization_name",
        key_columns.use,
        key_columns.status_word,
        key_columns.last_used,
        key_columns.last_verified,
        key_columns.expires_in,
        "created_by",
    )
    list_display_links = (key_columns.name,)
    list_select_related = ("created_by",)
    list_filter = (key_columns.StateFilter, OrganizationFilter)
    search_fields = ("label", "hint", "organization__display_name", "organization__org_id")
    search_help_text = _("Label, last four characters, or organization")
    ordering = ("-created_at",)
    form = ChangeForm
    actions = ("verify_selected", "revoke_selected")
    change_list_template = "admin/partium_auth/apikey/change_list.html"
    change_form_template = "admin/partium_auth/apikey/change_form.html"
    readonly_fields: ClassVar[Any] = (
        "organization_name",
        key_columns.partium_id,
        key_columns.token_source,
        key_columns.status_word,
        key_columns.masked_value,
        key_columns.identifier,
        key_columns.last_verified,
        key_columns.last_used,
        "retires_at",
        key_columns.added,
    )
    fieldsets: ClassVar[Any] = ((None, {"fields": ("label", "expires_at")}), (None, {"fields": readonly_fields}))

    # -- who ----------------------------------------------------------------------------------------------------------

    def may_see_any(self, request: HttpRequest) -> bool:
        return permissions_of(request).may_enter_key_site

    def may_see(self, request: HttpRequest, obj: Any) -> bool:
        return permissions_of(request).may_manage_keys(obj.organization_id)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_see_any(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return self.may_see_any(request)
        return obj.status != ApiKey.Status.REVOKED and self.has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        keys_seen: Any = super().get_queryset(request)
        # Not joined: SQLite begins with the organizations then, and sorts the keys of all of them for one page.
        return cast("QuerySet[Any]", keys_seen.with_state().with_use().prefetch_related("organization"))

    # -- URLs ---------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def at(route: str, view: Callable[..., Any], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"{self._prefix}_{name}")

        urls = [
            at("find/", self.find_view, "find"),
            at("verify/", self.verify_view, "verify"),
            at("revoke/", self.revoke_view, "revoke"),
            at("<path:object_id>/rotate/", self.rotate_view, "rotate"),
            *super().get_urls(),
        ]
        return hide_in_urls(urls, "value")

    @property
    def _prefix(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def _url(self, request: HttpRequest, name: str, *args: Any) -> str:
        """Return the URL of a page of keys, from which links and buttons lead back to the list as the person has filtered it."""
        url = reverse(f"admin:{self._prefix}_{name}", args=args, current_app=self.admin_site.name)
        context: Any = {"opts": self.opts, "preserved_filters": self.get_preserved_filters(request)}
        return str(add_preserved_filters(context, url))

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        return TemplateResponse(
            request,
            f"admin/partium_auth/apikey/{template}.html",
            {
                **self.admin_site.each_context(request),
                **page_context(title),
                "opts": self.opts,
                "media": self.media + getattr(context.get("form"), "media", forms.Media()),
                "cancel_url": self._url(request, "changelist"),
                **context,
            },
        )

    # -- add and rotate: Partium is asked, so neither may be inside a transaction ------------------------------------------

    @never_atomic
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        fresh_until = policy.require_fresh_login(actor_of(request))
        organizations = policy.developer_organizations(actor_of(request))
        form = AddForm(OrganizationField(organizations, self, request), request.POST or None)
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            key = self._stored(
                form,
                lambda: keys.add_key(
                    data["organization"],
                    data["value"],
                    label=data["label"],
                    expires_at=data["expires_at"],
                    allow_unverified=data["allow_unverified"],
                    actor=actor_of(request),
                ),
            )
            if key is not None:
                return self._saved(request, key, gettext("The key was added."))
        only = form.fields["organization"].initial  # chosen already, where there is but one
        usable = ApiKey.objects.in_use().defer(*self.deferred).select_related("organization")
        in_use = usable.filter(organization__in=organizations, organization__org_id=only).first() if only else None
        return self._page(
            request,
            "new",
            gettext("Add API key"),
            form=form,
            submit=gettext("Test and add"),
            in_use=in_use,
            fresh_until=fresh_until,
        )

    @never_atomic
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        old = self.seen_object(request, object_id)
        fresh_until = policy.require_fresh_login(actor_of(request))
        if old.status != ApiKey.Status.ACTIVE:
            messages.error(request, gettext("You can only rotate an active key. This key is retiring or revoked."))
            return HttpResponseRedirect(self._url(request, "change", old.pk))
        form = RotateForm(request.POST or None, initial={"label": old.label})
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            new = self._stored(
                form,
                lambda: keys.rotate_key(
                    old,
                    data["value"],
                    label=data["label"],
                    expires_at=data["expires_at"],
                    overlap=dt.timedelta(hours=data["overlap_hours"]),
                    allow_unverified=data["allow_unverified"],
                    actor=actor_of(request),
                ),
            )
            if new is not None:
                unverified = gettext(
                    "The new key was saved. It will be used once it is verified, or if there is no verified key left."
                )
                return self._saved(request, new, gettext("The new key is in use. The old key is retiring."), unverified)
        title = gettext("Rotate %s") % old
        submit, back = gettext("Test and rotate"), self._url(request, "change", old.pk)
        return self._page(
            request, "new", title, form=form, old=old, cancel_url=back, submit=submit, fresh_until=fresh_until
        )

    @staticmethod
    def _stored(form: NewKeyForm, store: Callable[[], ApiKey]) -> ApiKey | None:
        try:
            return store()
        except ValidationError as error:
            form.take_errors(error)
        except EncryptionError:
            form.add_error(None, CANNOT_ENCRYPT)
        return None

    def _saved(self, request: HttpRequest, key: ApiKey, message: str, unverified: str = "") -> HttpResponse:
        if key.verification == ApiKey.Verification.ACCEPTED:
            messages.success(request, message + " " + gettext("Partium accepted it."))
        else:
            text = gettext("Couldn't reach Partium to verify it. Verify it later.")
            messages.warning(request, f"{unverified or message} {text}")
        return HttpResponseRedirect(self._url(request, "change", key.pk))

    # -- detail -------------------------------------------------------------------------------------------------------

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        key = kwargs.get("obj")
        if key is not None:
            events = policy.visible_events(actor_of(request)).filter(api_key=key)
            context.update(
                key=key,
                events=[(format_exact_local_time(event.at), event) for event in events[:20]],
                usage=usage_of(key),
                revoked=key.status == ApiKey.Status.REVOKED,
                rotatable=key.status == ApiKey.Status.ACTIVE,
                rotate_url=self._url(request, "rotate", key.pk),
                verify_url=self._url(request, "verify"),
                revoke_url=self._url(request, "revoke"),
                events_url=self.events_url(key),
                show_save_and_continue=False,
                show_save_and_add_another=False,
            )
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        keys.change_key(obj, label=obj.label, expires_at=obj.expires_at, actor=actor_of(request))

    def events_url(self, obj: Any) -> str:
        url = reverse("admin:partium_auth_auditevent_changelist", current_app=self.admin_site.name)
        return f"{url}?api_key__id__exact={obj.pk}"

    # -- find by value --------------------------------------------------------------------------------------------------

    def find_view(self, request: HttpRequest) -> HttpResponse:
        if not self.may_see_any(request):
            raise PermissionDenied
        form = FindForm(request.POST or None)
        found: list[Any] | None = None
        if request.method == "POST" and form.is_valid():
            try:
                matches = keys.find_by_value(form.cleaned_data["value"], actor=actor_of(request))
            except ValidationError as error:
                form.add_error("value", error.error_dict["value"])
            else:
                found = list(self.get_queryset(request).filter(pk__in=[key.pk for key in matches]))
                found = [
                    (key, key_columns.state_word(key.state), self._url(request, "change", key.pk)) for key in found
                ]
        return self._page(request, "find", gettext("Find a key by its value"), form=form, found=found)

    # -- the selected keys ------------------------------------------------------------------------------------------------

    @never_atomic  # an action asks Partium
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = dict(extra_context or {})
        if not permissions_of(request).sees_several_organizations:
            only = policy.developer_organizations(actor_of(request)).first()
            if only is not None:
                context["title"] = gettext("API keys of %s") % only
        return super().changelist_view(request, context)

    @admin.action(description=_("Verify the selected keys at Partium"), permissions=["view"])
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        chosen = self._with_values(request, queryset.exclude(status=ApiKey.Status.REVOKED))
        if not chosen:
            messages.warning(request, gettext("There is nothing to verify."))
        elif not too_many(request, len(chosen), self.list_max_show_all):
            verify_keys(request, chosen)

    @admin.action(description=_("Revoke the selected keys …"), permissions=["view"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        policy.require_fresh_login(actor_of(request))
        if too_many(request, queryset.count(), self.list_max_show_all):
            return None
        return self._confirm_page(request, queryset)

    @never_atomic
    def verify_view(self, request: HttpRequest) -> HttpResponse:
        """Verify the posted keys."""
        if not self.may_see_any(request):
            raise PermissionDenied
        chosen = self._posted(request)
        verify_keys(request, chosen)
        return HttpResponseRedirect(self._origin(request, chosen))

    @never_atomic
    def revoke_view(self, request: HttpRequest) -> HttpResponse:
        """Ask, then revoke the posted keys."""
        if not self.may_see_any(request):
            raise PermissionDenied
        if request.method == "POST":
            policy.require_fresh_login(actor_of(request))
        chosen = self._posted(request)
        if "confirmed" not in request.POST:
            return self._confirm_page(request, self.get_queryset(request).filter(pk__in=[key.pk for key in chosen]))
        revoke_keys(request, chosen)
        return HttpResponseRedirect(self._origin(request, chosen))

    def _posted(self, request: HttpRequest) -> list[ApiKey]:
        # After a login in between, the browser comes back with a GET: nothing is posted, and the list is shown.
        pks = posted_ids(request)[: self.list_max_show_all]
        return self._with_values(request, policy.visible_keys(actor_of(request)).filter(pk__in=pks))

    def _with_values(self, request: HttpRequest, chosen: QuerySet[Any]) -> list[ApiKey]:
        rows = policy.visible_keys(actor_of(request)).filter(pk__in=chosen.order_by().values("pk"))
        return list(rows.select_related("organization")[: self.list_max_show_all + 1])

    def _origin(self, request: HttpRequest, chosen: list[ApiKey]) -> str:
        one = len(chosen) == 1
        return self._url(request, "change", chosen[0].pk) if one else self._url(request, "changelist")

    def _confirm_page(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        chosen = list(queryset.exclude(status=ApiKey.Status.REVOKED).select_related("organization"))
        if not chosen:
            messages.warning(request, gettext("There is nothing to revoke."))
            return HttpResponseRedirect(self._url(request, "changelist"))
        taking_over, losing = what_stops(chosen)
        return self._page(
            request,
            "revoke",
            ngettext("Revoke this key?", "Revoke these %(count)d keys?", len(chosen)) % {"count": len(chosen)},
            keys=[(key, key_columns.state_word(key.state)) for key in chosen],
            taking_over=taking_over,
            losing=losing,
            pending=",".join(str(key.pk) for key in chosen),
            action=self._url(request, "revoke"),
            cancel_url=self._origin(request, chosen),
        )
