"""The login page, the code flow's two ends, and log-out."""

from __future__ import annotations

import copy
import logging
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from django import forms
from django.conf import settings
from django.contrib import auth
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.urls import Resolver404, get_script_prefix, resolve, reverse
from django.utils.encoding import iri_to_uri
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from django.views.debug import get_exception_reporter_filter
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from partium_auth.accounts import code_flow, provider_logout, refusals, sessions, started
from partium_auth.accounts.code_flow import ProviderError
from partium_auth.accounts.error_pages import is_safe_target
from partium_auth.accounts.matching import VerifiedLogin
from partium_auth.backends import PasswordLogin, is_oidc_login_enabled, is_password_login_enabled
from partium_auth.exceptions import EncryptionError, UpstreamError
from partium_auth.host.decorators import utf8_only
from partium_auth.models import EmailDomain, Grant, Organization
from partium_auth.oidc import providers
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider
from partium_auth.sealed import encryption
from partium_auth.tokens.grants import Login

logger = logging.getLogger("partium_auth")

_ELSEWHERE_COOKIE = "partium_elsewhere"
_ELSEWHERE_SECONDS = 10
_MOST_TIMES_ELSEWHERE = 5
"""Who is back so often within the seconds above goes round in circles; browsers give up after 20 redirects."""


class EmailForm(forms.Form):
    """Finds the provider by the domain of an e-mail address."""

    email = forms.EmailField(max_length=254, label=_("Work e-mail address"))


class PasswordForm(forms.Form):
    """Partium user name and password."""

    username = forms.CharField(max_length=254, label=_("Partium user name"))
    password = forms.CharField(max_length=1024, strip=False, label=_("Password"))


@login_not_required
@utf8_only
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
@csrf_protect
@never_cache
def login(request: HttpRequest) -> HttpResponse:
    """The login page. ``next``: where to go afterwards; ``organization``: an organization's own login link."""
    _be_discreet(request)
    next_url, org_id = _next_url(request), _parameter(request, "organization")[:190]
    email_form, password_form, error = EmailForm(), PasswordForm(), None
    if request.method == "POST" and "password" in request.POST and is_password_login_enabled():
        password_form = PasswordForm(request.POST)
        if password_form.is_valid():
            outcome = _log_in_with_password(request, password_form.cleaned_data, next_url, org_id)
            if isinstance(outcome, HttpResponse):
                return outcome
            error = outcome
    elif request.method == "POST":
        email_form = EmailForm(request.POST)
        if email_form.is_valid():
            email = email_form.cleaned_data["email"]
            slug = providers.slug_for_email(email)
            if slug is not None:
                return _start(request, slug, next_url=next_url, organization=org_id, login_hint=email)
            email_form.add_error(
                "email", _("There is no company login for this address. Choose another way to log in.")
            )
    elif org_id and (slug := providers.slug_for_organization(org_id)) is not None:
        return _start(request, slug, next_url=next_url, organization=org_id)
    context = {
        "providers": _listed_providers(next_url, org_id),
        "email_form": email_form,
        "password_form": password_form,
        "show_email": EmailDomain.objects.filter(provider__is_active=True).exists(),
        "show_password": is_password_login_enabled(),
        "error": error,
        "next": next_url,
        "next_field": _next_field(),
        "organization": org_id,
    }
    if context["providers"] or context["show_email"] or context["show_password"]:
        return render(request, "partium_auth/login.html", context)
    return _elsewhere(request, next_url) or _nowhere(request, context)


@login_not_required
@utf8_only
@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
@never_cache
def oidc_login(request: HttpRequest, provider: str) -> HttpResponse:
    """Send the browser to a provider. ``prompt=none``: only if it needs not ask the person anything."""
    return _start(
        request,
        provider,
        next_url=_next_url(request),
        organization=_parameter(request, "organization")[:190],
        login_hint=_parameter(request, "login_hint")[:254],
        # Whom a provider answers with a page of its own, or a 500, would be sent to it again and again.
        silent=_parameter(request, "prompt") == "none" and not started.is_left_unanswered(request, provider),
    )


@login_not_required
@utf8_only
@require_GET
@never_cache
@sensitive_variables()
def oidc_callback(request: HttpRequest, provider: str) -> HttpResponse:
    """Where a provider sends the browser back to. Without a ``state`` of this session nothing at all happens."""
    _be_discreet(request)
    next_url = ""
    try:
        attempt = started.take(request, provider)
        next_url = attempt.next
        op = _provider(provider)
        encryption.current_encryption_key_id()  # without a key nothing could be stored, and the code would be spent for nothing
        try:
            vouched = code_flow.finish(request, op, attempt)
        except ProviderError:
            if attempt.silent:  # whatever the reason: where it lasts, the person learns of it now
                return _start(request, provider, next_url=next_url, organization=attempt.organization)
            raise
        verified = VerifiedLogin(op, vouched.claims)
        user = auth.authenticate(request, partium_login_attempt=verified)
        if user is None or verified.identity is None:
            if not is_oidc_login_enabled():
                raise Refused("configuration", "PartiumOIDCBackend is not in AUTHENTICATION_BACKENDS.")
            raise verified.refusal or Refused("throttled", "no backend let the login through.")
        if attempt.silent and request.user.is_authenticated and request.user.pk != user.pk:
            raise Refused("somebody_else", "a silent login came back as another person than the session's.")
        sid = vouched.claims.get("sid")
        _begin(
            request,
            Login(
                kind=Grant.Kind.OIDC,
                user=cast("Any", user),
                tokens=vouched.tokens,
                issued_at=vouched.issued_at,
                provider=op.slug,
                identity=verified.identity,
                session_id=sid if isinstance(sid, str) and len(sid) <= 255 else "",
                id_token=vouched.tokens.id_token or "",
                organization=_wanted_organization(op, attempt.organization),
                reusable=op.refresh_tokens_reusable,
            ),
        )
    except refusals.FAILURES as e:
        return refusals.page(request, e, provider=provider, next_url=next_url)
    # Only for sites that read the session keys of the base library; there is no other use for them.
    for setting, key, token in (
        ("OIDC_STORE_ACCESS_TOKEN", "oidc_access_token", vouched.tokens.access_token),
        ("OIDC_STORE_ID_TOKEN", "oidc_id_token", vouched.tokens.id_token),
    ):
        if getattr(settings, setting, False):
            request.session[key] = token
    return HttpResponseRedirect(next_url or resolve_url(settings.LOGIN_REDIRECT_URL))


oidc_callback.is_partium_callback = True  # type: ignore[attr-defined]  # see code_flow.redirect_uri_of


@login_not_required
@utf8_only
@require_POST
@csrf_protect
@never_cache
@sensitive_variables()
def logout(request: HttpRequest) -> HttpResponse:
    """Log out here, whatever the provider does, and then at the provider where it offers that."""
    target = resolve_url(settings.LOGOUT_REDIRECT_URL or refusals.login_page_url())
    method = getattr(settings, "OIDC_OP_LOGOUT_URL_METHOD", "")
    own_target = import_string(method)(request) if method and request.user.is_authenticated else None
    at_provider = provider_logout.prepare(request)
    auth.logout(request)  # ends the grant too
    if at_provider is None:
        return HttpResponseRedirect(own_target or target)
    at_provider.revoke()
    url = "" if own_target else at_provider.url(request.build_absolute_uri(target))
    return _to_provider(url) if url else HttpResponseRedirect(own_target or target)


def _start(request: HttpRequest, slug: str, *, next_url: str = "", **options: Any) -> HttpResponse:
    try:
        return _to_provider(code_flow.start(request, _provider(slug), next_url=next_url, **options))
    except refusals.FAILURES as e:
        return refusals.page(request, e, provider=slug, next_url=next_url)


def _be_discreet(request: HttpRequest) -> None:
    """Hide what is marked as sensitive on Django's page for developers too: ``DEBUG`` is on where people type real passwords."""
    discreet = copy.copy(get_exception_reporter_filter(request))
    discreet.is_active = lambda request: True  # type: ignore[method-assign]
    request.exception_reporter_filter = discreet


def _to_provider(url: str) -> HttpResponseRedirect:
    """Redirect to a provider. Django 5.2.8 refuses more than 2048 characters, which an ID token in a log-out's URL is."""
    response = HttpResponseRedirect(url.partition("?")[0])
    response["Location"] = iri_to_uri(url)
    return response


def _provider(slug: str) -> Provider:
    try:
        return providers.get(slug)
    except LookupError as e:
        raise Refused("provider", str(e)) from None


def _begin(request: HttpRequest, login: Login) -> None:
    """Make the session that of a login that has succeeded; the tokens are stored last."""
    user = cast("Any", login.user)
    if request.user.is_authenticated and request.user.pk == user.pk:
        # Once more: the session gets another key, which Django omits, and the browser no other CSRF token: with each silent
        # login the forms in other tabs, and the SDK's script there, would be out of service.
        request.session[auth.BACKEND_SESSION_KEY] = user.backend
        request.session.cycle_key()
        request.user = user
        auth.user_logged_in.send(sender=type(user), request=request, user=user)
    else:
        sessions.end(request)  # Django throws another person's session away without a word
        auth.login(request, user)
    try:
        sessions.begin(request, login)
    except EncryptionError:
        auth.logout(request)
        raise


@sensitive_variables("data", "attempt")
def _log_in_with_password(
    request: HttpRequest, data: dict[str, str], next_url: str, org_id: str
) -> HttpResponse | dict[str, Any]:
    attempt = PasswordLogin(data["username"], data["password"])
    try:
        encryption.current_encryption_key_id()
        # The user name is for throttling by name; the password travels apart, so that no other backend gets to see it.
        user = auth.authenticate(request, username=attempt.username, partium_password_login=attempt)
        if user is None or attempt.identity is None or attempt.issued_at is None:
            if attempt.refusal is None:
                return {"title": _("The user name or the password is wrong."), "advice": _("Please try again.")}
            raise attempt.refusal
        _begin(
            request,
            Login(
                kind=Grant.Kind.PASSWORD,
                user=cast("Any", user),
                tokens=attempt.tokens,
                issued_at=attempt.issued_at,
                identity=attempt.identity,
                organization=Organization.objects.named(org_id).first() if org_id else None,
            ),
        )
    except UpstreamError as e:
        _text, reference = refusals.explain(e, provider="")
        return {
            "title": _("Partium cannot be reached."),
            "advice": _("Nothing is wrong with your password. Please try again in a few minutes."),
            "reference": reference,
        }
    except refusals.FAILURES as e:
        return refusals.page(request, e, provider="", next_url=next_url)
    return HttpResponseRedirect(next_url or resolve_url(settings.LOGIN_REDIRECT_URL))


def _listed_providers(next_url: str, org_id: str) -> list[dict[str, str]]:
    query = {name: value for name, value in ((_next_field(), next_url), ("organization", org_id)) if value}
    suffix = f"?{urlencode(query)}" if query else ""
    return [
        {"slug": slug, "name": name, "url": reverse("partium_auth:oidc_login", args=[slug]) + suffix}
        for slug, name in providers.site_wide()
    ]


def _elsewhere(request: HttpRequest, next_url: str) -> HttpResponse | None:
    """Send people to the site's own login page; None where there is none, or where it only sends them back here."""
    url = _login_of_the_site(request, next_url)
    times = _times_sent_elsewhere(request)
    if not url or times >= _MOST_TIMES_ELSEWHERE:
        return None
    response = HttpResponseRedirect(url)
    # What the site's page does cannot be seen from here, only that people are back at once, again and again.
    response.set_cookie(
        _ELSEWHERE_COOKIE,
        "x" * (times + 1),
        max_age=_ELSEWHERE_SECONDS,
        path=request.path,
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
    return response


def _nowhere(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Answer where nobody can log in: to visitors whom to ask, to the site's developer what is missing."""
    advice = (
        "There is no identity provider (OIDC_OP_DISCOVERY_ENDPOINT in the settings, or one in the admin) and no Partium "
        "password login (PartiumPasswordBackend in AUTHENTICATION_BACKENDS). Set up one of them; "
        "manage.py partium_doctor says what is missing."
    )
    in_circles = not request.user.is_authenticated and _times_sent_elsewhere(request) >= _MOST_TIMES_ELSEWHERE
    if in_circles:
        advice = (
            f"LOGIN_URL ({settings.LOGIN_URL}) should log people in, but sends them back to partium_auth:login. {advice} "
            "Or let LOGIN_URL name a page that logs people in itself."
        )
        logger.error("Nobody can log in: %s", advice)
    context["developers_advice"] = advice if settings.DEBUG else ""
    return render(request, "partium_auth/login.html", context, status=503 if in_circles else 200)


def _times_sent_elsewhere(request: HttpRequest) -> int:
    return len(request.COOKIES.get(_ELSEWHERE_COOKIE, ""))


def _login_of_the_site(request: HttpRequest, next_url: str) -> str:
    """Where a site logs people in that does so by itself, and uses organizations' keys only; empty where it does not."""
    if request.user.is_authenticated:
        return ""  # many a login page would send them straight back, and round in circles
    url = resolve_url(settings.LOGIN_URL)
    parts = urlsplit(url)
    if not parts.netloc:
        try:
            resolve("/" + parts.path.removeprefix(get_script_prefix()))
        except Resolver404:
            return ""  # Django's default names a page that many sites do not have
        if parts.path == request.path:
            return ""
    return f"{url}{'&' if parts.query else '?'}{urlencode({REDIRECT_FIELD_NAME: next_url})}" if next_url else url


def _wanted_organization(provider: Provider, org_id: str) -> Organization | None:
    if not provider.is_site_wide:
        return Organization.objects.filter(pk=cast("Any", provider.organization_id)).first()
    return Organization.objects.named(org_id).first() if org_id else None


def _next_field() -> str:
    name: str = getattr(settings, "OIDC_REDIRECT_FIELD_NAME", "next")
    return name


def _parameter(request: HttpRequest, name: str) -> str:
    return (request.POST.get(name) or request.GET.get(name) or "").strip()


def _next_url(request: HttpRequest) -> str:
    """Where the person wants to go, if that is on this site; else an empty string."""
    # Whatever a site calls it, Django itself says "next".
    url = _parameter(request, _next_field()) or _parameter(request, REDIRECT_FIELD_NAME)
    hosts = getattr(settings, "OIDC_REDIRECT_ALLOWED_HOSTS", ())
    require_https = getattr(settings, "OIDC_REDIRECT_REQUIRE_HTTPS", None)
    return url if is_safe_target(request, url, hosts=hosts, require_https=require_https) else ""
