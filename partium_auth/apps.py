"""The app's registration with Django."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

from django.apps import AppConfig
from django.db import OperationalError, ProgrammingError, connections, router, transaction
from django.utils.translation import gettext_lazy as _

logger = logging.getLogger("partium_auth")


class PartiumAuthConfig(AppConfig):
    """``"partium_auth"`` in ``INSTALLED_APPS`` is enough."""

    name = "partium_auth"
    verbose_name = _("Partium")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks and connect receivers."""
        from django.contrib.auth.signals import user_logged_in, user_logged_out

        from partium_auth import checks  # noqa: F401  # registers
        from partium_auth.models import versions
        from partium_auth.services import key_usage

        user_logged_in.connect(_logged_in, dispatch_uid="partium_auth")
        user_logged_out.connect(_logged_out, dispatch_uid="partium_auth")
        for room in (versions, key_usage):
            room.connect_signals()


def _logged_in(sender: object, request: Any, user: Any, **kwargs: object) -> None:
    from partium_auth.accounts import sessions
    from partium_auth.models import Membership, Organization

    _forget(request)
    # Our own login views attach a grant as well, after this.
    if request is None or not hasattr(request, "session"):
        return
    connection = connections[router.db_for_read(Organization)]
    # PostgreSQL goes on in a transaction only from a savepoint before a statement that failed.
    unharmed = transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext()
    try:
        with unharmed:
            sessions.begin_without_grant(request, user)
    except (OperationalError, ProgrammingError):
        # A site that has just been given the app lets people log in, to the admin too, before it has run migrate.
        if {Organization._meta.db_table, Membership._meta.db_table} <= set(connection.introspection.table_names()):
            raise
        logger.warning("partium_auth's tables are not there yet. Run: manage.py migrate")


def _logged_out(sender: object, request: Any, user: Any, **kwargs: object) -> None:
    from partium_auth.accounts import sessions

    _forget(request)
    if request is not None and hasattr(request, "session"):
        sessions.end(request)


def _forget(request: Any) -> None:
    # A request that has used one person's token may log somebody else in, or out.
    partium = getattr(request, "partium", None)
    if partium is not None:
        partium.forget()
