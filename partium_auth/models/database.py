"""Which database the app's rows are in."""

from __future__ import annotations

from django.db import router

from partium_auth.models.grants import Grant


def database_alias() -> str:
    """Return the database that all of the app's rows are written to (check E016), and read from where a stale answer is wrong."""
    return router.db_for_write(Grant)
