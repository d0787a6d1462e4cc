"""A user model without a user name, with a UUID for its key."""

from tests.hosts.sites.plain import *  # noqa: F403
from tests.hosts.sites.plain import INSTALLED_APPS as APPS

INSTALLED_APPS = ["tests.hosts.members", *APPS]
AUTH_USER_MODEL = "members.Member"
