"""The app's URLs: ``path("partium/", include("partium_auth.urls"))``."""

from django.urls import URLPattern, URLResolver, path

from partium_auth import views
from partium_auth.login import backchannel
from partium_auth.login import views as login_views

app_name = "partium_auth"

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", login_views.login, name="login"),
    path("login/<slug:provider>/", login_views.oidc_login, name="oidc_login"),
    path("callback/<slug:provider>/", login_views.oidc_callback, name="oidc_callback"),
    path("logout/", login_views.logout, name="logout"),
    path("backchannel-logout/<slug:provider>/", backchannel.backchannel_logout, name="backchannel_logout"),
    path("token/", views.token, name="token"),
    path("organization/", views.organization, name="organization"),
]
