"""The app's URLs: ``path("partium/", include("partium_auth.urls"))``."""

from django.urls import URLPattern, URLResolver, path

from partium_auth import views

app_name = "partium_auth"

urlpatterns: list[URLPattern | URLResolver] = [
    path("token/", views.token, name="token"),
    path("organization/", views.organization, name="organization"),
]
