"""Below a path."""

from tests.hosts.sites.plain import *  # noqa: F403

FORCE_SCRIPT_NAME = "/portal"
LOGIN_REDIRECT_URL = "/portal/home/"
