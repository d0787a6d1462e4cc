"""Moments as people read them: in the active time zone, also on a site without ``USE_TZ``."""

from __future__ import annotations

import datetime as dt

from django.utils import formats, timezone


def local_day(moment: dt.datetime) -> dt.date:
    """Return the day that a moment is on in the active time zone."""
    return timezone.localdate(moment) if timezone.is_aware(moment) else moment.date()


def local_moment(moment: dt.datetime) -> str:
    """Return a moment in the active time zone and language, formatted as Django's admin lists do."""
    here = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return formats.date_format(here, "DATETIME_FORMAT")
