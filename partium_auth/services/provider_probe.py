"""Ask a provider with this site's registration, and nobody logging in: do client id, secret and redirect URI fit?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from django.utils.translation import gettext as _

from partium_auth.exceptions import CredentialsRejected, UpstreamError
from partium_auth.host import upstream
from partium_auth.oidc import authorization_request, error_codes, token_endpoint
from partium_auth.oidc.errors import RegistrationRefused
from partium_auth.oidc.metadata import Metadata, metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.services.provider_check import TIMEOUT_SECONDS, Finding


def probe_provider(provider: Provider, redirect_uri: str) -> Iterator[Finding]:
    """Send a token request with a made-up code, and an authorization request with ``prompt=none``.

    The first sends the client secret to the provider, as a login does.

    Raises:
        PartiumError: the discovery document cannot be used.
    """
    metadata = metadata_of(provider)
    yield _token_request(provider, metadata, redirect_uri)
    yield _authorization_request(provider, metadata, redirect_uri)


def _token_request(provider: Provider, metadata: Metadata, redirect_uri: str) -> Finding:
    advice = _("Compare client id, client secret and client authentication with the registration at the provider.")
    try:
        token_endpoint.redeem_code(provider, metadata, secrets.token_urlsafe(), redirect_uri, secrets.token_urlsafe(48))
    except CredentialsRejected:
        return Finding("ok", _("It accepts client id and secret, and rejects a made-up code, as it must."))
    except RegistrationRefused as error:
        return Finding("error", _("It rejects this site's registration: %s") % error, advice)
    except UpstreamError as error:
        return Finding("warning", _("It answers a made-up code in an unknown way: %s") % error, advice)
    return Finding("error", _("It accepts a made-up code."), _("Do not let anybody log in through this provider."))


def _authorization_request(provider: Provider, metadata: Metadata, redirect_uri: str) -> Finding:
    parameters = authorization_request.parameters_of(
        provider,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(),
        nonce=secrets.token_urlsafe(),
        code_verifier=secrets.token_urlsafe(48),
        prompt="none",
    )
    advice = _("Compare scopes and extra parameters with what the provider allows for this client.")
    try:
        url = authorization_request.url_of(provider, metadata, parameters)
    except UpstreamError as error:
        return Finding("error", _("It rejects a pushed authorization request: %s") % error, advice)
    try:
        response = upstream.transport().send(
            "GET",
            url,
            total_seconds=TIMEOUT_SECONDS,
            public_only=not provider.is_typed(metadata.authorization_endpoint),
        )
    except UpstreamError as error:
        return Finding("error", str(error), _("Check the authorization endpoint."))
    location = response.headers.get("Location", "")
    if not location.startswith(redirect_uri):
        return Finding(
            "error",
            _("It does not send people back to %(uri)s: its answer is %(status)d, without a redirect there.")
            % {"uri": redirect_uri, "status": response.status},
            _(
                "Register exactly this redirect URI for this client id. Some providers show their own page for prompt=none."
            ),
        )
    code = error_codes.readable(parse_qs(urlsplit(location).query).get("error", [""])[0])
    if code in error_codes.INTERACTION:
        return Finding("ok", _("It knows the client and the redirect URI (%s, as nobody is logged in).") % code)
    return Finding("error", _("It answers an authorization request with the error “%s”.") % (code or "?"), advice)
