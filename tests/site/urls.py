"""The URLs of a host site."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from tests.site import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("partium/", include("partium_auth.urls")),
    path("token/", views.token),
    path("atoken/", views.atoken),
    path("search/", views.search),
    path("asearch/", views.asearch),
    path("sdk/", views.sdk),
    path("asdk/", views.asdk),
    path("client-in-a-template/", views.aclient_in_a_template),
    path("blocking/<str:name>/", views.blocking),
    path("failing/<str:name>/", views.failing),
    path("unavailable/", views.unavailable),
    path("untouched/", views.untouched),
]
