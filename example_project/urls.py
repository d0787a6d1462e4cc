"""The example project's addresses."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from django.views.i18n import JavaScriptCatalog

from example_project import views
from partium_auth.admin import key_site

urlpatterns = [
    path("", views.search, name="search"),
    path("more/", views.more, name="more"),
    path("machines/", views.machines, name="machines"),
    path("part/<path:number>/", views.part, name="part"),
    path("session-state/", views.session_state, name="session_state"),
    path("in-the-browser/", views.in_the_browser, name="in_the_browser"),
    # What portal.js and in-the-browser.js say, in the page's language.
    path("texts.js", JavaScriptCatalog.as_view(packages=["example_project"]), name="javascript-catalog"),
    # Before the app's own, which does the work.
    path("partium/organization/", views.switch_organization),
    # Everything that partium_auth brings: login, logout, the token endpoint, switching the organization.
    path("partium/", include("partium_auth.urls")),
    # For an organization's developers: its API keys, without is_staff.
    path("keys/", key_site.urls),
    # For the operator of the site.
    path("admin/", admin.site.urls),
    # Pages without an icon of their own: browsers ask here.
    path("favicon.ico", RedirectView.as_view(url=static("portal/icon.svg"))),
]
