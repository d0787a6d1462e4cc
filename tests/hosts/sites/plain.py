"""The host that the others differ from."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, WORKER

ROOT_URLCONF = "tests.hosts.urls"
LOGIN_URL = "partium_auth:login"
LOGIN_REDIRECT_URL = "/home/"
PARTIUM_PASSWORD_ORGANIZATION = "acme"
CACHES = {"default": {"BACKEND": "tests.hosts.no_cache.NoCache"}}
if not DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Beside the test database of the process that started this one.
    DATABASES["default"]["TEST"] = {"NAME": f"partium_hosts_{WORKER}_{os.getpid()}"}
