"""No time zones, far from UTC."""

from tests.hosts.sites.plain import *  # noqa: F403

USE_TZ = False
TIME_ZONE = "Pacific/Kiritimati"  # 14 hours ahead
