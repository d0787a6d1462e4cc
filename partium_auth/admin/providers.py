"""Identity providers and their e-mail domains, for operators only: the server fetches their URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.accounts.registration import check_urls, urls_to_register
from partium_auth.admin.confirmation import ConfirmedForm
from partium_auth.admin.display import NOTHING, copyable, moment
from partium_auth.admin.permissions import PolicyAdmin, actor_of, page_context, permissions_of
from partium_auth.exceptions import PartiumError
from partium_auth.fields import MASK
from partium_auth.host.decorators import never_atomic
from partium_auth.host.posted_secrets import SecretField, hide_in_urls
from partium_auth.models import EmailDomain, IdentityProvider
from partium_auth.oidc import client_keys
from partium_auth.oidc.metadata import is_secure
from partium_auth.oidc.provider import ASYMMETRIC_ALGORITHMS, ENDPOINTS, PRIVATE_KEY_JWT
from partium_auth.oidc.providers import from_row
from partium_auth.services.client_keys import create_client_key
from partium_auth.services.provider_check import check_issuer, check_provider
from partium_auth.services.providers import (
    delete_provider,
    is_used,
    record_change,
    save_provider,
    validate_client_secret,
    validate_slug_and_issuer,
)

LEVELS = {"ok": ("active", _("good")), "warning": ("expiring", _("look at this")), "error": ("failing", _("wrong"))}


SHORT_NAME = "SHORT-NAME"
"""Stands in a provider's URLs until its short name is typed; ``copy.js`` knows it."""


class AlgorithmsField(forms.MultipleChoiceField):
    """Names that are stored in one text, separated by spaces."""

    def prepare_value(self, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    def clean(self, value: Any) -> Any:
        return " ".join(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed((initial or "").split(), data)


_CHANGED_URLS = _(
    "If you change a URL here, the issuer or the organization, you have to enter the client secret again, and everybody who "
    "logged in through this provider is logged out."
)


class ProviderForm(ConfirmedForm):
    signing_algorithms = AlgorithmsField(
        label=_("Signing algorithms"),
        required=False,
        choices=[(name, name) for name in ASYMMETRIC_ALGORITHMS],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Choose the algorithms that ID tokens may be signed with. Choose none to allow all of these."),
    )
    new_client_secret = SecretField(
        label=_("Client secret"),
        required=False,
        help_text=_("Leave this empty to keep the stored secret. It is stored encrypted and never shown again."),
    )

    class Meta:
        model = IdentityProvider
        fields = (
            *("display_name", "slug", "issuer", "organization", "is_active"),
            *("client_id", "client_authentication", "scopes", "extra_parameters", "signing_algorithms"),
            *("use_userinfo", "refresh_tokens_reusable", *ENDPOINTS),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.instance.is_active = False  # until it is checked
            self.fields["new_client_secret"].help_text = _("It is stored encrypted and never shown again.")

    def losses(self, data: dict[str, Any]) -> Iterator[str]:
        if self.instance.is_active and not data.get("is_active", True):
            text = gettext(
                "Nobody can log in through %s any more, and everybody who has logged in through it loses access at once."
            )
            yield text % self.instance

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or self.cleaned_data
        for name in ("issuer", *ENDPOINTS):
            url = data.get(name)
            if url and not is_secure(url):
                self.add_error(name, ValidationError(_("The URL has to begin with https://.")))
        if not isinstance(data.get("extra_parameters", {}), dict):
            self.add_error("extra_parameters", ValidationError(_("A JSON object, such as {}.")))
        return data

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the instance is now as it should become
        try:
            validate_slug_and_issuer(self.instance)
        except ValidationError as error:
            for name, errors in error.error_dict.items():
                # What is fixed since people have logged in through the provider is shown, but no field of the form.
                self.add_error(name if name in self.fields else None, errors)
        try:
            validate_client_secret(self.instance, has_new_secret=bool(self.cleaned_data.get("new_client_secret")))
        except ValidationError as error:
            self.add_error("new_client_secret", error)


class EmailDomainInline(admin.StackedInline):  # type: ignore[type-arg]
    model = EmailDomain
    extra = 1

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return permissions_of(request).is_operator

    has_add_permission = has_change_permission = has_delete_permission = has_view_permission


class IdentityProviderAdmin(PolicyAdmin):
    visible = staticmethod(policy.visible_providers)
    deferred = ("client_secret",)
    form = ProviderForm
    inlines = (EmailDomainInline,)
    list_display = ("display_name", "slug", "organization", "issuer", "is_active")
    list_select_related = ("organization",)
    list_filter = ("is_active",)
    search_fields = ("display_name", "slug", "issuer", "email_domains__domain")
    ordering = ("display_name",)
    autocomplete_fields = ("organization",)
    change_form_template = "admin/partium_auth/identityprovider/change_form.html"
    readonly_fields = ("secret_stored", "key_pairs")
    opens_after_add = True
    fieldsets = (
        (None, {"fields": ("display_name", "slug", "issuer", "organization", "is_active", "confirmed")}),
        (
            _("Client"),
            {
                "fields": (
                    "client_id",
                    "client_authentication",
                    "secret_stored",
                    "new_client_secret",
                    "key_pairs",
                    "scopes",
                ),
                "description": _CHANGED_URLS,
            },
        ),
        (
            _("Details"),
            {
                "fields": ("extra_parameters", "signing_algorithms", "use_userinfo", "refresh_tokens_reusable"),
                "classes": ("collapse",),
            },
        ),
        (
            _("Without a discovery document"),
            {"fields": tuple(ENDPOINTS), "classes": ("collapse",), "description": _CHANGED_URLS},
        ),
    )

    has_add_permission = PolicyAdmin.may_see_any
    has_change_permission = PolicyAdmin.has_view_permission

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Who logged in through it keeps an identity there; such a provider is switched off instead.
        return self.has_view_permission(request, obj) and (obj is None or not is_used(obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return (*self.readonly_fields, "is_active")
        return (*self.readonly_fields, "slug", "issuer") if is_used(obj) else self.readonly_fields

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "partium_auth_identityprovider_"
        urls = [
            path("<path:object_id>/check/", view(self.check_view), name=f"{name}check"),
            path("<path:object_id>/new-key/", view(self.new_key_view), name=f"{name}new_key"),
            *super().get_urls(),
        ]
        return hide_in_urls(urls, "new_client_secret")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        provider = kwargs.get("obj")
        slug = provider.slug if provider and provider.slug else SHORT_NAME
        templates = urls_to_register(request, SHORT_NAME)
        context["urls"] = [
            (text, copyable(template.replace(SHORT_NAME, slug), template)) for text, template in templates
        ]
        if provider:
            context["check_url"] = self._url("check", provider)
            if provider.client_authentication.startswith(PRIVATE_KEY_JWT):
                context["new_key_url"] = self._url("new_key", provider)
        if request.POST.get("new_client_secret"):  # the form comes back with an error or a question
            text = _("Enter the client secret again: nothing was saved, and it is not sent back to your browser.")
            context["adminform"].form.add_error("new_client_secret", text)
        return super().render_change_form(request, context, *args, **kwargs)

    def _url(self, name: str, provider: IdentityProvider) -> str:
        name = f"admin:partium_auth_identityprovider_{name}"
        return reverse(name, args=[provider.pk], current_app=self.admin_site.name)

    @never_atomic
    def new_key_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a new key pair for ``private_key_jwt``."""
        provider = self.get_object(request, unquote(object_id))
        if provider is None or not self.has_view_permission(request, provider):
            raise PermissionDenied
        if request.method == "POST":
            try:
                key = create_client_key(provider, actor=actor_of(request), at_once="at_once" in request.POST)
            except PartiumError as error:
                messages.error(request, gettext("No key pair was created: %s") % error)
            else:
                text = gettext("The key pair %(key)s was created. It is used from %(from)s.")
                messages.success(request, text % {"key": key.pk, "from": moment(key.used_from)})
        return HttpResponseRedirect(self._url("change", provider))

    @never_atomic
    def check_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what is wrong with a provider, after fetching its discovery document and keys; bodies are never shown."""
        provider = self.get_object(request, unquote(object_id))
        if provider is None or not self.has_view_permission(request, provider):
            raise PermissionDenied
        back_url = self._url("change", provider)
        if request.method != "POST":  # who had to log in again meanwhile comes back with a GET
            return HttpResponseRedirect(back_url)
        if "activate" in request.POST:
            return self._activate(request, provider, back_url)
        findings, failure = [*check_urls(request, provider.slug), *check_issuer(provider)], ""
        try:
            for finding in check_provider(from_row(provider)):
                findings.append(finding)  # noqa: PERF402  # what was found before it failed is shown
        except PartiumError as error:
            failure = str(error)  # for developers, in English
        return TemplateResponse(
            request,
            "admin/partium_auth/identityprovider/check.html",
            {
                **self.admin_site.each_context(request),
                **page_context(gettext("Checking %s") % provider),
                "opts": self.opts,
                "media": self.media,
                "failure": failure,
                "failure_level": LEVELS["error"],
                "findings": [(LEVELS[finding.level], finding) for finding in findings],
                "back_url": back_url,
                "provider": provider,
                "passed": not failure and all(finding.level != "error" for finding in findings),
            },
        )

    def _activate(self, request: HttpRequest, provider: IdentityProvider, back_url: str) -> HttpResponse:
        try:
            provider.is_active = True
            save_provider(provider, actor=actor_of(request))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        else:
            messages.success(request, gettext("%s is active: people can log in through it.") % provider)
        return HttpResponseRedirect(back_url)

    @admin.display(description=_("stored secret"))
    def secret_stored(self, provider: IdentityProvider) -> str:
        return MASK if provider.client_secret is not None else pgettext("client secret", "none")

    @admin.display(description=_("key pairs"))
    def key_pairs(self, provider: IdentityProvider) -> str:
        if provider._state.adding:
            return NOTHING
        keys = client_keys.of_provider(provider.bound_to).order_by("used_from")
        lines = ((str(key), moment(key.used_from), moment(key.published_until)) for key in keys)
        text = gettext("{}, used from {}, published until {}")
        return format_html_join("; ", text, lines) or NOTHING

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        pasted = form.cleaned_data.get("new_client_secret")
        save_provider(obj, actor=actor_of(request), client_secret=pasted)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        if formset.has_changed():
            record_change(form.instance, ["email_domains"], actor=actor_of(request))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        delete_provider(obj, actor=actor_of(request))
