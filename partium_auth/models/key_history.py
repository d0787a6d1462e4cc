"""The sentences of a key's history: stored in English, shown in the language of whoever reads them.

What is stored stays readable without the app, and does not depend on who happened to act. A sentence that is not one of
these is shown as it is.
"""

from __future__ import annotations

import datetime as dt
import re

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

ACCEPTED = _("Partium accepted it.")
EXCHANGE_REFUSED = _("Partium answered %(status)s to the exchange.")
SEARCH_REFUSED = _("Partium answered %(status)s to a search in the organization.")
REJECTED_IN_USE = _("Partium answered %(status)s when the key was used.")
NOT_TRIED = _("Not verified.")
TOO_SLOW = _("Partium did not answer in time.")
EXCHANGE_FAILED = _("Not verified: Partium answered %(status)s to the exchange.")
SEARCH_FAILED = _("Not verified: Partium answered %(status)s to a search.")
UNREACHABLE = _("Not verified: Partium could not be reached or did not answer in time.")
LABEL_CHANGED = _("label changed")
EXPIRY_CHANGED = _("expiry changed from %(before)s to %(after)s")
BOTH_CHANGED = _("label changed; expiry changed from %(before)s to %(after)s")
ROTATED = _("Takes the place of %(key)s. %(outcome)s")
RETIRED = _("%(key)s takes its place; serves for another %(hours)s h.")
REFUSED = _("%(key)s: %(outcome)s")

# Those that begin with what somebody typed last: it may be anything.
_SENTENCES = (
    *(ACCEPTED, EXCHANGE_REFUSED, SEARCH_REFUSED, REJECTED_IN_USE, NOT_TRIED, TOO_SLOW, EXCHANGE_FAILED, SEARCH_FAILED),
    *(UNREACHABLE, LABEL_CHANGED, EXPIRY_CHANGED, BOTH_CHANGED, ROTATED, RETIRED, REFUSED),
)


def written(at: dt.datetime | None) -> str:
    """Return a moment as the history has it: the same in every language and time zone."""
    if at is None:
        return "–"
    return (at.astimezone(dt.UTC) if timezone.is_aware(at) else at).isoformat(sep=" ", timespec="minutes")


def _pattern(sentence: str) -> re.Pattern[str]:
    pieces = re.split(r"%\((\w+)\)s", sentence)
    return re.compile("".join(f"(?P<{piece}>.+)" if n % 2 else re.escape(piece) for n, piece in enumerate(pieces)))


_PATTERNS = tuple((sentence, _pattern(sentence)) for sentence in _SENTENCES)


def translated(detail: str) -> str:
    """Return what an event's ``detail`` says, in the active language.

    Args:
        detail: as it is stored.
    """
    for sentence, pattern in _PATTERNS:
        if match := pattern.fullmatch(detail):
            parts = {name: translated(part) if name == "outcome" else part for name, part in match.groupdict().items()}
            return gettext(sentence) % parts
    return detail
