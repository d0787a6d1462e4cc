"""What one session may use, in one joined query: the organization, the session's own grant, the organization's keys.

The query is written out, not composed by the ORM, and its text is made once per database: a host site pays for it in
every request that asks for a token, and composing it would cost more than running it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections
from django.utils import timezone

from partium_auth.models import ApiKey, Grant, IdentityProvider, Membership, Organization
from partium_auth.tokens import grants
from partium_auth.tokens.grants import Snapshot
from partium_auth.tokens.invalidation import ENTRY_SECONDS


class OwnGrant(NamedTuple):
    """The session's own grant, and what is known of the login it came from."""

    snapshot: Snapshot
    provider_organization_id: uuid.UUID | None
    provider_active: bool
    authenticated_at: float | None


class Reading(NamedTuple):
    """One session's view. Holds access tokens sealed, so it may be cached."""

    organization_id: uuid.UUID
    org_id: str
    display_name: str
    token_source: str
    required_provider: str | None
    own: OwnGrant | None
    keys: tuple[Snapshot, ...]
    keys_without_grant: tuple[uuid.UUID, ...]
    cacheable: bool


_GRANT = """
    {g}.id, {g}.kind, {g}.provider, {g}.generation, {g}.access_token, {g}.issued_at, {g}.lifetime_seconds, {g}.reusable,
    {g}.api_key_id, CASE WHEN {g}.refresh_token IS NOT NULL OR {g}.api_key_id IS NOT NULL THEN 1 ELSE 0 END,
    CASE WHEN {g}.sent_at IS NOT NULL THEN 1 ELSE 0 END, CASE WHEN {g}.lease_until > {now} THEN 1 ELSE 0 END,
    CASE WHEN {g}.next_attempt_at > {now} THEN 1 ELSE 0 END, CASE WHEN {g}.rejected_at IS NOT NULL THEN 1 ELSE 0 END,
    CASE WHEN {g}.revoked_at IS NOT NULL THEN 1 ELSE 0 END
"""
_WIDTH = len(grants.SNAPSHOT_COLUMNS)

_SQL = """
SELECT o.id, o.org_id, o.display_name, o.token_source, required.slug, k.id,
    CASE WHEN k.expires_at < %s OR k.retires_at < %s THEN 1 ELSE 0 END,
    own.user_id, own.authenticated_at, own_provider.organization_id, own_provider.is_active, {own}, {of_key}
FROM {Organization} o
LEFT JOIN {IdentityProvider} required ON required.id = o.required_provider_id
LEFT JOIN {Grant} own ON own.id = %s
LEFT JOIN {IdentityProvider} own_provider ON own_provider.slug = own.provider
LEFT JOIN {ApiKey} k ON k.organization_id = o.id AND o.token_source <> 'user' AND k.status <> 'revoked'
    AND k.verification IN ('accepted', 'unverified')
    AND (k.expires_at IS NULL OR k.expires_at > %s) AND (k.retires_at IS NULL OR k.retires_at > %s)
LEFT JOIN {Grant} of_key ON of_key.api_key_id = k.id
WHERE o.id = %s AND o.is_active = %s
    AND EXISTS (SELECT 1 FROM {Membership} m WHERE m.organization_id = o.id AND m.user_id = %s)
ORDER BY CASE WHEN k.verification = 'accepted' THEN 0 ELSE 1 END, CASE WHEN k.status = 'active' THEN 0 ELSE 1 END,
    k.created_at DESC, k.id DESC
"""


@lru_cache(maxsize=8)
def _sql(alias: str) -> str:
    connection = connections[alias]
    compiler = Grant.objects.using(alias).query.get_compiler(alias)
    now = compiler.compile(grants.Now())[0]
    tables = {
        model.__name__: connection.ops.quote_name(model._meta.db_table)
        for model in (Organization, IdentityProvider, Grant, ApiKey, Membership)
    }
    return _SQL.format(own=_GRANT.format(g="own", now=now), of_key=_GRANT.format(g="of_key", now=now), **tables)


def read(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> Reading | None:
    """Read one session's view of one organization; None where it is not active or the person is not a member.

    Args:
        user_pk: who is logged in.
        grant_id: what the session names, or None for a session without a Partium login.
        organization_id: which organization.
    """
    alias = grants.alias()
    connection = connections[alias]
    now = timezone.now()
    at = connection.ops.adapt_datetimefield_value
    soon, this_moment = at(now + dt.timedelta(seconds=ENTRY_SECONDS)), at(now)
    user = _adapt(Membership, "user", user_pk, connection)
    params = (
        soon,
        soon,
        _adapt(Grant, "id", grant_id, connection),
        this_moment,
        this_moment,
        _adapt(Organization, "id", organization_id, connection),
        _adapt(Organization, "is_active", True, connection),
        user,
    )
    with connection.cursor() as cursor:
        cursor.execute(_sql(alias), params)
        rows = cursor.fetchall()
    return _reading(rows, str(user)) if rows else None


def _adapt(model: type[Any], field: str, value: object, connection: Any) -> Any:
    target = model._meta.get_field(field)
    return None if value is None else getattr(target, "target_field", target).get_db_prep_value(value, connection)


def _uuid(value: Any) -> uuid.UUID | None:
    return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(str(value))


def _snapshot(columns: tuple[Any, ...]) -> Snapshot | None:
    if columns[0] is None:
        return None
    return grants.snapshot_of((_uuid(columns[0]), *columns[1:8], _uuid(columns[8]), *columns[9:]))


def _reading(rows: list[tuple[Any, ...]], user: str) -> Reading:
    first = rows[0]
    own_snapshot = _snapshot(first[11 : 11 + _WIDTH])
    own = None
    if own_snapshot is not None and str(first[7]) == user:  # a session cannot use another person's grant
        own = OwnGrant(
            snapshot=own_snapshot,
            provider_organization_id=_uuid(first[9]),
            provider_active=first[10] is None or bool(first[10]),
            authenticated_at=first[8],
        )
    keys, without_grant = [], []
    for row in rows:
        key_id = _uuid(row[5])
        snapshot = _snapshot(row[11 + _WIDTH :])
        if snapshot is not None:
            keys.append(snapshot)
        elif key_id is not None:
            without_grant.append(key_id)
    organization_id = _uuid(first[0])
    assert organization_id is not None  # noqa: S101  # the primary key
    return Reading(
        organization_id=organization_id,
        org_id=first[1],
        display_name=first[2],
        token_source=first[3],
        required_provider=first[4],
        own=own,
        keys=tuple(keys),
        keys_without_grant=tuple(without_grant),
        cacheable=not any(row[6] for row in rows),
    )
