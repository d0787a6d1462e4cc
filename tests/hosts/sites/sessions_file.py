"""Another session engine: file."""

from tests.hosts.sites.plain import *  # noqa: F403

SESSION_ENGINE = "django.contrib.sessions.backends.file"
