"""What the session panel shows about the token. Never the token."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import PartiumRequest
from partium_auth.exceptions import NoOrganization, NoUsableKey

WINDOWS = {
    "fresh": (_("Fresh"), _("Used at once, without asking Partium.")),
    "advisory": (_("Refresh due"), _("Still used at once. Its next use refreshes it in the background.")),
    "mandatory": (
        _("Refresh overdue"),
        _("Its next use waits briefly for a new token, and uses this one if the refresh fails."),
    ),
    "unusable": (_("Used up"), _("Not used any more. The next use fetches a new token first.")),
    "none": (_("Not fetched yet"), _("A token is fetched when something needs it, and not before.")),
}
SOURCES = {
    "oidc": _("company login"),
    "password": _("Partium login"),
    "api_key": _("organization’s key"),
}


def describe(request: PartiumRequest) -> dict[str, Any]:
    """Return the content of the panel, ready for JSON. Nothing is fetched or refreshed for it.

    Raises:
        LoginRequired: the session's login has ended.
    """
    try:
        state = request.partium.state()
    except (NoOrganization, NoUsableKey):
        state = None
    window = state.window if state else "none"
    label, text = WINDOWS[window]
    content = {
        "usable": state is not None,
        "window": window,
        "window_label": str(label),
        "window_text": str(text),
        "seconds_left": None,
        "lifetime_seconds": None,
        "left": "–",
        "lifetime": "–",
        "refreshes": 0,
        "source_label": "–",
        "organization": str(request.partium.organization or gettext("none")),
    }
    if state is not None:
        content["source_label"] = str(SOURCES[state.source])
        content["refreshes"] = max(0, state.generation - 1)
    if state is not None and window != "none":
        content |= {
            "seconds_left": max(0, state.seconds_left),
            "lifetime_seconds": state.lifetime_seconds,
            "left": clock(state.seconds_left),
            "lifetime": clock(state.lifetime_seconds),
        }
    return content


def clock(seconds: float) -> str:
    """Return a duration as ``9:05``; hours are minutes too."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02}"
