"""What a visitor, or a script, is told when a Partium error is not caught: a page or JSON, and never a 500."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.encoding import escape_uri_path  # or a path could forge lines of the log
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _

from partium_auth import exceptions
from partium_auth.exceptions import LoginRequired, PartiumError

logger = logging.getLogger("partium_auth")

_LONGEST_TARGET = 1800
"""As a parameter of another URL, in characters: Django 5.2.8 refuses to redirect to more than 2048, servers take 4096 or 8192."""


@dataclass(frozen=True)
class Answer:
    """What a visitor is told: a status, a short code for scripts, what happened and what to do next."""

    status: int
    code: str
    title: str | Promise
    advice: str | Promise


_SILENT_AGAIN_SECONDS = 60.0
_LATER = _("Please try again in a moment. You are still logged in, and nothing was lost.")
_ANSWERS: tuple[tuple[type[PartiumError], Answer], ...] = (
    (
        exceptions.NoOrganization,
        Answer(
            403,
            "no_organization",
            _("You do not belong to an organization here"),
            _("Ask the people who run this site for access, or choose another organization."),
        ),
    ),
    (
        exceptions.NoUsableKey,
        Answer(
            503,
            "no_usable_key",
            _("Your organization has no working API key"),
            _("A developer of your organization can add one in the key administration."),
        ),
    ),
    (
        exceptions.KeyRejected,
        Answer(
            503,
            "key_rejected",
            _("Your organization's API key is not accepted"),
            _("A developer of your organization can verify or replace it in the key administration."),
        ),
    ),
    (exceptions.TokenUnavailable, Answer(503, "token_unavailable", _("Partium is not available right now"), _LATER)),
    (
        exceptions.EncryptionError,
        Answer(
            503,
            "encryption",
            _("This site is not set up correctly"),
            _("Please tell the people who run it."),
        ),
    ),
    (
        exceptions.PayloadTooLarge,
        Answer(413, "payload_too_large", _("The picture is too large"), _("Choose one of at most 5.5 MiB.")),
    ),
    (
        exceptions.UnsupportedImage,
        Answer(
            415,
            "unsupported_image",
            _("The picture could not be read"),
            _("Choose a photo in a common format, such as JPEG or PNG."),
        ),
    ),
    (
        exceptions.UnprocessableRequest,
        Answer(422, "unprocessable", _("Partium did not understand the search"), _("Change the search and try again.")),
    ),
    (
        exceptions.NotPermitted,
        Answer(
            403,
            "not_permitted",
            _("You may not search in this organization"),
            _("Choose another organization, or ask its developers."),
        ),
    ),
    (
        exceptions.CredentialsRejected,
        Answer(
            503,
            "credentials_rejected",
            _("Partium does not accept this login"),
            _("Log in again. If that does not help, tell the people who run this site."),
        ),
    ),
    (exceptions.RateLimited, Answer(503, "rate_limited", _("Too many searches at once"), _LATER)),
    (PartiumError, Answer(503, "upstream_error", _("Partium is not available right now"), _LATER)),
)


def answer_for(error: PartiumError) -> Answer:
    """Return what a visitor is told about an error."""
    return next(answer for kind, answer in _ANSWERS if isinstance(error, kind))


def for_error(request: HttpRequest, error: PartiumError) -> HttpResponse:
    """Answer a request whose view raised a Partium error.

    Args:
        request: a browser's navigation gets a page, or the login page; anything else gets JSON.
        error: what was raised; its text is logged, not shown.
    """
    response = _login(request, error) if isinstance(error, LoginRequired) else _explain(request, error)
    add_never_cache_headers(response)
    patch_vary_headers(response, ("Accept", "Cookie"))
    return response


def may_repeat(request: HttpRequest) -> bool:
    """Tell whether a browser may be sent to the same address again, when a view was rolled back.

    Not after a POST: nobody but the site knows what else its view has done, a mail that it has sent for example.
    """
    return request.method in {"GET", "HEAD"} and is_safe_target(request, request.get_full_path())


def once_more(request: HttpRequest) -> HttpResponse:
    """Send a browser to the same address again; see :func:`may_repeat`."""
    response = HttpResponseRedirect(request.get_full_path())
    add_never_cache_headers(response)
    return response


def is_navigation(request: HttpRequest) -> bool:
    """Tell whether a person's browser is opening a page, as opposed to a script asking for data."""
    if request.headers.get("X-Requested-With") == "XMLHttpRequest":
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in request.headers.get("Accept", "")


def is_safe_target(
    request: HttpRequest, url: str, *, hosts: Iterable[str] = (), require_https: bool | None = None
) -> bool:
    """Tell whether somebody may be sent to a URL that a request names: it is on this site, and not longer than URLs may be.

    Args:
        request: what named it.
        url: such as ``next``.
        hosts: that count as this site too.
        require_https: default: where this request came by it.
    """
    try:
        if len(url) > _LONGEST_TARGET or len(quote(url, safe="")) > _LONGEST_TARGET:
            return False
    except UnicodeEncodeError:  # half a surrogate pair, which no URL can have
        return False
    if require_https is None:
        require_https = request.is_secure()
    return url_has_allowed_host_and_scheme(url, {request.get_host(), *hosts}, require_https=require_https)


def login_url(request: HttpRequest, *, provider: str = "", silent: bool = False) -> str:
    """Return the URL of the login page, coming back to the page that is open now.

    Args:
        request: what was asked for.
        provider: log in at this identity provider instead of asking the person.
        silent: with ``prompt=none``: only if the provider needs not ask anything.
    """
    parameters = {}
    coming_back = request.get_full_path() if request.method in {"GET", "HEAD"} else request.headers.get("Referer", "")
    if is_navigation(request) and is_safe_target(request, coming_back):
        parameters["next"] = coming_back
    try:
        url = reverse("partium_auth:oidc_login", args=[provider]) if provider else reverse("partium_auth:login")
    except NoReverseMatch:
        url = reverse("partium_auth:login")
    if provider and silent:
        parameters["prompt"] = "none"
    return f"{url}?{urlencode(parameters)}" if parameters else url


def _login(request: HttpRequest, error: LoginRequired) -> HttpResponse:
    logger.info("%s %s: %s", request.method, escape_uri_path(request.path), error)
    if not is_navigation(request):
        return JsonResponse({"error": "login_required", "login_url": login_url(request)}, status=401)
    silent = request.method == "GET" and bool(error.provider) and not _has_just_logged_in(request)
    return HttpResponseRedirect(login_url(request, provider=error.provider if silent else "", silent=silent))


def _has_just_logged_in(request: HttpRequest) -> bool:
    # Then another silent login would end here again: the browser would be sent round in circles.
    age_seconds = getattr(getattr(request, "partium", None), "login_age_seconds", None)
    return age_seconds is not None and age_seconds < _SILENT_AGAIN_SECONDS


def _explain(request: HttpRequest, error: PartiumError) -> HttpResponse:
    answer = answer_for(error)
    log = logger.error if isinstance(error, exceptions.EncryptionError) else logger.warning
    log("%s %s: %s: %s", request.method, escape_uri_path(request.path), type(error).__name__, error)
    if is_navigation(request):
        response = render(request, "partium_auth/error.html", {"answer": answer}, status=answer.status)
    else:
        response = JsonResponse(
            {"error": answer.code, "message": _("%(title)s. %(advice)s") % vars(answer)}, status=answer.status
        )
    if answer.status == 503:
        response["Retry-After"] = str(getattr(error, "retry_after", None) or 5)
    return response
