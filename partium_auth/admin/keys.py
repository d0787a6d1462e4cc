"""API keys in the admin: list, add, detail, verify, rotate, revoke, find by value."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from partium_auth import policy
from partium_auth.admin.key_forms import CANNOT_ENCRYPT, AddForm, ChangeForm, FindForm, NewKeyForm, RotateForm
from partium_auth.admin.moments import NOTHING, ago, moment
from partium_auth.admin.scope import OrganizationFilter, PolicyAdmin, scope_of
from partium_auth.admin.usage import usage_of
from partium_auth.exceptions import EncryptionError
from partium_auth.host.decorators import never_atomic
from partium_auth.models import ApiKey, Organization
from partium_auth.models.keys import ApiKeyState
from partium_auth.services import keys

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

RUN_SECONDS = 4.0
"""A long action answers after this and goes on with the next request, so that no proxy or worker loses patience."""

SHOWN_WHILE_RUNNING = 100
"""So many results are on the page of a long action that goes on; all of them are on the last one."""

VERIFICATION_WORDS = {
    ApiKey.Verification.ACCEPTED: _("accepted"),
    ApiKey.Verification.REJECTED: _("rejected"),
    ApiKey.Verification.WRONG_ORGANIZATION: _("belongs to another organization"),
    ApiKey.Verification.UNVERIFIED: _("no answer"),
}


class StateFilter(admin.SimpleListFilter):
    title = _("status")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, StrOrPromise]]:
        return list(ApiKeyState.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return cast("QuerySet[Any]", queryset)
        keys_seen = queryset.in_state(chosen) if chosen in ApiKeyState.values else queryset.none()
        return cast("QuerySet[Any]", keys_seen)


def state_word(state: str) -> str:
    """Return a key's state as a colored word."""
    return format_html('<span class="partium-state partium-{}">{}</span>', state, ApiKeyState(state).label)


class ApiKeyAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_keys)
    deferred = ("secret",)
    list_display = ("name", "organization_name", "status_word", "used", "came_back", "ends", "created_by")
    list_display_links = ("name",)
    list_select_related = ("created_by",)
    list_filter = (StateFilter, OrganizationFilter)
    search_fields = ("label", "hint", "organization__display_name", "organization__org_id")
    search_help_text = _("Label, last four characters, or organization")
    ordering = ("-created_at",)
    form = ChangeForm
    actions = ("verify_selected", "revoke_selected")
    change_list_template = "admin/partium_auth/apikey/change_list.html"
    change_form_template = "admin/partium_auth/apikey/change_form.html"
    fieldsets = (
        (None, {"fields": ("label", "expires_at")}),
        (
            None,
            {
                "fields": (
                    "organization_name",
                    "status_word",
                    "masked_value",
                    "came_back",
                    "used",
                    "serves_until",
                    "added",
                )
            },
        ),
    )
    readonly_fields = ("organization_name", "status_word", "masked_value", "came_back", "used", "serves_until", "added")

    # -- who ----------------------------------------------------------------------------------------------------------

    def enters(self, request: HttpRequest) -> bool:
        return scope_of(request).enters

    def sees(self, request: HttpRequest, obj: Any) -> bool:
        return scope_of(request).keeps(obj.organization_id)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.enters(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return self.enters(request)
        return obj.status != ApiKey.Status.REVOKED and self.has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        keys_seen: Any = super().get_queryset(request)
        # Not joined: SQLite begins with the organizations then, and sorts the keys of all of them for one page.
        return cast("QuerySet[Any]", keys_seen.with_state().prefetch_related("organization"))

    # -- what a list shows --------------------------------------------------------------------------------------------

    @admin.display(description=_("key"), ordering="label")
    def name(self, key: Any) -> str:
        return format_html(
            '<span class="partium-name">{} <span class="partium-hint">{}</span></span>', key.label, key.masked
        )

    @admin.display(description=_("status"), ordering="state")
    def status_word(self, key: Any) -> str:
        return state_word(key.state)

    @admin.display(description=_("last used"), ordering="last_used_at")
    def used(self, key: Any) -> str:
        return ago(key.last_used_at)

    @admin.display(description=_("last verified"), ordering="verified_at")
    def came_back(self, key: Any) -> str:
        if key.verified_at is None:
            return NOTHING
        word = VERIFICATION_WORDS[ApiKey.Verification(key.verification)]
        return format_html("{}, {}", word, ago(key.verified_at))

    @admin.display(description=_("expires in"), ordering="expires_at")
    def ends(self, key: Any) -> str:
        now = timezone.now()
        end = key.ends_at
        if key.status == ApiKey.Status.REVOKED or end is None:
            return NOTHING
        if end <= now:
            return format_html("<s>{}</s>", moment(end))
        return format_html(
            '<span class="partium-nowrap" title="{}">{}</span>', moment(end), timeuntil(end, now, depth=1)
        )

    @admin.display(description=_("key"))
    def masked_value(self, key: Any) -> str:
        return str(key.masked) if key.status != ApiKey.Status.REVOKED else gettext("erased; it was %s") % key.masked

    @admin.display(description=_("serves until"))
    def serves_until(self, key: Any) -> str:
        return moment(key.retires_at)

    @admin.display(description=_("added"))
    def added(self, key: Any) -> str:
        at = moment(key.created_at)
        return gettext("%(at)s by %(who)s") % {"at": at, "who": key.created_by} if key.created_by else at

    # -- URLs ---------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def at(route: str, view: Callable[..., Any], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"{self._prefix}_{name}")

        return [
            at("find/", self.find_view, "find"),
            at("verify/", self.verify_view, "verify"),
            at("revoke/", self.revoke_view, "revoke"),
            at("<path:object_id>/rotate/", self.rotate_view, "rotate"),
            *super().get_urls(),
        ]

    @property
    def _prefix(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def _url(self, name: str, *args: Any) -> str:
        return reverse(f"admin:{self._prefix}_{name}", args=args, current_app=self.admin_site.name)

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        return TemplateResponse(
            request,
            f"admin/partium_auth/apikey/{template}.html",
            {
                **self.admin_site.each_context(request),
                "title": title,
                "opts": self.opts,
                "media": self.media + getattr(context.get("form"), "media", forms.Media()),
                "list_url": self._url("changelist"),
                **context,
            },
        )

    def _key(self, request: HttpRequest, object_id: str) -> Any:
        key = self.get_object(request, unquote(object_id))
        if key is None:
            raise Http404
        if not self.has_view_permission(request, key):
            raise PermissionDenied
        return key

    # -- add and rotate: Partium is asked, so neither may be inside a transaction ------------------------------------------

    @never_atomic
    @method_decorator(sensitive_post_parameters("value"))
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        organizations = policy.developer_organizations(request.user)
        form = AddForm(organizations, request.POST or None)
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            key = self._stored(
                form,
                lambda: keys.add_key(
                    data["organization"],
                    data["value"].reveal(),
                    label=data["label"],
                    expires_at=data["expires_at"],
                    allow_unverified=data["allow_unverified"],
                    actor=request.user,
                    address=address_of(request),
                ),
            )
            if key is not None:
                self.log_addition(request, key, [{"added": {}}])
                return self._saved(request, key, gettext("The key was added."))
        return self._page(request, "new", gettext("Add API key"), form=form, submit=gettext("Try and add"))

    @never_atomic
    @method_decorator(sensitive_post_parameters("value"))
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        old = self._key(request, object_id)
        if old.status != ApiKey.Status.ACTIVE:
            messages.error(request, gettext("Only an active key can be rotated; this one is retiring or revoked."))
            return HttpResponseRedirect(self._url("change", old.pk))
        form = RotateForm(request.POST or None, initial={"label": old.label})
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            new = self._stored(
                form,
                lambda: keys.rotate_key(
                    old,
                    data["value"].reveal(),
                    label=data["label"],
                    expires_at=data["expires_at"],
                    overlap=dt.timedelta(hours=data["overlap_hours"]),
                    allow_unverified=data["allow_unverified"],
                    actor=request.user,
                    address=address_of(request),
                ),
            )
            if new is not None:
                self.log_addition(request, new, gettext("Rotated in for %s.") % old)
                self.log_change(request, old, gettext("Rotated out for %s.") % new)
                unverified = gettext(
                    "The new key was stored. It serves once it is verified, or when no verified key is left."
                )
                return self._saved(request, new, gettext("The new key serves; the old one is retiring."), unverified)
        title = gettext("Rotate %s") % old
        return self._page(request, "new", title, form=form, original=old, submit=gettext("Try and rotate"))

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
            text = gettext("Partium could not be asked about it: verify it later.")
            messages.warning(request, f"{unverified or message} {text}")
        return HttpResponseRedirect(self._url("change", key.pk))

    # -- detail -------------------------------------------------------------------------------------------------------

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        key = kwargs.get("obj")
        if key is not None:
            events = policy.visible_events(request.user).filter(api_key=key)
            context.update(
                key=key,
                events=list(events[:20]),
                usage=usage_of(key),
                revoked=key.status == ApiKey.Status.REVOKED,
                rotatable=key.status == ApiKey.Status.ACTIVE,
                rotate_url=self._url("rotate", key.pk),
                verify_url=self._url("verify"),
                revoke_url=self._url("revoke"),
                events_url=reverse("admin:partium_auth_apikeyevent_changelist", current_app=self.admin_site.name)
                + f"?api_key__id__exact={key.pk}",
                show_save_and_continue=False,
                show_save_and_add_another=False,
            )
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        keys.change_key(
            obj, label=obj.label, expires_at=obj.expires_at, actor=request.user, address=address_of(request)
        )

    # -- find by value --------------------------------------------------------------------------------------------------

    @method_decorator(sensitive_post_parameters("value"))
    def find_view(self, request: HttpRequest) -> HttpResponse:
        if not self.enters(request):
            raise PermissionDenied
        form = FindForm(request.POST or None)
        found: list[Any] | None = None
        if request.method == "POST" and form.is_valid():
            try:
                matches = keys.find_by_value(form.cleaned_data["value"].reveal(), actor=request.user)
            except ValidationError as error:
                form.add_error("value", error.error_dict["value"])
            else:
                found = list(self.get_queryset(request).filter(pk__in=[key.pk for key in matches]))
                found = [(key, state_word(key.state), self._url("change", key.pk)) for key in found]
        return self._page(request, "find", gettext("Find a key by its value"), form=form, found=found)

    # -- many keys: as far as a few seconds go, then the next request -------------------------------------------------------

    @admin.action(description=_("Verify the selected keys at Partium"), permissions=["view"])
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        pending = list(queryset.exclude(status=ApiKey.Status.REVOKED).values_list("pk", flat=True))
        if not pending:
            messages.warning(request, gettext("There is nothing to verify."))
            return None
        return self._run_page(request, "verify", pending, [])

    @admin.action(description=_("Revoke the selected keys …"), permissions=["view"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._confirm_page(request, list(queryset.values_list("pk", flat=True)))

    @never_atomic
    def verify_view(self, request: HttpRequest) -> HttpResponse:
        """Verify the posted keys."""

        def verify(key: Any) -> str:
            outcome = keys.verify_key(key, actor=request.user, address=address_of(request))
            self.log_change(request, key, gettext("Verified: %s") % outcome.describe())
            return outcome.verification.value

        return self._run(request, "verify", verify)

    @never_atomic
    def revoke_view(self, request: HttpRequest) -> HttpResponse:
        """Ask, then revoke the posted keys."""
        if request.method == "POST" and "confirmed" not in request.POST:
            return self._confirm_page(request, _ids(request.POST.get("keys", "")))

        def revoke(key: Any) -> str:
            keys.revoke_key(key, actor=request.user, address=address_of(request))
            self.log_change(request, key, gettext("Revoked."))
            return "revoked"

        return self._run(request, "revoke", revoke)

    def _run(self, request: HttpRequest, what: str, act: Callable[[Any], str]) -> HttpResponse:
        if not self.enters(request):
            raise PermissionDenied
        if request.method != "POST":  # who had to log in again meanwhile comes back with a GET
            return HttpResponseRedirect(self._url("changelist"))
        pending = _ids(request.POST.get("keys", ""))
        done = _results(request.POST.get("done", ""))
        started = time.monotonic()
        while pending:
            # With its value; looked up again each time, because what one may do can end while the page goes on.
            key = policy.visible_keys(request.user).select_related("organization").filter(pk=pending[0]).first()
            if key is not None:
                try:
                    done.append((pending[0], act(key)))
                except (ValidationError, EncryptionError):
                    done.append((pending[0], "failed"))  # the others are still done
            pending.pop(0)
            if time.monotonic() - started >= RUN_SECONDS:
                break
        if not pending and len(done) == 1 and request.POST.get("single"):
            self._tell(request, *done[0])
            return HttpResponseRedirect(self._url("change", done[0][0]))
        return self._run_page(request, what, pending, done)

    def _tell(self, request: HttpRequest, pk: uuid.UUID, result: str) -> None:
        level = {"accepted": messages.SUCCESS, "revoked": messages.SUCCESS, "unverified": messages.WARNING}
        messages.add_message(request, level.get(result, messages.ERROR), RESULTS[result])

    def _run_page(
        self, request: HttpRequest, what: str, pending: list[uuid.UUID], done: list[tuple[uuid.UUID, str]]
    ) -> HttpResponse:
        shown = done[-SHOWN_WHILE_RUNNING:] if pending else done
        known = {key.pk: key for key in self.get_queryset(request).filter(pk__in=[pk for pk, _result in shown])}
        title = gettext("Verifying keys") if what == "verify" else gettext("Revoking keys")
        return self._page(
            request,
            "run",
            title,
            action=self._url(what),
            what=what,
            pending=",".join(map(str, pending)),
            pending_count=len(pending),
            done_count=len(done),
            total=len(pending) + len(done),
            done=json.dumps([[str(pk), result] for pk, result in done]),
            results=[
                (known[pk], self._url("change", pk), result, RESULTS[result]) for pk, result in shown if pk in known
            ],
        )

    def _confirm_page(self, request: HttpRequest, pks: list[uuid.UUID]) -> HttpResponse:
        if not self.enters(request):
            raise PermissionDenied
        rows = self.get_queryset(request).filter(pk__in=pks).exclude(status=ApiKey.Status.REVOKED)
        chosen = list(rows.select_related("organization"))
        if not chosen:
            messages.warning(request, gettext("There is nothing to revoke."))
            return HttpResponseRedirect(self._url("changelist"))
        serving, losing = _what_stops(chosen)
        return self._page(
            request,
            "revoke",
            ngettext("Revoke this key?", "Revoke these %(count)d keys?", len(chosen)) % {"count": len(chosen)},
            keys=[(key, state_word(key.state)) for key in chosen],
            serving=serving,
            losing=losing,
            pending=",".join(str(key.pk) for key in chosen),
            single=len(chosen) == 1,
            action=self._url("revoke"),
        )


RESULTS = {
    "accepted": _("Partium accepted it."),
    "rejected": _("Partium does not accept it any more: create a new key at Partium and rotate."),
    "wrong_organization": _("It belongs to another organization: create one for this organization at Partium."),
    "unverified": _("Partium could not be reached. What was known of the key before stays."),
    "revoked": _("Revoked. Its value is erased."),
    "failed": _("This did not work: the key is revoked already, or its stored value does not open."),
}


def address_of(request: HttpRequest) -> str | None:
    """Return where a request comes from, as far as Django knows. Behind a proxy that is for the site to set right."""
    address: str | None = request.META.get("REMOTE_ADDR")
    return address


def _what_stops(chosen: list[Any]) -> tuple[bool, list[tuple[Organization, bool]]]:
    """Return whether any of these keys serves now or could, and which organizations lose their last usable one.

    Of each organization, whether people's searches depend on its keys.
    """
    organizations = {key.organization_id: key.organization for key in chosen}
    usable = ApiKey.objects.usable().filter(organization__in=organizations).order_by()
    pks = {key.pk for key in chosen}
    ending: set[uuid.UUID] = set()
    staying: set[uuid.UUID] = set()
    for pk, organization_id in usable.values_list("pk", "organization_id"):
        (ending if pk in pks else staying).add(organization_id)
    return bool(ending), [
        (organization, organization.token_source != Organization.TokenSource.USER)
        for pk, organization in organizations.items()
        if pk in ending - staying
    ]


def _ids(text: str) -> list[uuid.UUID]:
    found = []
    for part in text.split(","):
        try:
            found.append(uuid.UUID(part.strip()))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def _results(text: str) -> list[tuple[uuid.UUID, str]]:
    # The page hands back what it was told; it shows words of ours only.
    try:
        return [(uuid.UUID(pk), result) for pk, result in json.loads(text or "[]") if result in RESULTS]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return []
