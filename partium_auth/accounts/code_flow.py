"""The authorization code flow with PKCE (OpenID Connect Core §3.1, RFC 7636, RFC 9207), from the redirect to the claims."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse
from django.utils import timezone

from partium_auth.accounts import claims as claims_
from partium_auth.accounts import login_calls, sessions
from partium_auth.accounts.redirects import response_of, with_hint
from partium_auth.accounts.started import StartedLogin
from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError
from partium_auth.host.remote_address import address_of
from partium_auth.models import Grant
from partium_auth.oidc import authorization_request, error_codes, providers, token_endpoint, userinfo
from partium_auth.oidc.errors import Refused, RegistrationRefused
from partium_auth.oidc.id_token import verify_id_token
from partium_auth.oidc.metadata import Metadata, metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.oidc.signed_tokens import is_date
from partium_auth.sealed import encryption
from partium_auth.sealed.plain import Plain
from partium_auth.tokens.state import upstream_name
from partium_auth.tokens.verified_login import VerifiedLogin

logger = logging.getLogger("partium_auth.login")


class ProviderError(Refused):
    """The provider answered the login with an error (RFC 6749 §4.1.2.1, Core §3.1.2.6).

    Attributes:
        kind: whose failure it is: ``cancelled`` (the person's choice), ``outage``, ``registration``, or empty.
        sends_again: the person took too long at the provider, which asks to be sent the login once more (Keycloak).
    """

    def __init__(self, error: str, description: str = "") -> None:
        super().__init__("provider_error", error_codes.readable(error))
        self.kind = ""
        if error in {"access_denied", "consent_required"}:
            self.kind = "cancelled"
        elif error in error_codes.OUTAGE:
            self.kind = "outage"
        elif error in error_codes.REGISTRATION:
            self.kind = "registration"
        self.sends_again = (error, description) == ("temporarily_unavailable", "authentication_expired")


def start(
    request: HttpRequest,
    provider: Provider,
    *,
    next_url: str = "",
    organization: str = "",
    login_hint: str = "",
    silent: bool = False,
    is_retry: bool = False,
    fresh: bool = False,
) -> tuple[str, StartedLogin]:
    """Start a login; return the URL at the provider to send the browser to, and what the browser has to keep meanwhile.

    Args:
        request: the browser's.
        provider: where to log in.
        next_url: where to go afterwards; the caller has found it to be on this site.
        organization: Partium's id of the organization whose login link was used.
        login_hint: the e-mail address that was typed in.
        silent: with ``prompt=none``, and with the ID token of the session's own login there as a hint.
        is_retry: the provider has asked to be sent the login once more.
        fresh: with ``max_age``: half of ``PARTIUM_FRESH_LOGIN_MINUTES``, so that the other half is left afterwards.

    Raises:
        Refused: the provider's metadata is not acceptable.
        UpstreamError: it is not known and could not be fetched.
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    encryption.current_encryption_key_id()  # without a key the login could not be stored when it comes back
    metadata = metadata_of(provider, starts_login=True)
    started_login = StartedLogin(
        state=secrets.token_urlsafe(32),
        provider=provider.slug,
        redirect_uri=redirect_uri_of(request, provider.slug),
        next=next_url,
        organization=organization,
        silent=silent,
        created_at=time.time(),
        is_retry=is_retry,
        max_age_seconds=conf.fresh_login_minutes * 30 if fresh and conf.fresh_login_minutes else None,
    )
    more = {"login_hint": login_hint, "prompt": "none" if silent else ""}
    configured, max_age = str(provider.extra_parameters.get("max_age", "")), started_login.max_age_seconds
    if max_age is not None and not (configured.isdigit() and int(configured) < max_age):
        more["max_age"] = str(max_age)
    hint = _id_token(request, provider) if silent else ""
    if metadata.pushes:
        more["id_token_hint"] = hint
    parameters = authorization_request.parameters_of(
        provider,
        redirect_uri=started_login.redirect_uri,
        state=started_login.state,
        nonce=started_login.nonce,
        code_verifier=started_login.code_verifier,
        **{name: value for name, value in more.items() if value},
    )
    try:
        with _turn_to_push(provider) if metadata.pushes else nullcontext():
            url = authorization_request.url_of(provider, metadata, parameters)
    except RegistrationRefused:
        if not silent:
            raise
        # It may be about this person's session there, or about the hint: ask the person.
        return start(
            request, provider, next_url=next_url, organization=organization, login_hint=login_hint, fresh=fresh
        )
    return url if metadata.pushes else with_hint(url, hint), started_login


@contextlib.contextmanager
def _turn_to_push(provider: Provider) -> Iterator[None]:
    """Let few logins push at once. Its outages are its own: visitors start logins, and must not stop anybody's refreshes."""
    upstream = f"{upstream_name(provider.slug)}:push"
    with login_calls.turn(upstream), login_calls.noted_outcome(upstream):
        yield


def finish(request: HttpRequest, provider: Provider, started_login: StartedLogin) -> VerifiedLogin:
    """Return the login that the provider's authorization response leads to, verified.

    Raises:
        ProviderError: the provider says that it did not log anybody in.
        Refused: something is not what it has to be.
        UpstreamError: the provider failed.
    """
    metadata = metadata_of(provider)
    _check_issuer_parameter(request, metadata)
    error = response_of(request).get("error")
    if error is not None:
        raise ProviderError(error, response_of(request).get("error_description", ""))
    code = Plain.of(response_of(request).get("code", ""))
    if not code:
        raise Refused("code", "missing.")
    issued_at = timezone.now()
    with login_calls.noted_outcome(upstream_name(provider.slug)):
        tokens = token_endpoint.redeem_code(
            provider, metadata, code, started_login.redirect_uri, Plain(started_login.code_verifier)
        )
    claims = verify_id_token(
        provider,
        metadata,
        tokens.id_token or "",
        nonce=started_login.nonce,
        access_token=tokens.access_token,
        max_age_seconds=started_login.max_age_seconds,
    )
    # Both are by the provider's clock.
    auth_time = claims.get("auth_time")
    seconds_ago = max(0.0, claims["iat"] - auth_time) if is_date(auth_time) else None
    # A site's hooks do not need the nonce, and an error report of one must not show it.
    claims.pop("nonce", None)
    read = alone = claims_.as_the_site_reads_them(claims, provider)
    if metadata.userinfo_endpoint and (provider.use_userinfo or _lacks_claims(provider, read)):
        read = _with_userinfo(provider, metadata, tokens.access_token, claims, read)
    rights = conf.organizations_claim, conf.roles_claim
    from_userinfo = [name for name in rights if claims_.names(alone, name) != claims_.names(read, name)]
    return VerifiedLogin(
        Grant.Kind.OIDC,
        read,
        tokens,
        issued_at,
        provider,
        authenticated_seconds_ago=seconds_ago,
        from_userinfo=from_userinfo,
        address=address_of(request),
    )


def redirect_uri_of(request: HttpRequest, slug: str) -> str:
    """Return the callback URL of a provider, exactly as it has to be registered there.

    A site that includes ``partium_auth.legacy_urls`` keeps the one that it registered for the base library.
    """
    if slug == providers.DEFAULT:
        name = getattr(settings, "OIDC_AUTHENTICATION_CALLBACK_URL", "oidc_authentication_callback")
        try:
            path = reverse(name)
            inside = path.removeprefix(get_script_prefix().rstrip("/"))  # where the site is not at the root
            if getattr(resolve(inside).func, "is_partium_callback", False):
                return request.build_absolute_uri(path)
        except (NoReverseMatch, Resolver404):
            pass
    return request.build_absolute_uri(reverse("partium_auth:oidc_callback", args=[slug]))


def _id_token(request: HttpRequest, provider: Provider) -> str:
    """The ID token that the session was logged in with at this provider; an empty string where there is none."""
    grant = sessions.oidc_grant_of(request)
    if grant is None or not provider.issued(grant):
        return ""
    with contextlib.suppress(EncryptionError):
        return grant.id_token.reveal() if grant.id_token is not None else ""
    return ""


def _check_issuer_parameter(request: HttpRequest, metadata: Metadata) -> None:
    """Check ``iss`` (RFC 9207 §2.4), which stops a mix-up attack: one provider's response presented as another's.

    An error response may lack it: it logs nobody in, and some providers (Authlib, django-oauth-toolkit) announce the
    parameter and send it with codes only.
    """
    issuer = response_of(request).get("iss")
    if issuer is None and metadata.sends_issuer and "error" not in response_of(request):
        raise Refused("iss_parameter", "missing, although the provider promises it.")
    if issuer is not None and issuer != metadata.issuer:
        raise Refused("iss_parameter", "of another provider.")


def _with_userinfo(
    provider: Provider, metadata: Metadata, access_token: str, claims: dict[str, Any], read: dict[str, Any]
) -> dict[str, Any]:
    """Return the claims with those of userinfo; without them, if it fails where no configuration asks for it.

    Entra ID's and others' userinfo endpoints reject an access token that is for another API, such as Partium's.
    """
    try:
        more = userinfo.fetch(provider, metadata, access_token, subject=claims["sub"])
    except Refused as e:
        if provider.use_userinfo or e.check != "userinfo":
            raise
        logger.warning("The login through %s goes on with the claims of the ID token: %s", provider.slug, e.detail)
        # What only userinfo might have said is unknown, and must not be withdrawn.
        missing = [name for name in (conf.organizations_claim, conf.roles_claim) if claims_.is_missing(read, name)]
        return read | dict.fromkeys(missing, claims_.UNKNOWN)
    return claims_.as_the_site_reads_them(userinfo.merged(claims, more), provider)


def _lacks_claims(provider: Provider, claims: dict[str, Any]) -> bool:
    if "email" in provider.scopes.split() and "email" not in claims:
        return True
    if claims_.is_missing(claims, conf.roles_claim):
        return True
    return provider.is_site_wide and claims_.is_missing(claims, conf.organizations_claim)
