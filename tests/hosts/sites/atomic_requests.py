"""Every view in a transaction."""

from tests.hosts.sites.plain import *  # noqa: F403
from tests.hosts.sites.plain import DATABASES

DATABASES["default"]["ATOMIC_REQUESTS"] = True
