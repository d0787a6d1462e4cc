"""The two ends of the code flow: the browser is sent to a provider, and comes back."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from partium_auth.accounts import code_flow, login_calls, sessions, started
from partium_auth.accounts.code_flow import ProviderError
from partium_auth.accounts.enabled_logins import is_oidc_login_enabled
from partium_auth.accounts.error_pages import LOGIN_FAILURES, refusal_response
from partium_auth.accounts.login_calls import NOT_ASKED
from partium_auth.accounts.login_events import record_refusal
from partium_auth.accounts.redirects import after_login, next_url_of, parameter, response_of, to_provider
from partium_auth.accounts.started import StartedLogin
from partium_auth.host.csp import nonce_of
from partium_auth.host.decorators import utf8_only
from partium_auth.host.posted_secrets import secret_post_parameters
from partium_auth.oidc import providers
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider
from partium_auth.sealed import encryption
from partium_auth.sealed.plain import Plain
from partium_auth.tokens.state import upstream_name
from partium_auth.tokens.verified_login import VerifiedLogin

_SAME_SITE = "partium_same_site"  # the POST comes from a page of this site
_RESPONSE = ("state", "code", "iss", "error", "error_description")


@login_not_required
@utf8_only
@require_http_methods(["GET", "HEAD", "POST"])
@csrf_exempt  # another site may start a login (Core §4); a GET does the same
@never_cache
def oidc_login(request: HttpRequest, provider: str) -> HttpResponse:
    """Send the browser to a provider. ``prompt=none``: log in only if it does not have to ask the person anything.
    ``fresh``: only with a login from the last minutes (``PARTIUM_FRESH_LOGIN_MINUTES``).

    Providers and portals start logins here, too (Core §4): ``iss`` has to be this provider's, ``target_link_uri`` on this site.
    """
    if (issuer := parameter(request, "iss")) and (refusal := _refusal_of_issuer(provider, issuer)):
        return refusal_response(request, refusal, provider=provider)
    return start(
        request,
        provider,
        next_url=next_url_of(request),
        organization=parameter(request, "organization")[:190],
        login_hint=parameter(request, "login_hint")[:254],
        # A provider that answers prompt=none with a page of its own, or a 500, would get the browser again and again.
        silent=parameter(request, "prompt") == "none" and not started.is_left_unanswered(request, provider),
        fresh="fresh" in request.GET,
    )


@secret_post_parameters("code")
@login_not_required
@utf8_only
@require_http_methods(["GET", "POST"])
@csrf_exempt  # the state is the check
@never_cache
def oidc_callback(request: HttpRequest, provider: str) -> HttpResponse:
    """Log in the person whose browser a provider sends back. Without a ``state`` of this browser nothing happens."""
    if request.method == "POST" and _SAME_SITE not in request.POST:
        return _post_again(request)
    next_url = ""
    try:
        started_login = started.find(request)
        next_url = started_login.next
        response = _come_back(request, provider, started_login)
    except NOT_ASKED as e:  # the browser keeps its started login, so the person can reload the page
        return refusal_response(request, e, provider=provider, next_url=next_url)
    except Refused as e:
        response = refusal_response(request, e, provider=provider)
    started.forget(request, response)
    return response


oidc_callback.is_partium_callback = True  # type: ignore[attr-defined]  # see code_flow.redirect_uri_of


def _come_back(request: HttpRequest, provider: str, started_login: StartedLogin) -> HttpResponse:
    next_url = started_login.next
    login: VerifiedLogin | None = None
    asks_provider = bool(response_of(request).get("code")) and "error" not in response_of(request)
    turn = login_calls.turn(upstream_name(provider)) if asks_provider else nullcontext()
    try:
        try:
            with turn:
                started.use_up(started_login, provider)
                op = _provider(provider)
                encryption.current_encryption_key_id()  # without a key the tokens could not be stored
                login = code_flow.finish(request, op, started_login)
        except ProviderError as e:
            # A silent login is repeated whatever the reason: where it lasts, the person learns of it now.
            if started_login.silent or (e.sends_again and not started_login.is_retry):
                organization, is_retry = started_login.organization, not started_login.silent
                fresh = started_login.max_age_seconds is not None
                return start(
                    request, provider, next_url=next_url, organization=organization, is_retry=is_retry, fresh=fresh
                )
            raise
        if not request.session.modified:
            # Read anew: while the provider was asked, other tabs may have written to the session.
            request.session = type(request.session)(request.session.session_key)
        _find_account(request, login)
        if started_login.silent and request.user.is_authenticated and request.user.pk != login.user.pk:
            raise Refused("somebody_else", "a silent login came back as another person than the session's.")
        asks_for_more = started_login.organization or started_login.max_age_seconds is not None
        if not asks_for_more and sessions.logged_in_since(request, login, started_login.created_at):
            return after_login(next_url)  # another tab was first: a grant for each tab would be left over
        sessions.log_in(request, login, org_id=started_login.organization)
    except NOT_ASKED:
        raise
    except LOGIN_FAILURES as e:
        if login is not None and isinstance(e, Refused):
            who: dict[str, str] = {"issuer": login.issuer, "subject": login.subject}
            record_refusal(request, e.check, provider=login.provider, **who)
        return refusal_response(request, e, provider=provider, next_url=next_url)
    _store_tokens_as_base_library(request, login)
    return after_login(next_url, has_joined=login.has_joined)


def _post_again(request: HttpRequest) -> HttpResponse:
    """Answer a provider's POST (``response_mode=form_post``) with a page that posts it again, from this site.

    Browsers send no ``SameSite=Lax`` cookie with a POST of another site, and the started login is in one.
    """
    parameters = [(name, Plain.of(request.POST[name]).reveal()) for name in _RESPONSE if name in request.POST]
    nonce = nonce_of(request)
    context = {"parameters": [*parameters, (_SAME_SITE, "1")], "nonce": "" if nonce is None else str(nonce)}
    return render(request, "partium_auth/form_post.html", context)


def _refusal_of_issuer(slug: str, issuer: str) -> Refused | None:
    try:
        is_right = issuer in _provider(slug).issuers
    except LOGIN_FAILURES:
        return None  # whoever starts the login says so
    return None if is_right else Refused("iss_parameter", "a login that was started elsewhere names another issuer.")


def start(request: HttpRequest, slug: str, *, next_url: str = "", **options: Any) -> HttpResponse:
    """Send the browser to a provider, or answer why not; the options are those of :func:`code_flow.start`."""
    try:
        url, started_login = code_flow.start(request, _provider(slug), next_url=next_url, **options)
    except LOGIN_FAILURES as e:
        return refusal_response(request, e, provider=slug, next_url=next_url)
    response = to_provider(request, url)
    started.save(request, response, started_login)
    return response


def _find_account(request: HttpRequest, login: VerifiedLogin) -> None:
    """Have the site's backends find or create the user. Raises Refused: none of them lets the login through."""
    # Django hides credentials named "token" from the receivers of user_login_failed.
    user = auth.authenticate(request, partium_login_token=login)
    if user is not None and login.identity is not None:
        login.user = user  # with the backend that Django has noted on it
        return
    if not is_oidc_login_enabled():
        raise Refused("configuration", "PartiumOIDCBackend is not in AUTHENTICATION_BACKENDS.")
    raise login.refusal or Refused("throttled", "no backend let the login through.")


def _provider(slug: str) -> Provider:
    try:
        return providers.get(slug)
    except LookupError as e:
        raise Refused("provider", str(e)) from None


def _store_tokens_as_base_library(request: HttpRequest, login: VerifiedLogin) -> None:
    """Write the session keys of the base library where its settings ask for them; this app does not read them."""
    if getattr(settings, "OIDC_STORE_ACCESS_TOKEN", False):
        request.session["oidc_access_token"] = login.tokens and login.tokens.access_token
    if getattr(settings, "OIDC_STORE_ID_TOKEN", False):
        request.session["oidc_id_token"] = login.tokens and login.tokens.id_token
