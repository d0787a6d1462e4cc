"""The answer when something fails: a page for people, JSON for scripts, one log line, and never a 500."""

from __future__ import annotations

import logging
import secrets
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.encoding import escape_uri_path  # or a path could forge lines of the log
from django.utils.translation import gettext as _

from partium_auth import signals
from partium_auth.accounts import error_texts
from partium_auth.accounts.code_flow import ProviderError
from partium_auth.accounts.error_texts import RefusalText
from partium_auth.accounts.login_calls import NOT_ASKED, TooManyLogins
from partium_auth.accounts.redirects import is_navigation, login_page_url, login_url, this_page
from partium_auth.conf import conf
from partium_auth.exceptions import (
    CredentialsRejected,
    EncryptionError,
    FreshLoginRequired,
    KeyRejected,
    LoginRequired,
    NoUsableKey,
    PartiumError,
    TokenUnavailable,
    UpstreamError,
)
from partium_auth.host.repeated_log import RepeatedLog
from partium_auth.http.transport import InsecureURL
from partium_auth.models.keys import REJECTION_REMEMBERED
from partium_auth.oidc import providers
from partium_auth.oidc.errors import Refused

logger = logging.getLogger("partium_auth")
login_logger = logging.getLogger("partium_auth.login")

repeated_log = RepeatedLog(logger)
RETRY_SECONDS = 5
"""``Retry-After`` where nobody knows better."""
KEY_RETRY_SECONDS = int(REJECTION_REMEMBERED.total_seconds())
"""``Retry-After`` where somebody has to change a key first; so long is a rejected one not tried again."""
LONGEST_RELOAD_SECONDS = 10
"""A page that a token is missing for, or a login's callback, reloads by itself if the wait is not longer than this."""
_SILENT_AGAIN_SECONDS = 60.0

R = TypeVar("R", bound=HttpResponseBase)

_OF_PROVIDER_ERRORS: dict[str, RefusalText] = {
    "cancelled": error_texts.CANCELLED,
    "outage": error_texts.UNREACHABLE,
    "registration": error_texts.MISCONFIGURED,
    "": error_texts.UNVERIFIED,
}
LoginFailure = Refused | UpstreamError | EncryptionError | ImproperlyConfigured
LOGIN_FAILURES = (Refused, UpstreamError, EncryptionError, ImproperlyConfigured)


# --- errors that no view caught ------------------------------------------------------------------------------------------


def error_response(request: HttpRequest, error: PartiumError) -> HttpResponse:
    """Return the answer to a request whose view raised a Partium error.

    Args:
        request: a browser's navigation gets a page, or the login page; anything else gets JSON.
        error: what was raised; its text is logged, not shown.
    """
    response = _login(request, error) if isinstance(error, LoginRequired) else _explain(request, error)
    add_never_cache_headers(response)
    patch_vary_headers(response, ("Accept", "Cookie"))
    return logged_here(response)


def logged_here(response: R) -> R:
    """Keep Django from logging an answer once more, as ``django.request``: one ERROR per request in an outage."""
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django sets it, too, on what it has logged
    return response


def _login(request: HttpRequest, error: LoginRequired) -> HttpResponse:
    logger.info("%s %s: %s", request.method, escape_uri_path(request.path), error)
    if isinstance(error, FreshLoginRequired):
        return _fresh_login(request, error)
    if not is_navigation(request):
        return JsonResponse({"error": "login_required", "login_url": login_url(request)}, status=401)
    # After a POST the person comes back to the page with the form (Referer): what was typed there is still in it.
    silent = bool(error.provider) and not _has_just_logged_in(request)
    return HttpResponseRedirect(login_url(request, provider=error.provider if silent else "", silent=silent))


def _fresh_login(request: HttpRequest, error: FreshLoginRequired) -> HttpResponse:
    """Explain, and let the person go on: a redirect would go in circles where a provider does not ask again."""
    url = login_url(request, provider=error.provider, fresh=True)
    if not is_navigation(request):
        return JsonResponse({"error": "fresh_login_required", "login_url": url}, status=401)
    context = {
        "text": error_texts.FRESH_LOGIN,
        "minutes": conf.fresh_login_minutes or 0,  # a site may raise it without the setting
        "of_the_site": error.of_the_site,
        "login_url": url,
    }
    return render(request, "partium_auth/fresh_login.html", context, status=error_texts.FRESH_LOGIN.status)


def _has_just_logged_in(request: HttpRequest) -> bool:
    # Then another silent login would end here again: an endless redirect.
    age_seconds = getattr(getattr(request, "partium", None), "login_age_seconds", None)
    return age_seconds is not None and age_seconds < _SILENT_AGAIN_SECONDS


def _explain(request: HttpRequest, error: PartiumError) -> HttpResponse:
    text = error_texts.of_error(error)
    level = logging.ERROR if isinstance(error, EncryptionError) else logging.WARNING
    kind, path = type(error).__name__, escape_uri_path(request.path)
    repeated_log.write(level, (kind, str(error)), "%s %s: %s: %s", request.method, path, kind, error)
    needs_a_key = isinstance(error, EncryptionError | KeyRejected | NoUsableKey)
    retry_after = getattr(error, "retry_after", None) or (KEY_RETRY_SECONDS if needs_a_key else RETRY_SECONDS)
    if is_navigation(request):
        reloads = (
            isinstance(error, TokenUnavailable) and request.method == "GET" and retry_after <= LONGEST_RELOAD_SECONDS
        )
        context = {"text": text, "this_page": this_page(request), "reload_seconds": retry_after if reloads else None}
        response = render(request, "partium_auth/error.html", context, status=text.status)
    else:
        message = _("%(title)s. %(advice)s") % {"title": text.title, "advice": text.advice}
        response = JsonResponse({"error": text.code, "message": message}, status=text.status)
    if text.status == 503:
        response["Retry-After"] = str(retry_after)
    return response


# --- refused logins ------------------------------------------------------------------------------------------------------


def refusal_response(
    request: HttpRequest, failure: LoginFailure, *, provider: str = "", next_url: str = ""
) -> HttpResponse:
    """Return the page for a refused login, and log the check that failed, never a token.

    Args:
        request, failure: what is answered, and why.
        provider: slug of the provider that was to verify the login; empty for a Partium user name and password.
        next_url: where the person wanted to go; kept for the next try.
    """
    text, reference = explain_refusal(failure, provider=provider)
    context: dict[str, object] = {
        "title": text.title,
        "advice": text.advice,
        "reference": reference,
        "login_url": login_page_url(next_url),
    }
    retry_after = getattr(failure, "retry_after", None) or RETRY_SECONDS
    if isinstance(failure, NOT_ASKED) and request.method == "GET" and retry_after <= LONGEST_RELOAD_SECONDS:
        context["reload_seconds"] = retry_after  # the started login can still be used
    response = render(request, "partium_auth/login_failed.html", context, status=text.status)
    if isinstance(failure, UpstreamError) and text is not error_texts.MISCONFIGURED:
        response["Retry-After"] = str(retry_after)
    return logged_here(response)


def explain_refusal(failure: LoginFailure, *, provider: str = "") -> tuple[RefusalText, str]:
    """Log a refused login; return what the visitor is told, and the reference that the log line has, too."""
    if isinstance(failure, Refused):
        check, detail = failure.check, failure.detail
    else:
        check, detail = _check_of(failure), str(failure)
    text = _refusal_text(failure, check)
    reference = secrets.token_hex(4)
    level = logging.ERROR if text is error_texts.MISCONFIGURED else logging.WARNING
    if isinstance(failure, NOT_ASKED):
        level = logging.INFO  # the outage itself is one warning
    login_logger.log(
        level, "Login refused: provider=%s check=%s reference=%s %s", provider or "-", check, reference, detail
    )
    if signals.login_refused.has_listeners():
        # A visitor can write any slug into the URL: receivers count by it, so they get existing ones only.
        known = provider if provider and providers.exists(provider) else ""
        signals.login_refused.send_robust(sender=type(failure), provider=known, check=check, reference=reference)
    return text, reference


def _check_of(failure: UpstreamError | EncryptionError | ImproperlyConfigured) -> str:
    if isinstance(failure, NOT_ASKED):
        return "busy" if isinstance(failure, TooManyLogins) else "outage"
    return "upstream" if isinstance(failure, UpstreamError) else "configuration"


def _refusal_text(failure: LoginFailure, check: str) -> RefusalText:
    if isinstance(failure, ProviderError):
        return _OF_PROVIDER_ERRORS[failure.kind]
    if isinstance(failure, CredentialsRejected):  # the code is made up, too old or was used before
        return error_texts.EXPIRED
    if isinstance(failure, UpstreamError) and _needs_a_change(failure):
        return error_texts.MISCONFIGURED
    return error_texts.OF_REFUSALS.get(check, error_texts.UNVERIFIED)


def _needs_a_change(failure: UpstreamError) -> bool:
    """Tell whether a retry in a few minutes fails, too: a wrong client secret or URL."""
    is_refusal = failure.status is not None and 400 <= failure.status < 500 and failure.status not in {408, 429}
    return is_refusal or isinstance(failure, InsecureURL)
