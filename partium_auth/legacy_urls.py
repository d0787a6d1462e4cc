"""For sites that come from the base library: ``path("oidc/", include("partium_auth.legacy_urls"))``.

Takes the place of ``include("mozilla_django_oidc.urls")``: the same paths, so that the redirect URI registered at the
provider stays valid, and the same names without a namespace, so that ``{% url "oidc_authentication_init" %}`` works on.
Everything else of this app's URLs is there as well, under its namespace ``partium_auth``.
"""

from django.urls import include, path

from partium_auth.accounts import code_flow_views, logout
from partium_auth.host.decorators import never_atomic

PROVIDER = {"provider": "default"}

urlpatterns = [
    path("callback/", never_atomic(code_flow_views.oidc_callback), PROVIDER, name="oidc_authentication_callback"),
    path("authenticate/", never_atomic(code_flow_views.oidc_login), PROVIDER, name="oidc_authentication_init"),
    path("logout/", never_atomic(logout.logout), name="oidc_logout"),
    path("", include("partium_auth.urls")),
]
