"""Removing the rows of grants that nobody can use any more. Safe at any time, next to refreshes and to itself.

Each batch is one ``DELETE`` by primary key whose ``WHERE`` repeats why the rows are dead, so a grant that was refreshed
since it was found stays, and no row is locked for longer than one statement.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import router
from django.db.models import ExpressionWrapper, F, FloatField, Q, QuerySet
from django.utils import timezone

from partium_auth.exceptions import EncryptionError
from partium_auth.fields import context_of
from partium_auth.models import Grant, LoginAttempts, UsedOnce
from partium_auth.models.database import database_alias
from partium_auth.tokens import revocation
from partium_auth.tokens.database_clock import SecondsNow
from partium_auth.tokens.grants import session_key_digest
from partium_auth.tokens.state import Now

if TYPE_CHECKING:
    from django.contrib.sessions.models import Session

SESSION_GONE_AFTER = dt.timedelta(days=1)
"""A grant is kept this long after its last refresh, whatever has become of its session."""
FEW_GRANTS = 10_000
"""With fewer idle grants than this, each session key is opened and looked up."""


_Row = tuple[Any, Any, str]
"""Primary key, sealed session key and its digest, of one grant."""


@dataclass(frozen=True)
class Cleared:
    """How many rows there were of each kind of dead row.

    Attributes:
        revoked: logged out, or ended by an administrator.
        rejected: refused by their upstream, and their last access token has expired.
        unused: not refreshed for so long that no session has them.
        without_session: their session has expired or was deleted.
        used_tokens: used logout tokens and states of logins that could not be used again anyway, and old counts of attempts.
    """

    revoked: int
    rejected: int
    unused: int
    without_session: int
    used_tokens: int


def clear(*, older_than: dt.timedelta, batch_size: int = 1000, dry_run: bool = False) -> Cleared:
    """Remove dead rows. First retry to revoke refresh tokens of ended logins at their providers, where that failed.

    Args:
        older_than: a login that was not refreshed for so long is dead, unless its session is known to be alive; longer than
            any session lives.
        batch_size: how many rows one statement removes.
        dry_run: only count.
    """
    if not dry_run:
        revocation.retry(batch_size=batch_size)
    now = timezone.now()
    rows = Grant.objects.using(database_alias())
    logins = rows.exclude(kind=Grant.Kind.API_KEY)
    expires_at = ExpressionWrapper(F("issued_at") + F("lifetime_seconds"), output_field=FloatField())
    expired = Q(issued_at__isnull=True) | Q(_expires_at__lt=SecondsNow())

    def remove(dead: QuerySet[Any], which: Callable[[list[_Row]], dict[Any, str]] | None = None) -> int:
        return sum(_batches(dead, batch_size, dry_run, which))

    revoked = rows.filter(revoked_at__isnull=False).exclude(pk__in=revocation.unrevoked().values("pk"))
    rejected = logins.annotate(_expires_at=expires_at).filter(
        expired, revoked_at__isnull=True, rejected_at__isnull=False
    )
    unused = logins.filter(_not_refreshed_since(now - older_than), revoked_at__isnull=True)
    idle = logins.filter(
        _not_refreshed_since(now - SESSION_GONE_AFTER) & ~_not_refreshed_since(now - older_than),
        revoked_at__isnull=True,
        rejected_at__isnull=True,
    )
    sessions_are_rows = _sessions_are_rows()
    if sessions_are_rows and _is_quicker_with_all_sessions(
        logins.filter(_not_refreshed_since(now - SESSION_GONE_AFTER))
    ):
        living = _living_sessions()
    else:
        living = None
    tokens = UsedOnce.objects.using(database_alias()).filter(expires_at__lt=now)
    return Cleared(
        revoked=remove(revoked),
        rejected=remove(rejected),
        unused=remove(unused, partial(_without_session, living, or_unknown=True) if sessions_are_rows else None),
        without_session=remove(idle, partial(_without_session, living)) if sessions_are_rows else 0,
        used_tokens=remove(tokens) + remove(LoginAttempts.objects.using(database_alias()).filter(expires_at__lt=now)),
    )


def _not_refreshed_since(moment: dt.datetime) -> Q:
    return Q(refreshed_at__lt=moment) | Q(refreshed_at__isnull=True, created_at__lt=moment)


def _batches(
    dead: QuerySet[Any], batch_size: int, dry_run: bool, which: Callable[[list[_Row]], dict[Any, str]] | None
) -> Iterator[int]:
    columns = ("pk",) if which is None else ("pk", "session_key", "session_key_digest")
    last: Any = None
    while True:
        following = dead.order_by("pk") if last is None else dead.filter(pk__gt=last).order_by("pk")
        found: list[Any] = list(following.values_list(*columns)[:batch_size])
        if not found:
            return
        last = found[-1][0]
        digests = {} if which is None else which(found)
        pks = {row[0] for row in found} if which is None else set(digests)
        if dry_run:
            yield len(pks)
        elif pks:
            doomed = dead.filter(pk__in=pks)
            if dead.model is Grant:
                doomed = doomed.exclude(lease_until__gt=Now())
            if which is not None:  # its session may have been given another key meanwhile
                doomed = doomed.filter(session_key_digest__in=set(digests.values()))
            yield doomed.delete()[0]


def _sessions_are_rows() -> bool:
    return settings.SESSION_ENGINE in {
        "django.contrib.sessions.backends.db",
        "django.contrib.sessions.backends.cached_db",
    }


class _Digests:
    """A Bloom filter of digests, in four bytes each: about one in 270 others looks like a member, another one each time.

    Args:
        number: about how many digests there will be.
    """

    def __init__(self, number: int) -> None:
        self._size = 32 * max(number, 1024)
        self._bits = bytearray(self._size // 8 + 1)
        self._salt = secrets.randbits(128)

    def _places(self, digest: str) -> tuple[int, int]:
        value = int(digest, 16) ^ self._salt
        return (value >> 64) % self._size, (value & 0xFFFF_FFFF_FFFF_FFFF) % self._size

    def add(self, digest: str) -> None:
        for place in self._places(digest):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, digest: str) -> bool:
        first, second = self._places(digest)
        return bool(self._bits[first >> 3] >> (first & 7) & self._bits[second >> 3] >> (second & 7) & 1)


def _is_quicker_with_all_sessions(idle: QuerySet[Grant]) -> bool:
    """Whether reading the keys of all living sessions costs less than opening the session key of each idle grant."""
    idle_grants = idle.count()
    return idle_grants > FEW_GRANTS and 10 * idle_grants > _sessions().count()


def _sessions() -> QuerySet[Session]:
    from django.contrib.sessions.models import Session  # asked for only where sessions are rows of the database

    return Session.objects.using(router.db_for_write(Session)).filter(expire_date__gt=timezone.now())


def _living_sessions() -> _Digests:
    living = _Digests(_sessions().count())
    for session_key in _sessions().values_list("session_key", flat=True).iterator(chunk_size=10_000):
        living.add(session_key_digest(session_key))
    return living


def _without_session(living: _Digests | None, rows: list[_Row], *, or_unknown: bool = False) -> dict[Any, str]:
    """Return the grants that have no living session, with the digests of their session keys.

    Args:
        living: digests of living sessions' keys, read a moment ago: their grants need no look-up.
        or_unknown: also return those whose session key is not known or does not open.
    """
    keys: dict[Any, str | None] = {}
    grant = Grant()
    for grant.pk, sealed, digest in rows:
        if living is not None and digest and digest in living:
            continue
        try:
            keys[grant.pk] = sealed.bound_to(context_of(grant, "session_key")).reveal()
        except (EncryptionError, AttributeError):
            if or_unknown:
                keys[grant.pk] = None
    found = _sessions().filter(session_key__in=set(keys.values())) if keys else _sessions().none()
    alive = set(found.values_list("session_key", flat=True))
    return {pk: digest for pk, _, digest in rows if pk in keys and keys[pk] not in alive}
