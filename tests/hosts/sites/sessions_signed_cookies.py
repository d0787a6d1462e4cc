"""Another session engine: signed_cookies."""

from tests.hosts.sites.plain import *  # noqa: F403

SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
