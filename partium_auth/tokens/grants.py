"""The rows of grants: opened at login, read as snapshots, changed by compare-and-swap only.

Every change here is one ``UPDATE`` whose ``WHERE`` names the generation it was based on; the number of rows it changed
tells whether it took place. No transaction is held open between two of them.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import uuid
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from django.conf import settings
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Now as _Now
from django.utils import timezone

from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError
from partium_auth.fields import Sealed, seal
from partium_auth.models import ApiKey, Grant
from partium_auth.models.database import database_alias
from partium_auth.sealed import encryption
from partium_auth.tokens import invalidation, windows

if TYPE_CHECKING:
    from partium_auth.partium.token_response import TokenResponse
    from partium_auth.tokens.verified_login import VerifiedLogin

logger = logging.getLogger("partium_auth.tokens")

IN_SESSION = "_partium_grant"
"""Under this name a session holds the id of its grant."""
_BATCH = 1000  # databases limit the parameters of one statement
LEASE_SECONDS = 30.0
"""How long nobody else may renew. Longer than the send deadline and the exchange together (5 + 8 s)."""


class Now(_Now):
    """The database's clock. In UTC everywhere: a time zone with summer time would stretch leases by an hour, once a year."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


class _Token(Protocol):
    """An access token as it was read: sealed, and with its times."""

    @property
    def grant_id(self) -> uuid.UUID: ...
    @property
    def generation(self) -> int: ...
    @property
    def token(self) -> str | None: ...
    @property
    def issued_at(self) -> float | None: ...
    @property
    def lifetime_seconds(self) -> int: ...


class _TokenLife:
    """What follows from an access token's times, whoever has read them."""

    __slots__ = ()

    def window(self: _Token, now: float) -> windows.Window:
        """The window the access token is in; UNUSABLE where there is none."""
        if self.token is None or self.issued_at is None:
            return windows.Window.UNUSABLE
        jitter = windows.jitter_of(self.grant_id.int, self.generation)
        return windows.window(self.lifetime_seconds, now - self.issued_at, jitter)

    def fresh_until(self: _Token) -> float:
        """When the fresh window ends, in seconds since the epoch."""
        jitter = windows.jitter_of(self.grant_id.int, self.generation)
        advisory_seconds = windows.thresholds(self.lifetime_seconds, jitter).advisory_seconds
        return (self.issued_at or 0.0) + self.lifetime_seconds - advisory_seconds

    def seconds_left(self: _Token, now: float) -> float:
        """Seconds until the access token expires; 0 where there is none."""
        return 0.0 if self.issued_at is None else max(0.0, self.issued_at + self.lifetime_seconds - now)

    def reveal(self: _Token) -> str:
        """Open the access token. Raises EncryptionError where it does not open."""
        assert self.token is not None  # noqa: S101  # callers look at the window first
        return _open(conf.encryption_keys, self.token, self.grant_id)


class _CachedGrantFields(NamedTuple):
    grant_id: uuid.UUID
    kind: str
    generation: int
    token: str | None
    issued_at: float | None
    lifetime_seconds: int
    rejected: bool
    revoked: bool
    resting: bool


class _GrantStateFields(NamedTuple):
    grant_id: uuid.UUID
    kind: str
    provider: str = ""
    generation: int = 0
    token: str | None = None
    issued_at: float | None = None
    lifetime_seconds: int = 0
    reusable: bool = False
    renewable: bool = False
    sent: bool = False
    busy: bool = False
    waiting: bool = False
    rejected: bool = False
    revoked: bool = False


class GrantState(_GrantStateFields, _TokenLife):
    """All that is known of a grant at one moment. Holds the access token sealed."""

    __slots__ = ()

    @property
    def lane(self) -> str:
        """The upstream that renews it; each has threads of its own."""
        return f"oidc:{self.provider}" if self.kind == Grant.Kind.OIDC else "partium"

    @property
    def outcome_unknown(self) -> bool:
        """A renewal was sent and nobody knows what came of it."""
        return self.sent and not self.busy


class CachedGrant(_CachedGrantFields, _TokenLife):
    """What a reader has to know of a grant to serve its token while it is fresh. Holds the access token sealed.

    What to do when it is not fresh is decided by a :class:`GrantState`.
    """

    __slots__ = ()

    def as_if_renewing(self) -> GrantState:
        """A snapshot for when the database cannot be asked: what is there is served, and somebody else renews it."""
        known = self._asdict()
        del known["resting"]
        return GrantState(**known, renewable=True, busy=True)


@lru_cache(maxsize=1024)
def _open(encryption_keys: tuple[str, ...], token: str, grant_id: uuid.UUID) -> str:
    """Open an access token, or remember it: a session's next request often comes to the same process.

    What is remembered tells a reader of this process's memory nothing that the keys, which are there too, do not.
    """
    return encryption.unseal(token, f"partium_auth.grant:{grant_id}:access_token")


_COLUMNS = (
    "id",
    "kind",
    "provider",
    "generation",
    "access_token",
    "issued_at",
    "lifetime_seconds",
    "reusable",
    "_renewable",
    "_sent",
    "_busy",
    "_waiting",
    "_rejected",
    "_revoked",
)


def _is(condition: Q) -> ExpressionWrapper[Q]:
    return ExpressionWrapper(condition, output_field=BooleanField())


def _snapshot(row: tuple[Any, ...]) -> GrantState:
    (grant_id, kind, provider, generation, token, issued_at, lifetime, reusable, *flags) = row
    renewable, sent, busy, waiting, rejected, revoked = map(bool, flags)
    if kind == Grant.Kind.API_KEY:
        # A rejected key is remembered until its next attempt is due, then it may be tried again.
        rejected = rejected and waiting
    return GrantState(
        grant_id=grant_id,
        kind=kind,
        provider=provider,
        generation=generation,
        token=token.text if isinstance(token, Sealed) else token,
        issued_at=issued_at,
        lifetime_seconds=lifetime,
        reusable=bool(reusable) or kind == Grant.Kind.API_KEY,
        renewable=renewable,
        sent=sent,
        busy=busy,
        waiting=waiting,
        rejected=rejected,
        revoked=revoked,
    )


def read(grant_id: uuid.UUID) -> GrantState | None:
    """Read one grant; None where it is gone. A key's is there as long as the key, though its first renewal makes the row."""
    for seen in read_all([grant_id]):
        return seen
    return _not_begun(grant_id) if ApiKey.objects.using(database_alias()).filter(pk=grant_id).exists() else None


def read_all(grant_ids: Sequence[uuid.UUID]) -> list[GrantState]:
    """Read some grants, in the order in which they are named; those that are not there are left out.

    Lease and next attempt are judged by the database's clock.
    """
    rows = _rows().filter(pk__in=grant_ids)
    annotated = rows.annotate(
        _renewable=_is(Q(refresh_token__isnull=False) | Q(api_key__isnull=False)),
        _sent=_is(Q(sent_at__isnull=False)),
        _busy=_is(Q(lease_until__gt=Now())),
        _waiting=_is(Q(next_attempt_at__gt=Now())),
        _rejected=_is(Q(rejected_at__isnull=False)),
        _revoked=_is(Q(revoked_at__isnull=False)),
    )
    found = {row[0]: _snapshot(row) for row in annotated.values_list(*_COLUMNS)}
    return [found[grant_id] for grant_id in grant_ids if grant_id in found]


def read_keys(api_key_ids: Sequence[uuid.UUID]) -> list[GrantState]:
    """Read the grants of some API keys, in this order. One that is not there yet is made by its first renewal."""
    found = {seen.grant_id: seen for seen in read_all(api_key_ids)}
    return [found.get(api_key_id) or _not_begun(api_key_id) for api_key_id in api_key_ids]


def _not_begun(api_key_id: uuid.UUID) -> GrantState:
    return GrantState(api_key_id, Grant.Kind.API_KEY, reusable=True, renewable=True)


def _rows() -> QuerySet[Grant]:
    return Grant.objects.using(database_alias())


# --- opening and ending --------------------------------------------------------------------------------------------


def open_grant(login: VerifiedLogin, session_key: str) -> Grant:
    """Store the grant of a login that succeeded.

    Args:
        login: with its user.
        session_key: Django's, of the session it belongs to.

    Raises:
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    grant = Grant(
        kind=login.kind,
        user_id=login.user.pk,
        provider=login.provider.slug if login.provider is not None else "",
        identity=login.identity,
        session_id=login.session_id,
        reusable=login.provider is not None and login.provider.refresh_tokens_reusable,
        authenticated_at=timezone.now().timestamp(),
    )
    grant.session_key = seal(grant, "session_key", session_key)
    if login.tokens is not None:
        if login.tokens.id_token:
            grant.id_token = seal(grant, "id_token", login.tokens.id_token)
        grant.access_token = seal(grant, "access_token", login.tokens.access_token)
        if login.tokens.refresh_token:
            grant.refresh_token = seal(grant, "refresh_token", login.tokens.refresh_token)
        grant.issued_at = login.issued_at.timestamp()
        grant.lifetime_seconds = login.tokens.lifetime_seconds
        grant.generation = 1
        grant.renewed_at = timezone.now()
    grant.save(force_insert=True, using=database_alias())
    return grant


def for_key(api_key_id: uuid.UUID) -> Grant:
    """Return a key's grant, made when the key is added, or by its first renewal. Its id is the key's: readers join them by it."""
    values = {"api_key_id": api_key_id, "kind": Grant.Kind.API_KEY, "reusable": True}
    grant, _ = _rows().get_or_create(pk=api_key_id, defaults=values)
    return grant


def revoke(grants: QuerySet[Grant], *, delete_sessions: bool = False) -> int:
    """Revoke grants and forget their tokens: nothing is handed out or stored for them any more, in any process.

    Args:
        grants: which ones; those that are revoked already are left alone.
        delete_sessions: delete the Django sessions they belong to as well, so that those are logged out.

    Returns:
        How many were revoked.
    """
    open_ = grants.using(database_alias()).filter(revoked_at__isnull=True).select_related("api_key")
    rows = list(open_.only("pk", "user_id", "session_key", "api_key__organization_id"))
    changed = 0
    for start in range(0, len(rows), _BATCH):
        ended = _rows().filter(pk__in=[row.pk for row in rows[start : start + _BATCH]])
        changed += ended.update(revoked_at=timezone.now(), access_token=None, refresh_token=None, id_token=None)
    transaction.on_commit(lambda: invalidation.distrust_grants(rows), using=database_alias())
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


# --- the lease ------------------------------------------------------------------------------------------------------


def take_lease(grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID) -> bool:
    """Take the right to renew one generation, for :data:`LEASE_SECONDS` by the database's clock."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=Now())
    due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=Now())
    changed = _rows().filter(free, due, pk=grant_id, generation=generation, revoked_at__isnull=True)
    return bool(changed.update(lease_id=lease_id, lease_until=Now() + dt.timedelta(seconds=LEASE_SECONDS)))


def mark_sent(grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID) -> bool:
    """Write down that the request is about to be sent, if the lease is still held."""
    held = _rows().filter(
        pk=grant_id, generation=generation, lease_id=lease_id, lease_until__gt=Now(), revoked_at__isnull=True
    )
    return bool(held.update(sent_at=Now()))


def commit(
    grant: Grant,
    tokens: TokenResponse,
    issued_at: float,
    *,
    generation: int,
    reusable: bool | None = None,
    pause_seconds: float | None = None,
) -> bool:
    """Store renewed tokens, if the generation is still the one they renewed and the grant neither revoked nor rejected.

    Whoever holds the lease: an answer that arrives late is still the newest there is.

    Args:
        grant: as it was when the request was sent.
        tokens: what came back.
        issued_at: just before the request was sent, in seconds since the epoch.
        generation: what they replace.
        reusable: whether the refresh token was seen to allow being sent twice; None: as before.
        pause_seconds: until the next renewal may begin; None: whenever it is due.
    """
    values: dict[str, Any] = {
        "access_token": seal(grant, "access_token", tokens.access_token),
        "issued_at": issued_at,
        "lifetime_seconds": tokens.lifetime_seconds,
        "generation": generation + 1,
        "lease_id": None,
        "lease_until": None,
        "sent_at": None,
        "next_attempt_at": None if pause_seconds is None else Now() + dt.timedelta(seconds=pause_seconds),
        "failures": 0,
        "renewed_at": timezone.now(),
    }
    current = _rows().filter(pk=grant.pk, generation=generation, revoked_at__isnull=True)
    if grant.kind == Grant.Kind.API_KEY:
        values["rejected_at"] = None  # the key's refresh token is not kept: the key itself is exchanged again
    else:
        current = current.filter(rejected_at__isnull=True)
        if tokens.refresh_token:
            values["refresh_token"] = seal(grant, "refresh_token", tokens.refresh_token)
        if reusable is not None:
            values["reusable"] = reusable
    committed = bool(current.update(**values))
    if committed:
        transaction.on_commit(lambda: invalidation.distrust_grants([grant]), using=database_alias())
    return committed


def record_failure(
    grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID, *, retry_in_seconds: float, sent_at: Any
) -> bool:
    """Give the lease back after a renewal that failed; the whole fleet leaves the upstream alone until the wait is over.

    Args:
        retry_in_seconds: how long the wait is.
        sent_at: what to leave as the mark of a request whose outcome is unknown: ``F("sent_at")`` where it was this one's,
            otherwise what was there before.
    """
    values: dict[str, Any] = {
        "lease_id": None,
        "lease_until": None,
        "next_attempt_at": Now() + dt.timedelta(seconds=retry_in_seconds),
        "failures": F("failures") + 1,
        "sent_at": sent_at,
    }
    return bool(_rows().filter(pk=grant_id, generation=generation, lease_id=lease_id).update(**values))


def record_rejection(
    grant_id: uuid.UUID, generation: int, lease_id: uuid.UUID, *, retry_in_seconds: float | None
) -> bool:
    """Write down that the upstream refused the credential itself.

    Args:
        retry_in_seconds: when an API key may be tried again; None for a refresh token, which is never tried again.
    """
    values: dict[str, Any] = {
        "lease_id": None,
        "lease_until": None,
        "sent_at": None,
        "rejected_at": timezone.now(),
        "failures": F("failures") + 1,
        "next_attempt_at": None,
    }
    if retry_in_seconds is None:
        values["refresh_token"] = None
    else:
        values["next_attempt_at"] = Now() + dt.timedelta(seconds=retry_in_seconds)
    return bool(_rows().filter(pk=grant_id, generation=generation, lease_id=lease_id).update(**values))


def release_lease(grant_id: uuid.UUID, lease_id: uuid.UUID, *, sent_at: dt.datetime | None) -> None:
    """Give a lease back under which nothing was sent.

    Args:
        sent_at: what was there before the lease was taken.
    """
    _rows().filter(pk=grant_id, lease_id=lease_id).update(lease_id=None, lease_until=None, sent_at=sent_at)


def seconds_to_next_attempt(grant_id: uuid.UUID) -> int:
    """Return how long the upstream is to be left alone, or the lease's holder to be waited for; at least 1."""
    row = _rows().filter(pk=grant_id).values_list("next_attempt_at", "lease_until", Now()).first()
    if row is None:
        return 1
    next_attempt_at, lease_until, now = row
    waits = [(at - now).total_seconds() for at in (next_attempt_at, lease_until) if at is not None]
    return max(1, math.ceil(max(waits, default=1)))


def load(grant_id: uuid.UUID) -> Grant | None:
    """Read the row itself, with what a renewal needs: the refresh token and whose it is, or the key."""
    return _rows().select_related("api_key", "identity").filter(pk=grant_id).first()
