"""What one session may use, in one joined query: the organization, the session's own grant, the organization's keys.

The query is written out, not composed by the ORM, and its text is made once per database: a host site pays for it in
every request that asks for a token, and composing it would cost more than running it.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections, models
from django.utils import timezone

from partium_auth.models import ApiKey, Grant, IdentityProvider, Membership, Organization
from partium_auth.models.database import database_alias
from partium_auth.oidc.providers import DEFAULT
from partium_auth.tokens import grants
from partium_auth.tokens.grants import CachedGrant
from partium_auth.tokens.invalidation import ENTRY_SECONDS


class OwnGrant(NamedTuple):
    """The session's own grant, and what is known of the login it came from."""

    glance: CachedGrant
    provider: str
    provider_organization_id: uuid.UUID | None
    provider_active: bool
    authenticated_at: float | None


class SessionAccess(NamedTuple):
    """One session's view. Holds access tokens sealed, so it may be cached."""

    organization_id: uuid.UUID
    org_id: str
    display_name: str
    token_source: str
    required_provider: str | None
    own: OwnGrant | None
    keys: tuple[CachedGrant, ...]
    cacheable: bool


_OWN, _OF_KEY = 5, 17  # where the columns of the two grants begin

# Nobody may begin a renewal: the lease is held, or the next attempt is not due. Where neither is set, no clock is asked.
_RESTING = (
    "CASE WHEN {g}.lease_until IS NULL AND {g}.next_attempt_at IS NULL THEN FALSE "
    "ELSE COALESCE({g}.lease_until > {now}, FALSE) OR COALESCE({g}.next_attempt_at > {now}, FALSE) END"
)
_SQL = """
SELECT o.org_id, o.display_name, o.token_source, required.slug, k.id,
    own.kind, own.generation, own.access_token, own.issued_at, own.lifetime_seconds, FALSE, own.revoked_at IS NOT NULL,
    {own_resting},
    own.provider, own.authenticated_at, own_provider.organization_id, own_provider.is_active,
    of_key.kind, of_key.generation, of_key.access_token, of_key.issued_at, of_key.lifetime_seconds,
    CASE WHEN of_key.rejected_at IS NULL THEN FALSE ELSE of_key.next_attempt_at > {now} END, of_key.revoked_at IS NOT NULL,
    {of_key_resting}, k.expires_at, k.retires_at
FROM {Organization} o
LEFT JOIN {IdentityProvider} required ON required.id = o.required_provider_id
LEFT JOIN {Grant} own ON own.id = %(grant)s AND own.user_id = %(user)s
LEFT JOIN {IdentityProvider} own_provider ON own_provider.slug = own.provider
LEFT JOIN {ApiKey} k ON k.organization_id = o.id AND o.token_source <> 'user' AND k.status <> 'revoked'
    AND k.verification IN ('accepted', 'unverified')
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
    resting = {f"{g}_resting": _RESTING.format(g=g, now=now) for g in ("own", "of_key")}
    text = _SQL.format(now=now, **resting, **tables)
    user: Any = Membership._meta.get_field("user").target_field
    native = connection.features.has_native_uuid_field
    return _Query(
        text=" ".join(text.split()),
        # Asked for again: a connection is its thread's, and this outlives it.
        user=_as_it_is
        if isinstance(user, models.IntegerField)
        else lambda pk: user.get_db_prep_value(pk, connections[alias]),
        key=_as_it_is if native else lambda pk: None if pk is None else pk.hex,
    )


def _as_it_is(value: Any) -> Any:
    return value


def read(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> SessionAccess | None:
    """Read one session's view of one organization; None where it is not active or the person is not a member.

    A grant that is another person's is not seen.

    Args:
        user_pk: who is logged in.
        grant_id: what the session names, or None for a session without a Partium login.
        organization_id: which organization.
    """
    alias = database_alias()
    query = _query(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            query.text,
            {
                "user": query.user(user_pk),
                "grant": query.key(grant_id),
                "organization": query.key(organization_id),
            },
        )
        rows = cursor.fetchall()
    return _reading(rows, grant_id, organization_id, alias) if rows else None


def shows_what_is_committed() -> bool:
    """Tell whether :func:`read` shows what was committed last, and not what was there when the caller's transaction began.

    Such a reader would keep in the cache, under the stamps of today, what was revoked meanwhile.
    """
    connection: Any = connections[database_alias()]
    if not connection.in_atomic_block:
        return bool(connection.get_autocommit())  # without it nobody tells where a transaction begins
    if connection.vendor == "sqlite":
        return connection.transaction_mode in {"IMMEDIATE", "EXCLUSIVE"}  # nobody else writes meanwhile
    level = connection.isolation_level
    return getattr(level, "name", level) in {"READ_COMMITTED", "read committed"}


def _uuid(value: Any) -> uuid.UUID | None:
    return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(str(value))


def _seconds_left(ends: Iterable[dt.datetime | str | None], alias: str) -> float:
    """How long a key may still serve, by this machine's clock, which wrote when it ends."""
    told = [end for end in ends if end is not None]
    if not told:
        return math.inf
    # What a database keeps without a time zone is in its own; without USE_TZ that is the site's.
    zone = connections[alias].timezone or timezone.get_default_timezone()
    now = dt.datetime.now(dt.UTC)
    return min(_seconds_to(end, zone, now) for end in told)


def _seconds_to(moment: dt.datetime | str, zone: dt.tzinfo, now: dt.datetime) -> float:
    at = moment if isinstance(moment, dt.datetime) else dt.datetime.fromisoformat(moment)  # SQLite has no such type
    if timezone.is_naive(at):
        at = at.replace(tzinfo=zone)
    return (at - now).total_seconds()


_NO_TOKEN = (Grant.Kind.API_KEY, 0, None, None, 0, False, False, False)


def _glance(grant_id: uuid.UUID, columns: tuple[Any, ...]) -> CachedGrant:
    kind, generation, token, issued_at, lifetime_seconds, *flags = columns
    return CachedGrant(grant_id, kind, generation, token, issued_at, lifetime_seconds, *map(bool, flags))


def _reading(
    rows: list[tuple[Any, ...]], grant_id: uuid.UUID | None, organization_id: uuid.UUID, alias: str
) -> SessionAccess:
    first = rows[0]
    own = None
    if grant_id is not None and first[_OWN] is not None:
        provider, authenticated_at, provider_organization_id, provider_active = first[_OWN + 8 : _OF_KEY]
        own = OwnGrant(
            glance=_glance(grant_id, first[_OWN : _OWN + 8]),
            provider=provider,
            provider_organization_id=_uuid(provider_organization_id),
            # Without a row it can only be the provider of the settings, or none: a deleted one takes its bounds with it.
            provider_active=provider in {"", DEFAULT} if provider_active is None else bool(provider_active),
            authenticated_at=authenticated_at,
        )
    keys = []
    first_end = math.inf
    for row in rows:
        api_key_id = _uuid(row[4])
        if api_key_id is None:  # the one row of an organization without keys
            break
        seconds_left = _seconds_left(row[-2:], alias)
        if seconds_left <= 0:
            continue
        first_end = min(first_end, seconds_left)
        # A key without a grant has had no token yet.
        columns = row[_OF_KEY:-2] if row[_OF_KEY] is not None else _NO_TOKEN
        keys.append(_glance(api_key_id, columns))
    return SessionAccess(
        organization_id=organization_id,
        org_id=first[0],
        display_name=first[1],
        token_source=first[2],
        required_provider=first[3],
        own=own,
        keys=tuple(keys),
        # That somebody is renewing is not worth remembering: whoever believed it later would not renew.
        cacheable=first_end > ENTRY_SECONDS
        and not any(seen.resting for seen in (*keys, *([own.glance] if own else []))),
    )
