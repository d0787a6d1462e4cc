"""Nobody sees anything without a login."""

from tests.hosts.sites.plain import *  # noqa: F403
from tests.hosts.sites.plain import MIDDLEWARE as ALL

MIDDLEWARE = [*ALL[:-2], "django.contrib.auth.middleware.LoginRequiredMiddleware", *ALL[-2:]]
