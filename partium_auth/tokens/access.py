"""What one session may use: its organization, its own grant, and the organization's API keys.

:func:`read` asks the database for all of it. :func:`recall` returns the last answer that this process has had, if one small query
by primary keys shows that nothing has changed since: the organization's version, and the grants' generations and ends.
"""

from __future__ import annotations

import time
import uuid
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Exists, OuterRef, QuerySet, Subquery, UUIDField

from partium_auth.models import Grant, IdentityProvider, Membership, Organization
from partium_auth.models.database import database_alias
from partium_auth.oidc.providers import DEFAULT
from partium_auth.tokens import keys, state
from partium_auth.tokens.database_clock import database_clock
from partium_auth.tokens.keys import UsableKeys
from partium_auth.tokens.memo import Memo
from partium_auth.tokens.state import GrantState
from partium_auth.tokens.statements import Parameter, Statement, compiled, side_by_side

REMEMBERED = 4096
"""How many answers a process remembers."""
LOGINS_CONSIDERED = 50
"""How many of a person's logins a job looks at."""


class OwnGrant(NamedTuple):
    """The session's own grant, and what is known of the login it came from."""

    state: GrantState
    provider_organization_id: uuid.UUID | None
    provider_active: bool
    authenticated_at: float | None
    session_key_digest: str


class SessionAccess(NamedTuple):
    """What one session may use. Holds access tokens sealed."""

    organization_id: uuid.UUID
    org_id: str
    display_name: str
    token_source: str
    required_provider: str | None
    version: int
    names_grant: bool
    own: OwnGrant | None
    keys: UsableKeys

    @property
    def organization(self) -> Organization:
        """The organization, as a new instance."""
        fields = ["id", "org_id", "display_name", "token_source", "is_active"]
        values = [self.organization_id, self.org_id, self.display_name, self.token_source, True]
        return Organization.from_db(database_alias(), fields, values)

    @property
    def candidates(self) -> tuple[GrantState, ...]:
        """The grants whose tokens may serve, the first one first."""
        if self.token_source == Organization.TokenSource.USER:
            return () if self.own is None else (self.own.state,)
        return self.keys.candidates


_ORGANIZATION_COLUMNS = ("org_id", "display_name", "token_source", "required_provider__slug", "version")
_OWN_COLUMNS = (
    *state.COLUMNS,
    "authenticated_at",
    "_provider_organization",
    "_provider_active",
    "session_key_digest",
    "_now",
)


@lru_cache(maxsize=8)
def _statement(alias: str, *, newest: bool = False) -> Statement:
    """Select an organization beside one grant of a person, or beside each of the newest living ones."""
    organization = Parameter("organization", Organization._meta.pk)
    user = Parameter("user", Membership._meta.get_field("user").target_field)
    memberships = Membership.objects.filter(organization_id=OuterRef("pk"), user_id=user)
    organizations = Organization.objects.using(alias).filter(Exists(memberships), pk=organization, is_active=True)
    own = _logins(alias).filter(user_id=user)
    if newest:
        own = own.filter(revoked_at=None, rejected_at=None).order_by("-created_at", "-pk")
    else:
        own = own.filter(pk=Parameter("grant", Grant._meta.pk))
    columns = own.values_list(*_OWN_COLUMNS)
    return side_by_side(
        compiled(organizations.order_by().values_list(*_ORGANIZATION_COLUMNS), alias),
        compiled(columns[:LOGINS_CONSIDERED] if newest else columns, alias),
    )


def _logins(alias: str) -> QuerySet[Grant]:
    providers = IdentityProvider.objects.filter(slug=OuterRef("provider"))
    return state.annotated(Grant.objects.using(alias)).annotate(
        _provider_organization=Subquery(providers.values("organization_id"), output_field=UUIDField()),
        _provider_active=Subquery(providers.values("is_active")),
    )


def read_login(user_pk: Any, grant_id: uuid.UUID) -> OwnGrant | None:
    """Read the grant that a session names; None where it is gone, or another person's."""
    found = _logins(database_alias()).filter(pk=grant_id, user_id=user_pk)
    row = found.values_list(*_OWN_COLUMNS).first()
    return None if row is None else _own(row)


def read(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> SessionAccess | None:
    """Read what a session may use of one organization; None where it is not active or the person is not a member.

    A grant that is another person's is not seen.

    Args:
        grant_id: what the session names, or None for a session without a Partium login.
    """
    alias = database_alias()
    asked_at = time.time()
    rows = _statement(alias).run(alias, user=user_pk, grant=grant_id, organization=organization_id)
    if not rows:
        return None
    database_clock.note(rows[0][-1], asked_at)
    access = _access(organization_id, rows[0], names_grant=grant_id is not None)
    _remember((alias, user_pk, grant_id, organization_id), access)
    return access


def read_newest(user_pk: object, organization_id: uuid.UUID) -> list[SessionAccess]:
    """Read what a person's newest living logins may use of one organization, the newest first; at most :data:`LOGINS_CONSIDERED`.

    Without a living login there is one answer without a login.
    """
    alias = database_alias()
    rows = _statement(alias, newest=True).run(alias, user=user_pk, organization=organization_id)
    # A join does not promise the order of what it joins.
    return sorted((_access(organization_id, row, names_grant=True) for row in rows), key=_login_time, reverse=True)


def _login_time(access: SessionAccess) -> float:
    return (access.own.authenticated_at if access.own else None) or 0.0


def _access(organization_id: uuid.UUID, row: tuple[Any, ...], *, names_grant: bool) -> SessionAccess:
    split = len(_ORGANIZATION_COLUMNS)
    org_id, display_name, token_source, required_provider, version = row[:split]
    by_key = token_source != Organization.TokenSource.USER
    return SessionAccess(
        organization_id=organization_id,
        org_id=org_id,
        display_name=display_name,
        token_source=token_source,
        required_provider=required_provider,
        version=version,
        names_grant=names_grant,
        own=_own(row[split:]),
        # Read after the version: if keys change in between, they are remembered with a version that is outdated already.
        keys=keys.read(organization_id) if by_key else UsableKeys(),
    )


def _own(row: tuple[Any, ...]) -> OwnGrant | None:
    if row[0] is None:
        return None
    *columns, authenticated_at, provider_organization_id, provider_active, session_key_digest, _now = row
    seen = state.from_columns(tuple(columns))
    # Without a row only the provider of the settings can be active, or a login that has no provider.
    active = seen.provider in {"", DEFAULT} if provider_active is None else provider_active
    return OwnGrant(seen, provider_organization_id, active, authenticated_at, session_key_digest)


# --- what this process remembers -----------------------------------------------------------------------------------


class _Remembered(NamedTuple):
    """An answer, the statement that tells whether it is still right, and what that returns if so."""

    access: SessionAccess
    statement: str
    parameters: list[Any]
    unchanged: tuple[Any, ...]


_memo: Memo[_Remembered] = Memo(REMEMBERED)


def forget_all() -> None:
    """Forget what this process remembers; for tests."""
    _memo.clear()


def recall(
    user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID, *, now: float
) -> SessionAccess | None:
    """Return what this process has read before, if it is still so; None where it has to be read.

    A reader inside a transaction may remember what is rolled back. That does no harm: the remembered version is random, so no
    reader will find it in the database.
    """
    alias = database_alias()
    remembered = _memo.get((alias, user_pk, grant_id, organization_id))
    if remembered is None or now >= remembered.access.keys.until:
        return None
    with connections[alias].cursor() as cursor:
        cursor.execute(remembered.statement, remembered.parameters)
        row = cursor.fetchone()
    return remembered.access if row is not None and tuple(row) == remembered.unchanged else None


def _remember(key: tuple[Any, ...], access: SessionAccess) -> None:
    alias = key[0]
    # The grants that the answer depends on: the session's own, and the one that serves.
    own = [] if access.own is None else [access.own.state]
    watched = [*own, *access.keys.candidates[:1]]
    if any(seen.busy or seen.waiting for seen in watched):
        return  # never remember that somebody refreshes: a stale "busy" would suppress refreshes
    pk = Grant._meta.pk
    ids = [*(seen.grant_id for seen in watched), access.organization_id]
    # After a roll-back the same generation is used again, but with another issued_at.
    marks = [(seen.generation, seen.issued_at, seen.rejected, seen.revoked) for seen in watched]
    _memo.put(
        key,
        _Remembered(
            access,
            _unchanged_sql(alias, len(watched)),
            [pk.get_db_prep_value(value, connections[alias]) for value in ids],
            (access.version, *(value for mark in marks for value in mark)),
        ),
    )


@lru_cache(maxsize=16)
def _unchanged_sql(alias: str, grants: int) -> str:
    quote = connections[alias].ops.quote_name
    columns = ["o.version"]
    joins = []
    for n in range(grants):
        columns += [
            f"g{n}.generation",
            f"g{n}.issued_at",
            f"g{n}.rejected_at IS NOT NULL",
            f"g{n}.revoked_at IS NOT NULL",
        ]
        joins.append(f"LEFT JOIN {quote(Grant._meta.db_table)} g{n} ON g{n}.id = %s")
    table = quote(Organization._meta.db_table)
    return f"SELECT {', '.join(columns)} FROM {table} o {' '.join(joins)} WHERE o.id = %s"  # noqa: S608
