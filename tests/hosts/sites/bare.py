"""As little as a site can have: no admin, no messages, no static files, no sessions in the database, no context processors."""

from tests.hosts.sites.plain import *  # noqa: F403
from tests.hosts.sites.plain import TEMPLATES
from tests.settings import CACHES  # noqa: F401  # for the sessions

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "partium_auth"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "partium_auth.middleware.PartiumMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
TEMPLATES[0]["OPTIONS"] = {}
