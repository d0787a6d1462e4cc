"""Settings of a host that a real server serves, in a process of its own, on the database of the test that started it."""

import os

from tests.hosts.sites.plain import *  # noqa: F403

PARTIUM_API_URL = os.environ["TEST_PARTIUM_API_URL"]
# A busy machine is no failure here; how long anybody waits at most has tests of its own.
PARTIUM_TIMEOUT = 60
