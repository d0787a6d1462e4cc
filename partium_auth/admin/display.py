"""How the admin shows times: relative (``3 days ago``) and absolute, in the reader's language and time zone."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext_lazy

from partium_auth.host.local_time import format_exact_local_time, format_local_time

NOTHING = "–"

# Whole phrases, because Django's "3 days" takes another form in "3 days ago" in many languages.
AGO = {
    "year": ngettext_lazy("%(num)d year ago", "%(num)d years ago", "num"),
    "month": ngettext_lazy("%(num)d month ago", "%(num)d months ago", "num"),
    "week": ngettext_lazy("%(num)d week ago", "%(num)d weeks ago", "num"),
    "day": ngettext_lazy("%(num)d day ago", "%(num)d days ago", "num"),
    "hour": ngettext_lazy("%(num)d hour ago", "%(num)d hours ago", "num"),
    "minute": ngettext_lazy("%(num)d minute ago", "%(num)d minutes ago", "num"),
}


def ago(at: dt.datetime | None) -> str:
    """Return how long ago something was, as HTML whose tooltip has the exact time."""
    if at is None:
        return NOTHING
    recent = timezone.now() - at < dt.timedelta(minutes=1)
    since = gettext("just now") if recent else timesince(at, depth=1, time_strings=cast("Any", AGO))
    return format_html(
        '<time class="partium-nowrap" datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        format_exact_local_time(at),
        since,
    )


def moment(at: dt.datetime | None) -> str:
    """Return when something was or will be, in the reader's time zone and language."""
    return NOTHING if at is None else format_local_time(at)


def copyable(text: str, template: str = "") -> str:
    """Return a text with a button that copies it (``copy.js``).

    Args:
        text: what is copied.
        template: the text with ``SHORT-NAME`` in it, to follow what is typed into the form's field for the short name.
    """
    return format_html(
        '<span class="partium-copy"><code data-partium-template="{}">{}</code> <button type="button" class="partium-button" aria-live="polite" '
        'data-partium-copied="{}" hidden>{}</button></span>',
        template,
        text,
        gettext("Copied"),
        gettext("Copy"),
    )
