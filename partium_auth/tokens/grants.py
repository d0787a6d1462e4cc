"""Grants: opened by a login or by a key's first use, ended by a log-out or a revocation."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Collection
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from partium_auth.exceptions import EncryptionError
from partium_auth.fields import seal
from partium_auth.models import ApiKey, Grant
from partium_auth.models.database import database_alias
from partium_auth.sealed.plain import Plain
from partium_auth.tokens.database_clock import database_clock

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from partium_auth.tokens.verified_login import VerifiedLogin

logger = logging.getLogger("partium_auth.tokens")

IN_SESSION = "_partium_grant"
"""Under this name a session holds the id of its grant."""
_BATCH = 1000  # databases limit the parameters of one statement


def open_grant(login: VerifiedLogin, session_key: str) -> Grant:
    """Store the grant of a login that succeeded.

    Args:
        session_key: Django's, of the session it belongs to; empty where :func:`key_of` is.

    Raises:
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    database_clock.look()
    grant = Grant(
        kind=login.kind,
        user_id=login.user.pk,
        provider=login.provider.slug if login.provider is not None else "",
        bound_to=login.provider.bound_to if login.provider is not None else "",
        identity=login.identity,
        issuer=login.identity.issuer if login.identity is not None else "",
        session_id=login.session_id,
        from_userinfo=list(login.from_userinfo),
        reusable=login.provider is not None and login.provider.refresh_tokens_reusable,
        authenticated_at=database_clock(),
    )
    if login.authenticated_seconds_ago is not None:
        grant.auth_time = database_clock.from_local(login.issued_at.timestamp()) - login.authenticated_seconds_ago
    if session_key:
        grant.session_key = seal(grant, "session_key", Plain(session_key))
        grant.session_key_digest = session_key_digest(session_key)
    if login.tokens is not None:
        if login.tokens.id_token and login.kind == Grant.Kind.OIDC:
            from jwt import get_unverified_header  # the login has verified the token

            grant.id_token = seal(grant, "id_token", Plain(login.tokens.id_token))
            grant.signed_with = get_unverified_header(login.tokens.id_token)["alg"]
        grant.access_token = seal(grant, "access_token", Plain(login.tokens.access_token))
        if login.tokens.refresh_token:
            grant.refresh_token = seal(grant, "refresh_token", Plain(login.tokens.refresh_token))
        grant.issued_at = database_clock.from_local(login.issued_at.timestamp())
        grant.lifetime_seconds = login.tokens.lifetime_seconds
        grant.generation = 1
        grant.refreshed_at = timezone.now()
    grant.save(force_insert=True, using=database_alias())
    return grant


def key_of(session: SessionBase) -> str:
    """Return the key that a session can be found and deleted by; empty where there is none."""
    from django.contrib.sessions.backends import signed_cookies

    # A cookie that holds the session itself changes with every answer, and no server can delete it.
    return "" if isinstance(session, signed_cookies.SessionStore) else session.session_key or ""


def session_key_digest(session_key: str) -> str:
    """Return what is compared instead of a sealed session key; a key has 165 random bits, so nobody can guess it from this."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:32] if session_key else ""


def store_session_key(grant_id: uuid.UUID, session_key: str) -> None:
    """Store the session key that a grant's session has now: Django changes it when the password is changed, for example.

    It is stored after the caller's transaction: a lock on the row would block the refresh that the caller may wait for. A
    failure is logged and does not fail the request.
    """
    transaction.on_commit(partial(_store_session_key, grant_id, session_key), using=database_alias())


def _store_session_key(grant_id: uuid.UUID, session_key: str) -> None:
    digest = session_key_digest(session_key)
    try:
        with transaction.atomic(using=database_alias()):
            outdated = _rows().filter(pk=grant_id, revoked_at__isnull=True).exclude(session_key_digest=digest)
            outdated.update(
                session_key=seal(Grant(pk=grant_id), "session_key", Plain(session_key)), session_key_digest=digest
            )
    except (AnyDatabaseError, EncryptionError) as error:
        logger.warning("The new session key of grant %s was not stored: %s", grant_id, type(error).__name__)


def for_key(api_key_id: uuid.UUID) -> Grant:
    """Return a key's grant, made when the key is added, or by its first refresh. Its id is the key's: readers join them by it."""
    organizations = ApiKey.objects.using(database_alias()).values_list("organization_id", flat=True)
    values = {
        "api_key_id": api_key_id,
        "kind": Grant.Kind.API_KEY,
        "reusable": True,
        "bound_to": lambda: str(organizations.get(pk=api_key_id)),
    }
    grant, _ = _rows().get_or_create(pk=api_key_id, defaults=values)
    return grant


def of_sessions_at_provider(grants: QuerySet[Grant], session_ids: Collection[str]) -> QuerySet[Grant]:
    """Return those of some grants whose login has one of these ``sid`` at its provider, in exactly these letters.

    Compared again in Python: some databases ignore case.
    """
    rows = grants.filter(session_id__in=session_ids).values_list("pk", "session_id")
    return _rows().filter(pk__in=[pk for pk, session_id in rows if session_id in session_ids])


def revoke(grants: QuerySet[Grant], *, delete_sessions: bool = False) -> int:
    """Revoke grants and forget their tokens: nothing is handed out or stored for them any more, in any process.

    The refresh token of a login at a provider is kept until it is revoked there (``tokens.revocation``).

    Args:
        grants: which ones; those that are revoked already are left alone.
        delete_sessions: delete the Django sessions they belong to as well, so that those are logged out.

    Returns:
        How many were revoked.
    """
    rows = list(grants.using(database_alias()).filter(revoked_at__isnull=True).only("pk", "kind", "session_key"))
    changed = 0
    erased: dict[str, None] = {"access_token": None, "id_token": None}
    for is_oidc, values in ((True, erased), (False, {**erased, "refresh_token": None})):
        pks = [row.pk for row in rows if (row.kind == Grant.Kind.OIDC) == is_oidc]
        for start in range(0, len(pks), _BATCH):
            ended = _rows().filter(pk__in=pks[start : start + _BATCH])
            changed += ended.update(revoked_at=timezone.now(), **values)
    if delete_sessions:
        for row in rows:
            _delete_session(row)
    return changed


def _delete_session(grant: Grant) -> None:
    if grant.session_key is None:
        return
    try:
        session_key = grant.session_key.reveal()
    except EncryptionError as error:
        logger.error("The session of grant %s cannot be deleted; its next token read ends it. %s", grant.pk, error)
        return
    import_module(settings.SESSION_ENGINE).SessionStore(session_key).delete()


def _rows() -> QuerySet[Grant]:
    return Grant.objects.using(database_alias())
