"""The login page: company login by e-mail address or organization, and Partium user name and password."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode, urlsplit

from django import forms
from django.conf import settings
from django.contrib import auth
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.urls import Resolver404, get_script_prefix, resolve, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from partium_auth.accounts import code_flow_views, sessions, throttling
from partium_auth.accounts.enabled_logins import is_password_login_enabled
from partium_auth.accounts.error_pages import (
    LOGIN_FAILURES,
    RETRY_SECONDS,
    explain_refusal,
    logged_here,
    refusal_response,
)
from partium_auth.accounts.login_calls import TooManyLogins
from partium_auth.accounts.login_events import record_refusal
from partium_auth.accounts.passwords import TypedPassword
from partium_auth.accounts.redirects import after_login, next_field, next_url_of, parameter
from partium_auth.conf import conf
from partium_auth.exceptions import UpstreamError
from partium_auth.host.decorators import utf8_only
from partium_auth.host.local_time import format_local_time
from partium_auth.host.posted_secrets import SecretField, secret_post_parameters
from partium_auth.host.remote_address import address_of
from partium_auth.models import EmailDomain
from partium_auth.oidc import providers
from partium_auth.oidc.authorization_request import with_query
from partium_auth.sealed import encryption
from partium_auth.tokens.outages import UpstreamFails


class EmailForm(forms.Form):
    """Finds the provider by the domain of an e-mail address."""

    email = forms.EmailField(max_length=254, label=_("Work e-mail address"))


class PasswordForm(forms.Form):
    """Partium user name and password."""

    username = forms.CharField(max_length=254, label=_("Partium user name"))
    password = SecretField(max_length=1024, strip=False, label=_("Password"))


@secret_post_parameters("password")
@login_not_required
@utf8_only
@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
@never_cache
def login(request: HttpRequest) -> HttpResponse:
    """The login page. ``next``: where to go afterwards; ``organization``: an organization's own login link."""
    next_url, org_id = next_url_of(request), parameter(request, "organization")[:190]
    email_form, password_form, error = EmailForm(), PasswordForm(), None
    if request.method == "POST" and "password" in request.POST and is_password_login_enabled():
        password_form = PasswordForm(request.POST)
        if password_form.is_valid():
            typed = TypedPassword(**password_form.cleaned_data, address=address_of(request))
            outcome = _log_in_with_password(request, typed, next_url, org_id)
            if isinstance(outcome, HttpResponse):
                return outcome
            error = outcome
    elif request.method == "POST":
        email_form = EmailForm(request.POST)
        if email_form.is_valid():
            email = email_form.cleaned_data["email"]
            slug = providers.slug_for_email(email)
            if slug is not None:
                return code_flow_views.start(request, slug, next_url=next_url, organization=org_id, login_hint=email)
            email_form.add_error(
                "email", _("There is no company login for this address. Choose another way to log in.")
            )
    elif org_id and (slug := providers.slug_for_organization(org_id)) is not None:
        return code_flow_views.start(request, slug, next_url=next_url, organization=org_id)
    context = {
        "providers": _listed_providers(next_url, org_id),
        "email_form": email_form,
        "password_form": password_form,
        "show_email": EmailDomain.objects.filter(provider__is_active=True).exists(),
        "show_password": is_password_login_enabled(),
        "error": error,
        "next": next_url,
        "next_field": next_field(),
        "organization": org_id,
    }
    if not (context["providers"] or context["show_email"] or context["show_password"]):
        if url := _login_of_the_site(request, next_url):
            return HttpResponseRedirect(url)
        context["developers_advice"] = _NOTHING_SET_UP if settings.DEBUG else ""
    return _form_response(request, context)


def _form_response(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    response = render(request, "partium_auth/login.html", context)
    error = context["error"]
    if error and "retry_after" in error:
        response.status_code = error.get("status", 503)
        response["Retry-After"] = str(error["retry_after"])
        logged_here(response)
    return response


_UNREACHABLE = (
    _("Partium cannot be reached."),
    _("Your password could not be checked. Please try again in a few minutes."),
)
_OF_UPSTREAM_ERRORS = {
    TooManyLogins: (
        _("Too many people are logging in at the moment."),
        _("Your password was not sent. Please try again in a few seconds."),
    ),
    UpstreamFails: (
        _("Partium does not answer at the moment."),
        _("Your password was not sent. Please try again in a moment."),
    ),
}

_NOTHING_SET_UP = (
    "There is no identity provider (OIDC_OP_DISCOVERY_ENDPOINT in the settings, or one in the admin) and no Partium "
    "password login (PartiumPasswordBackend in AUTHENTICATION_BACKENDS). Set up one of them; "
    "manage.py partium_doctor says what is missing."
)


def _log_in_with_password(
    request: HttpRequest, typed: TypedPassword, next_url: str, org_id: str
) -> HttpResponse | dict[str, Any]:
    """Return the answer, or what the form says about the error."""
    until = throttling.count_attempt(request, typed.username)
    if until is not None:
        _record_refusal(request, "throttled", typed)
        again = _("Nothing was sent. After %(time)s you can try again.") % {"time": format_local_time(until)}
        wait = max(1, math.ceil((until - timezone.now()).total_seconds()))
        return {"title": _("Too many wrong passwords."), "advice": again, "retry_after": wait, "status": 429}
    try:
        encryption.current_encryption_key_id()  # without a key the tokens could not be stored
        # The user name is for throttling by name; the password is wrapped, so that no other backend tries it.
        user = auth.authenticate(request, username=typed.username, partium_password_login=typed)
        if user is None or typed.login is None:
            if typed.refusal is None:
                _record_refusal(request, "password", typed)
                return {"title": _("The user name or the password is wrong."), "advice": _("Please try again.")}
            _record_refusal(request, typed.refusal.check, typed)
            raise typed.refusal
        typed.login.user = user  # with the backend that Django has noted on it
        sessions.log_in(request, typed.login, org_id=org_id)
        answer: HttpResponse | dict[str, Any] = after_login(next_url, has_joined=typed.login.has_joined)
    except UpstreamError as e:
        _text, reference = explain_refusal(e)
        title, advice = _OF_UPSTREAM_ERRORS.get(type(e), _UNREACHABLE)
        retry_after = e.retry_after or RETRY_SECONDS
        answer = {"title": title, "advice": advice, "reference": reference, "retry_after": retry_after}
    except LOGIN_FAILURES as e:
        answer = refusal_response(request, e, next_url=next_url)
    throttling.forget_attempt(request, typed.username)  # the password was right, or nobody has checked it
    return answer


def _record_refusal(request: HttpRequest, check: str, typed: TypedPassword) -> None:
    record_refusal(request, check, issuer=conf.api_url, subject=typed.username)


def _listed_providers(next_url: str, org_id: str) -> list[dict[str, str]]:
    query = {name: value for name, value in ((next_field(), next_url), ("organization", org_id)) if value}
    suffix = f"?{urlencode(query)}" if query else ""
    return [
        {"slug": slug, "name": name, "url": reverse("partium_auth:oidc_login", args=[slug]) + suffix}
        for slug, name in providers.site_wide()
    ]


def _login_of_the_site(request: HttpRequest, next_url: str) -> str:
    """Return the login page of a site that logs people in by itself; an empty string where there is none."""
    if request.user.is_authenticated:
        return ""  # many login pages would redirect them straight back
    url = resolve_url(settings.LOGIN_URL)
    parts = urlsplit(url)
    if not parts.netloc:
        try:
            resolve("/" + parts.path.removeprefix(get_script_prefix()))
        except Resolver404:
            return ""  # Django's default names a page that many sites do not have
        if parts.path == request.path:
            return ""
    return with_query(url, {REDIRECT_FIELD_NAME: next_url}) if next_url else url
