"""People in a database of their own."""

import os
from pathlib import Path
from tempfile import gettempdir

from tests.hosts.sites.plain import *  # noqa: F403
from tests.hosts.sites.plain import DATABASES

DATABASES["people"] = DATABASES["default"] | {"TEST": dict(DATABASES["default"]["TEST"])}
DATABASES["people"]["TEST"]["NAME"] = (
    str(Path(gettempdir()) / f"partium_people-{os.getpid()}.sqlite3")
    if DATABASES["people"]["ENGINE"].endswith("sqlite3")
    else f"{DATABASES['default']['TEST']['NAME']}_people"
)
DATABASES["people"]["ATOMIC_REQUESTS"] = True
DATABASE_ROUTERS = ["tests.hosts.router.PeopleRouter"]
