"""The URLs of every host here."""

from __future__ import annotations

from django.apps import apps
from django.urls import include, path

from tests.hosts import views
from tests.site import views as site

urlpatterns = [
    path("home/", views.home),
    path("local-login/", views.local_login),
    path("partium/", include("partium_auth.urls")),
    path("token/", site.token),
    path("atoken/", site.atoken),
    path("search/", site.search),
    path("asearch/", site.asearch),
    path("sdk/", site.sdk),
    path("failing/<str:name>/", site.failing),
    path("unavailable/", site.unavailable),
    path("broken/", views.broken),
]

if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    from partium_auth.admin import MODEL_ADMINS, key_site

    back_office = admin.AdminSite(name="back_office")  # another admin site of the host's
    for model, model_admin in MODEL_ADMINS.items():
        back_office.register(model, model_admin)
    urlpatterns += [
        path("admin/", admin.site.urls),
        path("keys/", key_site.urls),
        path("back-office/", back_office.urls),
    ]
