"""The app's URLs: ``path("partium/", include("partium_auth.urls"))``."""

from django.urls import URLPattern, URLResolver

app_name = "partium_auth"

urlpatterns: list[URLPattern | URLResolver] = []
