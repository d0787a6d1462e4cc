"""What a visitor is told when a login is refused, and the one log line for whoever runs the site."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from partium_auth.accounts.code_flow import ProviderError
from partium_auth.exceptions import CredentialsRejected, EncryptionError, UpstreamError
from partium_auth.http.transport import InsecureURL
from partium_auth.oidc.errors import Refused

logger = logging.getLogger("partium_auth.login")

LoginFailure = Refused | UpstreamError | EncryptionError | ImproperlyConfigured
FAILURES = (Refused, UpstreamError, EncryptionError, ImproperlyConfigured)


@dataclass(frozen=True)
class _Text:
    status: int
    title: str | Promise
    advice: str | Promise


_EXPIRED = _Text(
    400,
    _("This login has expired"),
    _("It was started too long ago, in another browser, or was used already. Nothing is wrong: just start again."),
)
_CANCELLED = _Text(403, _("The login was cancelled"), _("You are not logged in. Start again whenever you like."))
_UNREACHABLE = _Text(
    503,
    _("The login service cannot be reached"),
    _("Your company's login service does not answer as it should. Please try again in a few minutes."),
)
_MISCONFIGURED = _Text(
    503,
    _("Logging in does not work at the moment"),
    _("This site, or your company's login service, is not set up correctly. Trying again will not help; please tell "
      "the people who run this site, and give them the reference below."),
)  # fmt: skip
_DEACTIVATED = _Text(
    403,
    _("This account is deactivated"),
    _("Please ask the people who run this site, or the person who manages your organization here."),
)
_NO_ACCOUNT = _Text(
    403,
    _("There is no account for you here yet"),
    _("Your login was right, but it is not connected with an account here. Please ask the people who run this site, "
      "and give them the reference below."),
)  # fmt: skip
_EMAIL_TAKEN = _Text(
    403,
    _("Your e-mail address already has an account"),
    _("For your safety it is not connected with this login by itself. Log in as you did before, or ask the people who "
      "run this site, and give them the reference below."),
)  # fmt: skip
_THROTTLED = _Text(403, _("Too many attempts"), _("Please wait a while before you try again."))
_UNVERIFIED = _Text(
    400,
    _("The login could not be verified"),
    _("You are not logged in. Please start again; if it keeps happening, tell the people who run this site, and give "
      "them the reference below."),
)  # fmt: skip

_TEXTS = {
    "state": _EXPIRED,
    "provider": _Text(404, _("This login does not exist"), _("Please choose another way to log in.")),
    "inactive": _DEACTIVATED,
    "claims": _NO_ACCOUNT,
    "account": _NO_ACCOUNT,
    "unknown_person": _NO_ACCOUNT,
    "email": _EMAIL_TAKEN,
    "email_verified": _EMAIL_TAKEN,
    "throttled": _THROTTLED,
    "somebody_else": _Text(
        403,
        _("Somebody else is logged in at your company's login service"),
        _("You are still logged in here as yourself. Log out there, or log in again to go on as that person."),
    ),
    "configuration": _MISCONFIGURED,
    "discovery": _MISCONFIGURED,
    "discovery_issuer": _MISCONFIGURED,
    "upstream": _UNREACHABLE,
    "userinfo": _UNREACHABLE,
}


def page(request: HttpRequest, failure: LoginFailure, *, provider: str, next_url: str = "") -> HttpResponse:
    """Answer with the page for a refused login, and log it: the check that failed, never a token.

    Args:
        request: what is answered.
        failure: why.
        provider: slug of the provider that was to vouch; empty for a Partium user name and password.
        next_url: where the person wanted to go; kept for the next try.
    """
    text, reference = explain(failure, provider=provider)
    context = {
        "title": text.title,
        "advice": text.advice,
        "reference": reference,
        "login_url": login_page_url(next_url),
    }
    return render(request, "partium_auth/login_failed.html", context, status=text.status)


def explain(failure: LoginFailure, *, provider: str) -> tuple[_Text, str]:
    """Return what a visitor is told, and the reference that the log line has as well."""
    reference = secrets.token_hex(4)
    check, detail = _named(failure)
    level = logging.ERROR if _text(failure, check) is _MISCONFIGURED else logging.WARNING
    logger.log(level, "Login refused: provider=%s check=%s reference=%s %s", provider or "-", check, reference, detail)
    return _text(failure, check), reference


def login_page_url(next_url: str = "") -> str:
    """Return the URL of the login page, to come back to ``next_url`` afterwards."""
    url = reverse("partium_auth:login")
    field = getattr(settings, "OIDC_REDIRECT_FIELD_NAME", "next")
    return f"{url}?{urlencode({field: next_url})}" if next_url else url


def _named(failure: LoginFailure) -> tuple[str, str]:
    if isinstance(failure, Refused):
        return failure.check, failure.detail
    if isinstance(failure, UpstreamError):
        return "upstream", str(failure)
    return "configuration", str(failure)


def _text(failure: LoginFailure, check: str) -> _Text:
    if isinstance(failure, ProviderError) and failure.was_cancelled:
        return _CANCELLED
    if isinstance(failure, UpstreamError) and _needs_a_change(failure):
        return _MISCONFIGURED
    return _TEXTS.get(check, _UNVERIFIED)


def _needs_a_change(failure: UpstreamError) -> bool:
    """Whether it will be the same in a few minutes: a wrong client secret or URL. A code that was not taken is none of these."""
    if isinstance(failure, CredentialsRejected):
        return False
    is_refusal = failure.status is not None and 400 <= failure.status < 500 and failure.status not in {408, 429}
    return is_refusal or isinstance(failure, InsecureURL)
