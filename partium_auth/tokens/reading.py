"""What one session may use, in one joined query: the organization, the session's own grant, the organization's keys.

The query is written out, not composed by the ORM, and its text is made once per database: a host site pays for it in
every request that asks for a token, and composing it would cost more than running it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
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


_GRANT = (
    "{g}.kind, {g}.provider, {g}.generation, {g}.access_token, {g}.issued_at, {g}.lifetime_seconds, {g}.reusable, "
    "{g}.api_key_id, {g}.refresh_token IS NOT NULL OR {g}.api_key_id IS NOT NULL, {g}.sent_at IS NOT NULL, "
    "{g}.lease_until > {now}, {g}.next_attempt_at > {now}, {g}.rejected_at IS NOT NULL, {g}.revoked_at IS NOT NULL"
)
_ENTRY = dt.timedelta(seconds=ENTRY_SECONDS)
_WIDTH = len(grants.SNAPSHOT_COLUMNS) - 1  # all but the id
_OWN, _OF_KEY = 10, 10 + _WIDTH  # where the columns of the two grants begin

_SQL = """
SELECT o.org_id, o.display_name, o.token_source, required.slug, k.id, k.expires_at, k.retires_at,
    own.authenticated_at, own_provider.organization_id, own_provider.is_active, {own}, {of_key}, of_key.id
FROM {Organization} o
LEFT JOIN {IdentityProvider} required ON required.id = o.required_provider_id
LEFT JOIN {Grant} own ON own.id = %(grant)s AND own.user_id = %(user)s
LEFT JOIN {IdentityProvider} own_provider ON own_provider.slug = own.provider
LEFT JOIN {ApiKey} k ON k.organization_id = o.id AND o.token_source <> 'user' AND k.status <> 'revoked'
    AND k.verification IN ('accepted', 'unverified')
    AND (k.expires_at IS NULL OR k.expires_at > %(now)s) AND (k.retires_at IS NULL OR k.retires_at > %(now)s)
LEFT JOIN {Grant} of_key ON of_key.id = k.id
WHERE o.id = %(organization)s AND o.is_active
    AND EXISTS (SELECT 1 FROM {Membership} m WHERE m.organization_id = o.id AND m.user_id = %(user)s)
ORDER BY CASE k.verification WHEN 'accepted' THEN 0 ELSE 1 END, CASE k.status WHEN 'active' THEN 0 ELSE 1 END,
    k.created_at DESC, k.id DESC
"""


class _Query(NamedTuple):
    """The text for one database, and what turns Python's values into that database's."""

    text: str
    user: Callable[[object], Any]
    key: Callable[[uuid.UUID | None], Any]


@lru_cache(maxsize=8)
def _query(alias: str) -> _Query:
    connection = connections[alias]
    now = Grant.objects.using(alias).query.get_compiler(alias).compile(grants.Now())[0]
    tables = {
        model.__name__: connection.ops.quote_name(model._meta.db_table)
        for model in (Organization, IdentityProvider, Grant, ApiKey, Membership)
    }
    text = _SQL.format(
        own=_GRANT.format(g="own", now=now), of_key=_GRANT.format(g="of_key", now=now), now=now, **tables
    )
    user = Membership._meta.get_field("user").target_field
    return _Query(
        text=" ".join(text.split()),
        user=lambda pk: user.get_db_prep_value(pk, connection),
        key=lambda pk: None if pk is None else Grant._meta.pk.get_db_prep_value(pk, connection),
    )


def read(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> Reading | None:
    """Read one session's view of one organization; None where it is not active or the person is not a member.

    A grant that is another person's is not seen.

    Args:
        user_pk: who is logged in.
        grant_id: what the session names, or None for a session without a Partium login.
        organization_id: which organization.
    """
    alias = grants.alias()
    query = _query(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            query.text,
            {
                "user": query.user(user_pk),
                "grant": query.key(grant_id),
                "organization": query.key(organization_id),
                # A key's end is compared by this machine's clock, which wrote it: without USE_TZ in local time.
                "now": connections[alias].ops.adapt_datetimefield_value(timezone.now()),
            },
        )
        rows = cursor.fetchall()
    return _reading(rows, grant_id, organization_id) if rows else None


def _uuid(value: Any) -> uuid.UUID | None:
    return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(str(value))


def _ends_soon(moment: dt.datetime | str) -> bool:
    at = moment if isinstance(moment, dt.datetime) else dt.datetime.fromisoformat(moment)  # SQLite has no such type
    if settings.USE_TZ and timezone.is_naive(at):
        at = at.replace(tzinfo=dt.UTC)
    return at < timezone.now() + _ENTRY


def _snapshot(grant_id: uuid.UUID | None, columns: tuple[Any, ...]) -> Snapshot | None:
    if grant_id is None or columns[0] is None:
        return None
    return grants.snapshot_of((grant_id, *columns[:7], _uuid(columns[7]), *columns[8:]))


def _reading(rows: list[tuple[Any, ...]], grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> Reading:
    first = rows[0]
    own_snapshot = _snapshot(grant_id, first[_OWN:_OF_KEY])
    own = None
    if own_snapshot is not None:
        own = OwnGrant(
            snapshot=own_snapshot,
            provider_organization_id=_uuid(first[8]),
            provider_active=first[9] is None or bool(first[9]),
            authenticated_at=first[7],
        )
    keys, without_grant = [], []
    for row in rows:
        key_id = _uuid(row[4])
        snapshot = _snapshot(_uuid(row[-1]), row[_OF_KEY:-1])
        if snapshot is not None:
            keys.append(snapshot)
        elif key_id is not None:
            without_grant.append(key_id)
    return Reading(
        organization_id=organization_id,
        org_id=first[0],
        display_name=first[1],
        token_source=first[2],
        required_provider=first[3],
        own=own,
        keys=tuple(keys),
        keys_without_grant=tuple(without_grant),
        cacheable=not any(_ends_soon(end) for row in rows for end in row[5:7] if end is not None),
    )
