"""Dates and times in the active time zone, also on a site without ``USE_TZ``."""

from __future__ import annotations

import datetime as dt

from django.utils import dateformat, formats, timezone


def local_date(at: dt.datetime) -> dt.date:
    """Return the date of a time in the active time zone."""
    return _local(at).date()


def format_local_time(at: dt.datetime) -> str:
    """Return a time in the active time zone and language, in the format of Django's admin lists."""
    return formats.date_format(_local(at), "DATETIME_FORMAT")


def format_exact_local_time(at: dt.datetime) -> str:
    """Return a time with seconds and time zone, so that it can be found in a log; the date as the active language writes it."""
    local = _local(at)
    return f"{formats.date_format(local, 'DATE_FORMAT')}, {dateformat.format(local, 'H:i:s T')}"


def _local(at: dt.datetime) -> dt.datetime:
    return timezone.localtime(at) if timezone.is_aware(at) else at
