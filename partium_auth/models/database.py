"""Which database the app's rows are in, and whether its tables are there."""

from __future__ import annotations

from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor

from partium_auth.models.grants import Grant


def database_alias() -> str:
    """Return the database that all of the app's rows are written to (check E016), and read from where a stale answer is wrong."""
    return router.db_for_write(Grant)


def are_migrations_applied() -> bool:
    """Tell whether the database has the tables of this version of the app. Raises Django's ``DatabaseError``."""
    executor = MigrationExecutor(connections[database_alias()])
    app_label = Grant._meta.app_label
    return not executor.migration_plan([node for node in executor.loader.graph.leaf_nodes() if node[0] == app_label])
