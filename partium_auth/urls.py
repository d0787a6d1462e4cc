"""The app's URLs: ``path("partium/", include("partium_auth.urls"))``."""

from django.urls import URLPattern, URLResolver, path

from partium_auth import health, views
from partium_auth.accounts import (
    backchannel_logout,
    code_flow_views,
    frontchannel_logout,
    jwks,
    login_page,
    logout,
    memberships_page,
)
from partium_auth.host.decorators import never_atomic

app_name = "partium_auth"

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", never_atomic(login_page.login), name="login"),
    path("login/<slug:provider>/", never_atomic(code_flow_views.oidc_login), name="oidc_login"),
    path("callback/<slug:provider>/", never_atomic(code_flow_views.oidc_callback), name="oidc_callback"),
    path("logout/", never_atomic(logout.logout), name="logout"),
    path(
        "backchannel-logout/<slug:provider>/",
        never_atomic(backchannel_logout.backchannel_logout),
        name="backchannel_logout",
    ),
    path(
        "frontchannel-logout/<slug:provider>/",
        never_atomic(frontchannel_logout.frontchannel_logout),
        name="frontchannel_logout",
    ),
    path("jwks/<slug:provider>/", never_atomic(jwks.jwks), name="jwks"),
    path("token/", never_atomic(views.token), name="token"),
    path("memberships/", never_atomic(memberships_page.memberships), name="memberships"),
    path("organization/", never_atomic(views.organization), name="organization"),
    path("health/", never_atomic(health.health), name="health"),
]
