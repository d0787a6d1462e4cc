"""What people are told when something fails, and what to do next. Who answers with these texts is ``error_pages``."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from partium_auth import exceptions
from partium_auth.exceptions import PartiumError


@dataclass(frozen=True)
class ErrorText:
    """What a visitor is told about an error that no view caught: HTTP status, a short code for scripts, what happened, what to do.

    ``may_pass`` tells whether the same request may succeed later; "try again" is said of nothing else.
    """

    status: int
    code: str
    title: str | Promise
    advice: str | Promise
    may_pass: bool = False


@dataclass(frozen=True)
class RefusalText:
    """What a visitor is told about a refused login: HTTP status, what happened, what to do."""

    status: int
    title: str | Promise
    advice: str | Promise


_LATER = _("Please try again in a moment. You are still logged in, and nothing was lost.")
PROVIDER_UNAVAILABLE = ErrorText(
    503, "token_unavailable", _("Your company's login service is not available right now"), _LATER, True
)
PROVIDER_MISCONFIGURED = ErrorText(
    503,
    "misconfigured",
    _("Your login cannot be continued"),
    _("This site, or your company's login service, is not set up correctly. Log in again; if that does not help, tell the "
      "people who run this site."),
)  # fmt: skip
FRESH_LOGIN = ErrorText(
    403, "fresh_login_required", _("Log in again to go on"), _("This step needs a login from the last minutes.")
)
OF_ERRORS: dict[type[PartiumError], ErrorText] = {
    exceptions.NoOrganization: ErrorText(
        403,
        "no_organization",
        _("You do not belong to an organization here"),
        _("Ask the people who run this site for access, or choose another organization."),
    ),
    exceptions.NoUsableKey: ErrorText(
        503,
        "no_usable_key",
        _("Your organization has no working API key"),
        _("A developer of your organization can add one in the key administration."),
    ),
    exceptions.KeyRejected: ErrorText(
        503,
        "key_rejected",
        _("Your organization's API key is not accepted"),
        _("A developer of your organization can verify or replace it in the key administration."),
    ),
    exceptions.TokenUnavailable: ErrorText(
        503, "token_unavailable", _("Partium is not available right now"), _LATER, True
    ),
    exceptions.EncryptionError: ErrorText(
        503, "encryption", _("This site is not set up correctly"), _("Please tell the people who run it.")
    ),
    exceptions.NothingToSearch: ErrorText(
        422,
        "nothing_to_search",
        _("There is nothing to search for"),
        _("Type a name, a part number or a few words."),
    ),
    exceptions.PayloadTooLarge: ErrorText(
        413, "payload_too_large", _("The picture is too large"), _("Choose one of at most 5.5 MiB.")
    ),
    exceptions.UnsupportedImage: ErrorText(
        415,
        "unsupported_image",
        _("The picture could not be read"),
        _("Choose a photo in a common format, such as JPEG or PNG."),
    ),
    exceptions.UnprocessableRequest: ErrorText(
        422, "unprocessable", _("Partium did not understand the search"), _("Change the search and try again.")
    ),
    exceptions.NotPermitted: ErrorText(
        403,
        "not_permitted",
        _("You may not search in this organization"),
        _("Choose another organization, or ask its developers."),
    ),
    exceptions.CredentialsRejected: ErrorText(
        503,
        "credentials_rejected",
        _("Partium does not accept this login"),
        _("Log in again. If that does not help, tell the people who run this site."),
    ),
    exceptions.RateLimited: ErrorText(503, "rate_limited", _("Too many searches at once"), _LATER, True),
    PartiumError: ErrorText(503, "upstream_error", _("Partium is not available right now"), _LATER, True),
}
"""The first class that an error is an instance of counts."""


def of_error(error: PartiumError) -> ErrorText:
    """Return what a visitor is told about an error."""
    if isinstance(error, exceptions.TokenUnavailable) and error.upstream.startswith("oidc:"):
        return PROVIDER_MISCONFIGURED if error.is_misconfigured else PROVIDER_UNAVAILABLE
    return next(text for kind, text in OF_ERRORS.items() if isinstance(error, kind))


EXPIRED = RefusalText(
    400,
    _("This login has expired"),
    _("This login expired or was already used. Please start over."),
)
CANCELLED = RefusalText(403, _("The login was cancelled"), _("You are not logged in. You can start over at any time."))
UNREACHABLE = RefusalText(
    503,
    _("The login service cannot be reached"),
    _("Your company's login service isn't responding correctly. Please try again in a few minutes."),
)
MISCONFIGURED = RefusalText(
    503,
    _("Logging in does not work at the moment"),
    _("This site, or your company's login service, is not set up correctly. Trying again will not help; please tell "
      "the people who run this site, and give them the reference below."),
)  # fmt: skip
NO_ACCOUNT = RefusalText(
    403,
    _("There is no account for you here yet"),
    _("Your login succeeded, but it isn't connected to an account here. Please ask the people who run this site, "
      "and give them the reference below."),
)  # fmt: skip
EMAIL_TAKEN = RefusalText(
    403,
    _("Your e-mail address already has an account"),
    _("To keep it safe, we don't connect it to this login automatically. Log in as you did before, or ask the people who "
      "run this site, and give them the reference below."),
)  # fmt: skip
UNVERIFIED = RefusalText(
    400,
    _("The login could not be verified"),
    _("You are not logged in. Please start again; if it keeps happening, tell the people who run this site, and give "
      "them the reference below."),
)  # fmt: skip

OF_REFUSALS: dict[str, RefusalText] = {
    "state": EXPIRED,
    "auth_time": RefusalText(
        400,
        _("Your login is too old for this"),
        _(
            "This site asks for a login from the last minutes, and your company's login service did not confirm one. Log out there "
            "and log in again. If that does not help, tell the people who run this site, and give them the reference below."
        ),
    ),
    "provider": RefusalText(404, _("This login does not exist"), _("Please choose another way to log in.")),
    "inactive": RefusalText(
        403,
        _("This account is deactivated"),
        _("Please ask the people who run this site, or the person who manages your organization here."),
    ),
    "claims": RefusalText(
        403,
        _("You may not log in here"),
        _(
            "Your login was right, but this site does not let you in. Please ask the people who run it, and give them the "
            "reference below."
        ),
    ),
    "account": NO_ACCOUNT,
    "unknown_person": NO_ACCOUNT,
    "email": EMAIL_TAKEN,
    "throttled": RefusalText(403, _("Too many attempts"), _("Please wait a while before trying again.")),
    "somebody_else": RefusalText(
        403,
        _("Somebody else is logged in at your company's login service"),
        _("You are still logged in here as yourself. Log out there, or log in again here to continue as that person."),
    ),
    "configuration": MISCONFIGURED,
    "storage": MISCONFIGURED,
    "client_authentication": MISCONFIGURED,
    "discovery": MISCONFIGURED,
    "discovery_issuer": MISCONFIGURED,
    "upstream": UNREACHABLE,
    "outage": RefusalText(
        503,
        _("The login service does not answer at the moment"),
        _("Please reload this page in a moment to finish your login. If it has expired by then, start over."),
    ),
    "busy": RefusalText(
        503,
        _("The login service is busy"),
        _("Many people are logging in right now. Please reload this page in a few seconds to finish your login."),
    ),
    "userinfo": UNREACHABLE,
}
