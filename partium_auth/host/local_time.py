"""Dates and times in the active time zone, also on a site without ``USE_TZ``."""

from __future__ import annotations

import datetime as dt

from django.utils import formats, timezone


def local_date(at: dt.datetime) -> dt.date:
    """Return the date of a time in the active time zone."""
    return timezone.localdate(at) if timezone.is_aware(at) else at.date()


def format_local_time(at: dt.datetime) -> str:
    """Return a time in the active time zone and language, in the format of Django's admin lists."""
    return formats.date_format(timezone.localtime(at) if timezone.is_aware(at) else at, "DATETIME_FORMAT")
