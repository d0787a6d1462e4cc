"""What a visitor reads when something went wrong, and what to do next: one text per thing that can be done about it.

The exceptions' own messages are for the site's developer and go to the log; nothing of them is shown here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from partium_auth import exceptions as errors


@dataclass(frozen=True)
class Problem:
    """A note on the page in place of results.

    Args:
        code: a word for scripts and tests.
        title: what happened.
        text: what to do next.
        status: HTTP status of the page.
        level: how it looks.
        retry_after: seconds to wait, where that is known.
        retry: whether trying again makes sense.
        for_developers: whether the link to the key administration helps.
    """

    code: str
    title: str | Promise
    text: str | Promise
    status: int
    level: Literal["error", "warning"] = "error"
    retry_after: int | None = None
    retry: bool = False
    for_developers: bool = False
    retry_url: str = ""
    link_url: str = ""
    link_text: str = ""


INVALID_PAGE = Problem(
    "invalid_page",
    _("This link does not lead to any results"),
    _("It is incomplete or was altered. Start a new search above."),
    status=400,
)
INVALID_FORM = Problem(
    "invalid_form", _("Nothing was searched yet"), _("Correct what is marked above and search again."), 422, "warning"
)
UNREACHABLE = Problem(
    "unreachable",
    _("Partium did not answer"),
    _("The network between this portal and Partium may be down. Try again in a moment."),
    status=503,
    retry_after=5,
    retry=True,
)
EXPIRED = Problem(
    "search_expired",
    _("These results are no longer kept"),
    _("Results are kept for a while only. Run the search again."),
    404,
    "warning",
)
NO_ANSWER = Problem(
    "no_answer",
    _("The portal did not answer"),
    _("Check your connection to the network and try again. Nothing you typed is lost."),
    status=503,
)


_BY_ERROR: tuple[tuple[type[errors.PartiumError], Problem], ...] = (
    (
        errors.NoOrganization,
        Problem(
            "no_organization",
            _("You are in no organization yet"),
            _("Ask your company’s administrator to give you access to the parts catalog, then log in again."),
            403,
            "warning",
        ),
    ),
    (
        errors.NoUsableKey,
        Problem(
            "no_usable_key",
            _("Your organization has no working API key"),
            _("Parts can be searched as soon as one of your organization’s developers has added a key."),
            503,
            "warning",
            for_developers=True,
        ),
    ),
    (
        errors.KeyRejected,
        Problem(
            "key_rejected",
            _("Partium does not accept your organization’s API key"),
            _("One of your organization’s developers has to replace it. Your search itself was fine."),
            503,
            for_developers=True,
        ),
    ),
    (
        errors.TokenUnavailable,
        Problem(
            "token_unavailable",
            _("Access to Partium is being renewed"),
            _("This takes a moment. You are still logged in and nothing is lost."),
            503,
            "warning",
            retry_after=1,
            retry=True,
        ),
    ),
    (
        errors.EncryptionError,
        Problem(
            "encryption",
            _("This portal is not set up correctly"),
            _("Its operators find the reason in the log. Please come back later."),
            503,
        ),
    ),
    (
        errors.RateLimited,
        Problem(
            "rate_limited",
            _("Too many searches at the moment"),
            _("Your organization has reached the number of searches that Partium allows."),
            503,
            "warning",
            retry_after=1,
            retry=True,
        ),
    ),
    (
        errors.ServiceUnavailable,
        Problem(
            "service_unavailable",
            _("Partium is not available at the moment"),
            _("The search service is busy or being maintained. Nothing is wrong with your search."),
            503,
            "warning",
            retry_after=5,
            retry=True,
        ),
    ),
    (
        errors.UnsupportedImage,
        Problem(
            "unsupported_image",
            _("This file was not recognized as a photo"),
            _("Use a JPEG or PNG picture; most phones and cameras make these."),
            415,
            "warning",
        ),
    ),
    (
        errors.PayloadTooLarge,
        Problem(
            "payload_too_large",
            _("This photo is too large"),
            _("Use a photo of at most 5 MB: a smaller resolution is enough to recognize a part."),
            413,
            "warning",
        ),
    ),
    (
        errors.UnprocessableRequest,
        Problem(
            "unprocessable",
            _("Partium could not make sense of this search"),
            _("Change the words or the photo and try again."),
            422,
            "warning",
        ),
    ),
    (
        errors.NotPermitted,
        Problem(
            "not_permitted",
            _("You may not search this organization’s catalog"),
            _("Switch to another organization, or ask your company’s administrator for access to this one."),
            403,
            for_developers=True,
        ),
    ),
    (
        errors.CredentialsRejected,
        Problem(
            "credentials_rejected",
            _("Partium did not accept this portal’s access"),
            _("Log out and in again; if it stays like this, tell the operator of this portal."),
            503,
            for_developers=True,
        ),
    ),
    (errors.ConnectionFailed, UNREACHABLE),
    (errors.TimedOut, UNREACHABLE),
    (
        errors.PartiumError,
        Problem(
            "upstream_error",
            _("Partium gave an answer that cannot be used"),
            _("This is not about your search. Try again; if it stays like this, tell the operator of this portal."),
            502,
            retry=True,
        ),
    ),
)


def describe(error: errors.PartiumError) -> Problem:
    """Return what a visitor reads about an error of a search."""
    problem = next(problem for kind, problem in _BY_ERROR if isinstance(error, kind))
    wait_seconds: int | None = getattr(error, "retry_after", None)
    return replace(problem, retry_after=wait_seconds) if problem.retry and wait_seconds else problem
