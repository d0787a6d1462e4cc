"""What one session may use: its organization, its own grant, and the organization's API keys.

:func:`read` asks the database for all of it. :func:`recall` returns the last answer that this process has had, if one small query
by primary keys shows that nothing has changed since: the organization's version, and the grants' generations and ends.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections, models
from django.db.models import Exists, Expression, OuterRef, QuerySet, Subquery

from partium_auth.models import Grant, IdentityProvider, Membership, Organization
from partium_auth.models.database import database_alias
from partium_auth.oidc.providers import DEFAULT
from partium_auth.tokens import keys, state
from partium_auth.tokens.keys import ServingKeys
from partium_auth.tokens.memo import Memo
from partium_auth.tokens.state import GrantState

REMEMBERED = 4096
"""How many answers a process remembers."""


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
    keys: ServingKeys

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


class _Parameter(Expression):
    """A value that is given when the compiled statement runs."""

    def __init__(self, name: str, field: models.Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class _Statement(NamedTuple):
    """The access query of one database, and what makes its parameters of Python's values."""

    text: str
    parameters: tuple[Any, ...]
    prepare: Callable[[str, Any], Any]

    def run(self, alias: str, **values: Any) -> tuple[Any, ...] | None:
        prepared = {name: self.prepare(name, value) for name, value in values.items()}
        with connections[alias].cursor() as cursor:
            cursor.execute(self.text, [prepared[p.name] if isinstance(p, _Parameter) else p for p in self.parameters])
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row


_ORGANIZATION_COLUMNS = ("org_id", "display_name", "token_source", "required_provider__slug", "version")
_OWN_COLUMNS = (*state.COLUMNS, "authenticated_at", "_provider_organization", "_provider_active", "session_key_digest")


@lru_cache(maxsize=8)
def _statement(alias: str) -> _Statement:
    """Compile the access query. Once per database: composing it costs more than running it."""
    fields: dict[str, models.Field[Any, Any]] = {
        "organization": Organization._meta.pk,
        "grant": Grant._meta.pk,
        "user": Membership._meta.get_field("user").target_field,
    }
    organization, grant, user = (_Parameter(name, field) for name, field in fields.items())
    memberships = Membership.objects.filter(organization_id=OuterRef("pk"), user_id=user)
    organizations = Organization.objects.using(alias).filter(Exists(memberships), pk=organization, is_active=True)
    providers = IdentityProvider.objects.filter(slug=OuterRef("provider"))
    own = state.annotated(Grant.objects.using(alias).filter(pk=grant, user_id=user)).annotate(
        _provider_organization=Subquery(providers.values("organization_id")),
        _provider_active=Subquery(providers.values("is_active")),
    )
    first, first_parameters = _compiled(organizations.order_by().values_list(*_ORGANIZATION_COLUMNS), alias)
    second, second_parameters = _compiled(own.values_list(*_OWN_COLUMNS), alias)

    def prepare(name: str, value: Any) -> Any:
        # The connection is asked for again: it is its thread's, and this outlives it.
        return None if value is None else fields[name].get_db_prep_value(value, connections[alias])

    text = f"SELECT o.*, own.* FROM ({first}) o LEFT JOIN ({second}) own ON 1 = 1"  # noqa: S608  # both are the ORM's
    return _Statement(text, (*first_parameters, *second_parameters), prepare)


def _compiled(rows: QuerySet[Any, Any], alias: str) -> tuple[str, tuple[Any, ...]]:
    text, parameters = rows.query.get_compiler(alias).as_sql()
    return text, tuple(parameters)


def read(user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID) -> SessionAccess | None:
    """Read what a session may use of one organization; None where it is not active or the person is not a member.

    A grant that is another person's is not seen.

    Args:
        user_pk: who is logged in.
        grant_id: what the session names, or None for a session without a Partium login.
        organization_id: which organization.
    """
    alias = database_alias()
    row = _statement(alias).run(alias, user=user_pk, grant=grant_id, organization=organization_id)
    if row is None:
        return None
    split = len(_ORGANIZATION_COLUMNS)
    org_id, display_name, token_source, required_provider, version = row[:split]
    by_key = token_source != Organization.TokenSource.USER
    access = SessionAccess(
        organization_id=organization_id,
        org_id=org_id,
        display_name=display_name,
        token_source=token_source,
        required_provider=required_provider,
        version=version,
        names_grant=grant_id is not None,
        own=_own(row[split:]),
        # After the version: keys that change in between are remembered with the version from before, which is no longer the row's.
        keys=keys.read(organization_id) if by_key else ServingKeys(),
    )
    if not any(
        seen.busy or seen.waiting for seen in _watched(access)
    ):  # that somebody refreshes must not be remembered
        _memo.put((alias, user_pk, grant_id, organization_id), access)
    return access


def _own(row: tuple[Any, ...]) -> OwnGrant | None:
    if row[0] is None:
        return None
    *columns, authenticated_at, provider_organization_id, provider_active, session_key_digest = row
    seen = state.from_columns(tuple(columns))
    if provider_organization_id is not None and not isinstance(provider_organization_id, uuid.UUID):
        provider_organization_id = uuid.UUID(provider_organization_id)
    # Without a row it can only be the provider of the settings, or none: a deleted one takes its bounds with it.
    active = seen.provider in {"", DEFAULT} if provider_active is None else bool(provider_active)
    return OwnGrant(seen, provider_organization_id, active, authenticated_at, session_key_digest)


# --- what this process remembers -----------------------------------------------------------------------------------

_memo: Memo[SessionAccess] = Memo(REMEMBERED)


def forget_all() -> None:
    """Forget what this process remembers; for tests."""
    _memo.clear()


def recall(
    user_pk: object, grant_id: uuid.UUID | None, organization_id: uuid.UUID, *, now: float
) -> SessionAccess | None:
    """Return what this process has read before, if it is still so; None where it has to be read.

    A reader inside a transaction may remember what is rolled back. It does no harm: the version that it remembers with it is
    random, so no other reader will ever find it in the database.

    Args:
        user_pk, grant_id, organization_id: as :func:`read`.
        now: seconds since the epoch.
    """
    alias = database_alias()
    access = _memo.get((alias, user_pk, grant_id, organization_id))
    if access is None or now >= access.keys.until:
        return None
    watched = _watched(access)
    pk = Grant._meta.pk
    ids = [
        pk.get_db_prep_value(value, connections[alias]) for value in (*(s.grant_id for s in watched), organization_id)
    ]
    with connections[alias].cursor() as cursor:
        cursor.execute(_unchanged_sql(alias, len(watched)), ids)
        row = cursor.fetchone()
    return access if row is not None and tuple(row) == _mark(access.version, watched) else None


def _watched(access: SessionAccess) -> list[GrantState]:
    """The grants that an answer depends on: the session's own, and the one that serves."""
    own = [] if access.own is None else [access.own.state]
    return own if access.token_source == Organization.TokenSource.USER else [*own, *access.keys.candidates[:1]]


def _mark(version: int, watched: list[GrantState]) -> tuple[Any, ...]:
    # A generation that was rolled back comes again, but not with the same moment of issue.
    marks = ((seen.generation, seen.issued_at, seen.rejected, seen.revoked) for seen in watched)
    return version, *(value for mark in marks for value in mark)


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
