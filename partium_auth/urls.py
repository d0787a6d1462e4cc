"""The app's URLs: ``path("partium/", include("partium_auth.urls"))``."""

from django.urls import URLPattern, URLResolver, path

from partium_auth import views
from partium_auth.login import backchannel
from partium_auth.login import views as login_views
from partium_auth.transactions import outside_of_them

app_name = "partium_auth"

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", outside_of_them(login_views.login), name="login"),
    path("login/<slug:provider>/", outside_of_them(login_views.oidc_login), name="oidc_login"),
    path("callback/<slug:provider>/", outside_of_them(login_views.oidc_callback), name="oidc_callback"),
    path("logout/", outside_of_them(login_views.logout), name="logout"),
    path(
        "backchannel-logout/<slug:provider>/",
        outside_of_them(backchannel.backchannel_logout),
        name="backchannel_logout",
    ),
    path("token/", outside_of_them(views.token), name="token"),
    path("organization/", outside_of_them(views.organization), name="organization"),
]
