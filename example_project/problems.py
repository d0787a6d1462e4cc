"""What the portal shows in place of results when something went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from partium_auth import PartiumRequest
from partium_auth.accounts import error_texts
from partium_auth.accounts.redirects import this_page
from partium_auth.admin import key_site

if TYPE_CHECKING:
    from partium_auth.exceptions import PartiumError

# Codes of the app's answers.
MAY_PASS = frozenset({"token_unavailable", "rate_limited", "upstream_error"})
NEEDS_A_KEY = frozenset({"no_usable_key", "key_rejected"})


@dataclass(frozen=True)
class Problem:
    """A note on the page.

    Args:
        code: for scripts and tests.
        title: what happened.
        text: what to do next.
        status: HTTP status of the page.
        retry_after: seconds to wait, where that is known.
        retry_url: where trying again makes sense.
        keys_url: the key administration, for those who can mend the problem there.
    """

    code: str
    title: str | Promise
    text: str | Promise
    status: int
    retry_after: int | None = None
    retry_url: str = ""
    keys_url: str = ""


EXPIRED = Problem(
    "search_expired",
    _("These results are no longer kept"),
    _("Results are kept for a while only. Run the search again."),
    404,
)


def problem_of(request: PartiumRequest, error: PartiumError) -> Problem:
    """Return what a visitor reads about an error: the app's own words, and where to go next."""
    answer = error_texts.of_error(error)
    may_pass = answer.code in MAY_PASS
    return Problem(
        answer.code,
        answer.title,
        answer.advice,
        answer.status,
        retry_after=getattr(error, "retry_after", None) if may_pass else None,
        retry_url=this_page(request) if may_pass and request.method == "GET" else "",
        keys_url=keys_url(request) if answer.code in NEEDS_A_KEY else "",
    )


def keys_url(request: PartiumRequest) -> str:
    """Return the URL of the key administration; empty for people who may not enter it."""
    return reverse("admin:index", current_app=key_site.name) if key_site.has_permission(request) else ""
