from django.contrib import admin
from django.urls import include, path

from partium_auth.admin import key_site

urlpatterns = [
    path("admin/", admin.site.urls),
    path("keys/", key_site.urls),
    path("partium/", include("partium_auth.urls")),
]
