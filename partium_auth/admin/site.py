"""The admin site that an organization's developers enter without being staff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.contenttypes.views import shortcut
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache

from partium_auth import policy
from partium_auth.accounts.error_pages import error_response
from partium_auth.accounts.error_texts import ErrorText
from partium_auth.accounts.redirects import is_safe_target
from partium_auth.admin.permissions import actor_of, permissions_of
from partium_auth.host.csp import nonce_of
from partium_auth.host.decorators import utf8_only

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase

    Site = AdminSite
elif apps.is_installed("unfold"):
    # Its templates replace Django's everywhere and need the context of its own site class.
    from unfold.sites import UnfoldAdminSite as Site
else:
    Site = AdminSite


_NAMED = 10
"""The page lists at most so many of a person's organizations."""

_CLOSED = ErrorText(
    403,
    "no_developer",
    _("This page is for developers"),
    _("Developers manage their organization's API keys here. You are not a developer of any organization."),
)


class KeySite(Site):
    """The admin site for developers: ``policy.may_enter_key_site`` decides who may enter.

    People log in and out at the app's own pages.
    """

    site_title = _("API keys")
    site_header = _("Partium API keys")
    # The tables need the room more than a handful of links does. django-unfold has no other place for the sections.
    enable_nav_sidebar = apps.is_installed("unfold")

    def has_permission(self, request: HttpRequest) -> bool:
        return permissions_of(request).may_enter_key_site

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        # The admin of Django 6.1 puts this nonce on its scripts; django-csp's own context processor has another name for it.
        context = super().each_context(request)
        sections = [model for app in context["available_apps"] for model in app["models"]]
        return {"csp_nonce": nonce_of(request), "partium_sections": sections, **context}

    @method_decorator(never_cache)
    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # type: ignore[override]
        """Open the list of keys: it is what people come for."""
        return HttpResponseRedirect(reverse("admin:partium_auth_apikey_changelist", current_app=self.name))

    def get_urls(self) -> list[Any]:
        # Replaces Django's view, which reveals the URL of any object of the host.
        route, view = "r/<path:content_type_id>/<path:object_id>/", self.admin_view(self.view_on_site, cacheable=True)
        return [path(route, view, name="view_on_site"), *super().get_urls()]

    def view_on_site(self, request: HttpRequest, content_type_id: str, object_id: str) -> HttpResponseBase:
        """Redirect operators to an object's own page; the objects that developers see have none."""
        if not permissions_of(request).is_operator:
            raise Http404
        return shortcut(request, content_type_id, object_id)

    @method_decorator([utf8_only, never_cache])
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the app's login page; tell people who are logged in and may not enter so."""
        index = reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return HttpResponseRedirect(index)
        target = request.GET.get(REDIRECT_FIELD_NAME, "")
        query = urlencode({REDIRECT_FIELD_NAME: target if is_safe_target(request, target) else index})
        login_url = f"{reverse('partium_auth:login')}?{query}"
        if not request.user.is_authenticated:
            return HttpResponseRedirect(login_url)
        refusal = policy.why_closed(actor_of(request))
        if refusal is not None:
            return error_response(request, refusal)
        names = [str(one) for one in policy.organizations_of(request.user)[: _NAMED + 1]]
        context = {
            "text": _CLOSED,
            "organizations": ", ".join([*names[:_NAMED], *("…" for _name in names[_NAMED:])]),
            "login_url": login_url,
        }
        return render(request, "partium_auth/keys_closed.html", context, status=_CLOSED.status)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:  # type: ignore[override]
        """Redirect to the app's log-out. Status 307 makes the browser repeat the POST with its CSRF token."""
        response = HttpResponseRedirect(reverse("partium_auth:logout"))
        response.status_code = 307
        return response

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Return nothing to django-unfold's search box, which would search all models of the host."""
        return HttpResponse()
