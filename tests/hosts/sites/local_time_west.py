"""No time zones, far from UTC on the other side."""

from tests.hosts.sites.plain import *  # noqa: F403

USE_TZ = False
TIME_ZONE = "Pacific/Pago_Pago"  # 11 hours behind
