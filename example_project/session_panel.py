"""What the session panel says about the token. Never the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth.exceptions import NoOrganization, NoUsableKey

if TYPE_CHECKING:
    from partium_auth.middleware import PartiumRequest
    from partium_auth.session import TokenState

WINDOWS = {
    "fresh": (_("Fresh"), _("Served at once, from storage.")),
    "advisory": (_("Renewal due"), _("Still served at once. Its next use fetches a new one in the background.")),
    "mandatory": (
        _("Renewal overdue"),
        _("Its next use waits briefly for a new one, and takes this one if that fails."),
    ),
    "unusable": (_("Used up"), _("Not served any more. The next use fetches a new one first.")),
    "none": (_("Not fetched yet"), _("A token is fetched when something needs it, and not before.")),
}
SOURCES = {
    "oidc": _("company login"),
    "password": _("Partium login"),
    "api_key": _("organization’s key"),
}


def clock(seconds: float) -> str:
    """A duration as ``9:05``; hours are minutes too."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def describe(request: PartiumRequest) -> dict[str, Any]:
    """Return the panel's content, as values that JSON knows. Nothing is fetched or renewed for it.

    Raises:
        LoginRequired: the session's login has come to its end.
    """
    state: TokenState | None
    try:
        state = request.partium.state()
    except (NoOrganization, NoUsableKey):
        state = None
    organization = request.partium.organization
    window = state.window if state else "none"
    label, text = map(str, WINDOWS.get(window, (window, "")))
    content = {
        "window": window,
        "window_label": label,
        "window_text": text,
        "seconds_left": None,
        "lifetime_seconds": None,
        "left": "–",
        "lifetime": "–",
        "renewals": 0,
        "source_label": "–",
        "organization": str(organization) if organization else gettext("none"),
    }
    if state is not None:
        content["source_label"] = str(SOURCES.get(state.source, state.source))
        content["renewals"] = max(0, state.generation - 1)
    if state is not None and window != "none":
        content |= {
            "seconds_left": max(0, state.seconds_left),
            "lifetime_seconds": state.lifetime_seconds,
            "left": clock(state.seconds_left),
            "lifetime": clock(state.lifetime_seconds),
        }
    return content
