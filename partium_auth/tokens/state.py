"""What is known of a grant at one moment, and the access token that is served of it."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now as _Now

from partium_auth.conf import conf
from partium_auth.fields import Sealed, context, sealed_with
from partium_auth.models import ApiKey, Grant
from partium_auth.models.database import database_alias
from partium_auth.sealed import encryption
from partium_auth.tokens import windows
from partium_auth.tokens.database_clock import SecondsNow, database_clock
from partium_auth.tokens.statements import Parameter, Statement, compiled

if TYPE_CHECKING:
    from partium_auth.models import Organization
    from partium_auth.tokens.access import SessionAccess

PARTIUM = "partium"
"""Partium's name as an upstream."""


def upstream_name(provider: str) -> str:
    """Return the name of an identity provider as an upstream."""
    return f"oidc:{provider}"


class Now(_Now):
    """The database's clock. In UTC everywhere: a time zone with summer time would stretch leases by an hour, once a year."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


class GrantState(NamedTuple):
    """All that is known of a grant at one moment. Holds the access token sealed."""

    grant_id: uuid.UUID
    kind: str
    provider: str = ""
    generation: int = 0
    token: str | None = None
    issued_at: float | None = None
    lifetime_seconds: int = 0
    reusable: bool = False
    refreshable: bool = False
    sent: bool = False
    busy: bool = False
    waiting: bool = False
    rejected: bool = False
    revoked: bool = False
    bound_to: str = ""

    @property
    def upstream(self) -> str:
        """The upstream that refreshes it; each has threads of its own."""
        return upstream_name(self.provider) if self.kind == Grant.Kind.OIDC else PARTIUM

    @property
    def outcome_unknown(self) -> bool:
        """Whether a refresh was sent and nobody knows what came of it."""
        return self.sent and not self.busy

    @property
    def refused(self) -> bool:
        """Whether the upstream refuses the credential now. A key is tried again when its next attempt is due."""
        return self.rejected and (self.waiting or self.kind != Grant.Kind.API_KEY)

    def window(self, now: float) -> windows.Window:
        """The window the access token is in; UNUSABLE where there is none."""
        if self.token is None or self.issued_at is None:
            return windows.Window.UNUSABLE
        jitter = windows.jitter_of(self.grant_id.int, self.generation)
        return windows.window(self.lifetime_seconds, now - self.issued_at, jitter)

    def fresh_until(self) -> float:
        """When the fresh window ends, in seconds since the epoch."""
        jitter = windows.jitter_of(self.grant_id.int, self.generation)
        advisory_seconds = windows.thresholds(self.lifetime_seconds, jitter).advisory_seconds
        return (self.issued_at or 0.0) + self.lifetime_seconds - advisory_seconds

    def seconds_left(self, now: float) -> float:
        """Seconds until the access token expires; 0 where there is none."""
        return 0.0 if self.issued_at is None else max(0.0, self.issued_at + self.lifetime_seconds - now)

    def access_token(self) -> AccessToken:
        """Open the access token. Raises EncryptionError where it does not open."""
        return _opened(conf.encryption_keys, self)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A usable access token. Its ``repr`` does not show it.

    Attributes:
        value: the bearer.
        grant_id: the grant that it was obtained with.
        generation: which of the grant's tokens it is.
        expires_at_seconds: by the database's clock, in seconds since the epoch.
        fresh_until: when its fresh window ends, by the database's clock, in seconds since the epoch.
        access: of the session that it was obtained for; None: it was obtained without a session.
    """

    value: str = field(repr=False)
    grant_id: uuid.UUID
    generation: int
    expires_at_seconds: float
    fresh_until: float
    access: SessionAccess | None = field(default=None, repr=False)

    @property
    def expires_at(self) -> dt.datetime:
        """When it expires, by this machine's clock."""
        return dt.datetime.fromtimestamp(database_clock.to_local(self.expires_at_seconds), tz=dt.UTC)

    @property
    def organization(self) -> Organization:
        """The session's active organization, which it was obtained for."""
        if self.access is None:
            raise AttributeError("This access token was obtained without a session.")
        return self.access.organization

    def of_session(self, access: SessionAccess) -> AccessToken:
        """Return the same token, obtained for a session."""
        return AccessToken(
            self.value, self.grant_id, self.generation, self.expires_at_seconds, self.fresh_until, access
        )


def _context_of_token(seen: GrantState) -> str:
    values = {"kind": seen.kind, "provider": seen.provider, "bound_to": seen.bound_to}
    names = sealed_with(Grant, "access_token")
    return context(Grant._meta.label_lower, seen.grant_id, "access_token", (values[name] for name in names))


@lru_cache(maxsize=1024)
def _opened(encryption_keys: tuple[str, ...], seen: GrantState) -> AccessToken:
    """Open an access token. It is cached in memory, which holds the encryption keys anyway."""
    assert seen.token is not None  # noqa: S101  # callers look at the window first
    return AccessToken(
        value=encryption.unseal(seen.token, _context_of_token(seen)),
        grant_id=seen.grant_id,
        generation=seen.generation,
        expires_at_seconds=(seen.issued_at or 0.0) + seen.lifetime_seconds,
        fresh_until=seen.fresh_until(),
    )


COLUMNS = (
    "id",
    "kind",
    "provider",
    "generation",
    "access_token",
    "issued_at",
    "lifetime_seconds",
    "reusable",
    "_refreshable",
    "_sent",
    "_busy",
    "_waiting",
    "_rejected",
    "_revoked",
    "bound_to",
)
"""What :func:`from_columns` needs of a row of :func:`annotated`."""


def annotated(rows: QuerySet[Grant]) -> QuerySet[Grant]:
    """Add what the :data:`COLUMNS` need. Lease and next attempt are compared by the database's clock."""
    return rows.annotate(
        _refreshable=_is(Q(refresh_token__isnull=False) | Q(api_key__isnull=False)),
        _sent=_is(Q(sent_at__isnull=False)),
        _busy=_is(Q(lease_until__gt=Now())),
        _waiting=_is(Q(next_attempt_at__gt=Now())),
        _rejected=_is(Q(rejected_at__isnull=False)),
        _revoked=_is(Q(revoked_at__isnull=False)),
        _now=SecondsNow(),
    )


def _is(condition: Q) -> ExpressionWrapper[Q]:
    return ExpressionWrapper(condition, output_field=BooleanField())


def from_columns(row: Sequence[Any]) -> GrantState:
    """Make a state of a row's :data:`COLUMNS`."""
    grant_id, kind, provider, generation, token, issued_at, lifetime_seconds, reusable, *flags = row
    text = token.text if isinstance(token, Sealed) else None
    reusable = reusable or kind == Grant.Kind.API_KEY
    return GrantState(grant_id, kind, provider, generation, text, issued_at, lifetime_seconds, reusable, *flags)


def read(grant_id: uuid.UUID) -> GrantState | None:
    """Read one grant; None where it is gone. A key's is there as long as the key, though its first refresh makes the row."""
    for seen in read_all([grant_id]):
        return seen
    return _without_row(grant_id) if ApiKey.objects.using(database_alias()).filter(pk=grant_id).exists() else None


def read_all(grant_ids: Sequence[uuid.UUID]) -> list[GrantState]:
    """Read some grants, in the order in which they are named; those that are not there are left out."""
    alias = database_alias()
    ids = {f"id{n}": grant_id for n, grant_id in enumerate(grant_ids)}
    asked_at = time.time()
    rows = _statement(alias, len(ids)).run(alias, **ids)
    if rows:
        database_clock.note(rows[0][-1], asked_at)
    found = {row[0]: from_columns(row[:-1]) for row in rows}
    return [found[grant_id] for grant_id in grant_ids if grant_id in found]


@lru_cache(maxsize=32)
def _statement(alias: str, grants: int) -> Statement:
    ids: list[Any] = [Parameter(f"id{n}", Grant._meta.pk) for n in range(grants)]
    return compiled(annotated(Grant.objects.using(alias).filter(pk__in=ids)).values_list(*COLUMNS, "_now"), alias)


def read_keys(api_key_ids: Sequence[uuid.UUID]) -> list[GrantState]:
    """Read the grants of some API keys, in this order. One that is not there yet is made by its first refresh."""
    found = {seen.grant_id: seen for seen in read_all(api_key_ids)}
    return [found.get(api_key_id) or _without_row(api_key_id) for api_key_id in api_key_ids]


def _without_row(api_key_id: uuid.UUID) -> GrantState:
    return GrantState(api_key_id, Grant.Kind.API_KEY, reusable=True, refreshable=True)
