"""Another session engine: cached_db."""

from tests.hosts.sites.plain import *  # noqa: F403
from tests.settings import CACHES  # noqa: F401

SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
