"""What every login and log-out of the site means to this app, whichever backend or view is behind it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import OperationalError, ProgrammingError, connections, transaction

from partium_auth.accounts import claims as claims_
from partium_auth.accounts import memberships_from_claims, sessions
from partium_auth.models import Grant, Identity, Membership, Organization
from partium_auth.models.database import database_alias
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider
from partium_auth.services.grants import revoke_grants
from partium_auth.tokens.refreshed_id_token import claims_refreshed

logger = logging.getLogger("partium_auth")


def connect_signals() -> None:
    """Listen to Django's signals."""
    user_logged_in.connect(_logged_in, dispatch_uid="partium_auth")
    user_logged_out.connect(_logged_out, dispatch_uid="partium_auth")
    claims_refreshed.connect(_claims_refreshed, dispatch_uid="partium_auth")


def _logged_in(sender: object, request: Any, user: Any, **kwargs: object) -> None:
    """Choose the active organization of a session, whichever backend logged the person in."""
    _forget_token(request)
    # Our own login views add the grant after this signal.
    if request is None or not hasattr(request, "session"):
        return
    connection = connections[database_alias()]
    # PostgreSQL: a transaction continues after a failed statement only from a savepoint.
    savepoint = transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext()
    try:
        with savepoint:
            sessions.begin_without_grant(request, user)
    except (OperationalError, ProgrammingError):
        # People must be able to log in, to the admin for example, before "migrate" has created our tables.
        if {Organization._meta.db_table, Membership._meta.db_table} <= set(connection.introspection.table_names()):
            raise
        logger.warning("partium_auth's tables are not there yet. Run: manage.py migrate")


def _claims_refreshed(
    sender: object,
    identity: Identity,
    provider: Provider,
    claims: Any,
    from_userinfo: Collection[str],
    **kwargs: object,
) -> None:
    try:
        read = claims_.as_the_site_reads_them(claims, provider)
    except Refused as refusal:
        # The logins last: if the database fails before, the next refresh comes here again.
        memberships_from_claims.withdraw(identity, provider)
        logins = Grant.objects.using(database_alias()).filter(
            identity=identity, provider=provider.slug, revoked_at=None
        )
        ended = revoke_grants(logins.values_list("pk", flat=True), actor=None)
        logger.warning("%d logins of user %s at %s ended: %s", ended, identity.user_id, provider.slug, refusal)
        return
    unknown = dict.fromkeys(from_userinfo, claims_.UNKNOWN)
    memberships_from_claims.follow_refresh(identity, provider, read | unknown)


def _logged_out(sender: object, request: Any, user: Any, **kwargs: object) -> None:
    """Revoke the grant of a session that ends, whichever view ends it."""
    _forget_token(request)
    if request is not None and hasattr(request, "session"):
        sessions.end(request)


def _forget_token(request: Any) -> None:
    # request.partium may already have read the token of the person who was logged in before.
    partium = getattr(request, "partium", None)
    if partium is not None:
        partium.forget()
