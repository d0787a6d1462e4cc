"""Few wrong Partium passwords: per person and address, per person, and per address; counted in the database, for all processes."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from partium_auth.conf import conf
from partium_auth.models import LoginAttempts
from partium_auth.models.database import database_alias

WINDOW = dt.timedelta(minutes=5)
ACCOUNT_FACTOR, ADDRESS_FACTOR = 5, 10
"""How many times ``PARTIUM_PASSWORD_ATTEMPTS`` one account gets from all addresses, and one address for all accounts."""


def count_attempt(request: HttpRequest, username: str) -> dt.datetime | None:
    """Count an attempt, before Partium is asked; return until when it is refused, or None."""
    limit = conf.password_attempts
    if not limit:
        return None
    for value, factor in _counters(request, username):
        row = _count(value)
        if row.count > limit * factor:
            return row.expires_at  # further counters stay as they are, so one address cannot fill the table with names
    return None


def forget_attempt(request: HttpRequest, username: str) -> None:
    """Take an attempt back whose password was right, or that Partium gave no answer to."""
    if not conf.password_attempts:
        return
    for value, _factor in _counters(request, username):
        _rows(value).filter(count__gt=0).update(count=F("count") - 1)


def _counters(request: HttpRequest, username: str) -> list[tuple[str, int]]:
    address, name = _network_of(request.META.get("REMOTE_ADDR", "")), username.strip().casefold()
    return [(f"address\0{address}", ADDRESS_FACTOR), (f"both\0{address}\0{name}", 1), (f"name\0{name}", ACCOUNT_FACTOR)]


def _network_of(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
        ip = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:192.0.2.1, where the server listens on IPv6 for both
        # One customer has a whole /64 of IPv6 addresses.
        return str(ipaddress.ip_network(f"{ip}/{64 if ip.version == 6 else 32}", strict=False))
    except ValueError:
        return ""


def _count(value: str) -> LoginAttempts:
    now = timezone.now()
    rows, ends_at = _rows(value), now + WINDOW
    if not rows.filter(expires_at__gt=now).update(count=F("count") + 1) and not rows.filter(expires_at__lte=now).update(
        count=1, expires_at=ends_at
    ):
        try:
            with transaction.atomic(using=database_alias()):
                LoginAttempts(digest=_digest(value), count=1, expires_at=ends_at).save(
                    force_insert=True, using=database_alias()
                )
        except IntegrityError:  # another process has made it
            rows.update(count=F("count") + 1)
    return rows.get()


def _rows(value: str) -> QuerySet[LoginAttempts]:
    return LoginAttempts.objects.using(database_alias()).filter(pk=_digest(value))


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode(errors="replace")).hexdigest()
