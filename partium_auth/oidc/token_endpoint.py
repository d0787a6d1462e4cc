"""Redeem codes, refresh and revoke tokens, push authorization requests: the calls that authenticate this site as a client.

RFC 6749, 7009, 7523, 7636 and 9126.

No redirect is followed. No answer is quoted; of an error only the ``error`` code is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from partium_auth.exceptions import CredentialsRejected, UnexpectedResponse, UpstreamError
from partium_auth.host.repeated_log import RepeatedLog
from partium_auth.host.upstream import EXCHANGE_SECONDS, send_upstream_called, transport
from partium_auth.http.transport import Response, parse_retry_after
from partium_auth.oidc import client_keys, error_codes
from partium_auth.oidc.errors import Refused, RegistrationRefused
from partium_auth.oidc.id_token import is_about_somebody_else
from partium_auth.oidc.metadata import Metadata, metadata_of
from partium_auth.oidc.provider import BASIC, POST, PRIVATE_KEY_JWT, Provider
from partium_auth.partium.token_response import TokenResponse, parse_token_response
from partium_auth.sealed.plain import Plain

logger = logging.getLogger("partium_auth.oidc")
repeated_log = RepeatedLog(logger)

REVOCATION_SECONDS = 3.0
LONGEST_REQUEST_URI = 1000

_NO_DPOP = "Partium takes bearer tokens only: switch DPoP off for this client at the provider."

_NAMES = {
    "token_endpoint": "provider_token",
    "revocation_endpoint": "provider_revocation",
    "pushed_authorization_request_endpoint": "provider_pushed_request",
}
"""Endpoints, and what ``upstream_called`` calls them."""


def redeem_code(
    provider: Provider, metadata: Metadata, code: str | Plain, redirect_uri: str, code_verifier: str | Plain
) -> TokenResponse:
    """Redeem an authorization code. The answer has an ``id_token``, which is not verified yet.

    Args:
        redirect_uri: exactly as it was sent with the authorization request.
        code_verifier: whose challenge was sent with the authorization request.

    Raises:
        UpstreamError: the token endpoint refused, failed, or answered with something that is no token response.
    """
    code, code_verifier = Plain.of(code), Plain.of(code_verifier)
    form: dict[str, str | Plain] = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": code_verifier,
    }
    response = _post(provider, metadata, "token_endpoint", form, EXCHANGE_SECONDS)
    tokens = _read_tokens(provider, metadata, response, frozenset({"invalid_grant"}))
    if not tokens.id_token:
        raise UnexpectedResponse(f"The token endpoint of {provider.slug!r} answered without an id_token.", status=200)
    return tokens


def refresh(
    provider: Provider,
    refresh_token: str | Plain,
    *,
    who: tuple[str, str] | None = None,
    before_send: Callable[[], object] | None = None,
) -> TokenResponse:
    """Get new tokens with a refresh token (RFC 6749 §6).

    Args:
        refresh_token: the provider may accept it only once.
        who: issuer and subject of the login. An ID token in the answer has to be about that person.
        before_send: called just before the first byte is sent; see ``Transport.send``.

    Raises:
        CredentialsRejected: the provider will never accept this refresh token again
            (:data:`error_codes.REFRESH_REJECTED`), or the new tokens are somebody else's. ``status`` is 401.
        RegistrationRefused: our registration has to be changed, here or there; says nothing about this login.
        UpstreamError: anything else. Its status is never 401; nor is that of UnexpectedResponse, an error without a reason.
    """
    refresh_token = Plain.of(refresh_token)
    form: dict[str, str | Plain] = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    metadata = None
    try:
        metadata = metadata_of(provider)
        response = _post(provider, metadata, "token_endpoint", form, EXCHANGE_SECONDS, before_send=before_send)
    except Refused as e:
        kind = RegistrationRefused if e.check == "client_authentication" else UpstreamError
        raise kind(f"The identity provider {provider.slug!r} cannot be used: {e}", sent=False) from None
    except UpstreamError as e:
        if metadata is None:
            e.sent = False  # only the discovery document was asked for; the refresh token was not sent
        raise
    try:
        tokens = _read_tokens(provider, metadata, response, error_codes.REFRESH_REJECTED)
    except UpstreamError as e:
        if e.status == 400 and isinstance(e, UnexpectedResponse):
            logger.warning("A refresh token was rejected without a reason: %s", e)
        raise
    if who is not None and tokens.id_token and is_about_somebody_else(tokens.id_token, *who):
        logger.error("%s answered a refresh with tokens of somebody else; they are not used.", response.url)
        raise CredentialsRejected(f"{response.url} answered with tokens of somebody else.", status=401)
    return tokens


def revoke(provider: Provider, refresh_token: str | Plain) -> bool:
    """Revoke a refresh token at the provider (RFC 7009); return False where that has to be tried again later.

    Raises nothing for what the provider does: a log-out must work while it is down.
    """
    refresh_token = Plain.of(refresh_token)
    try:
        metadata = metadata_of(provider)
        if not metadata.revocation_endpoint:
            return True  # the provider does not offer it
        form: dict[str, str | Plain] = {"token": refresh_token, "token_type_hint": "refresh_token"}
        response = _post(provider, metadata, "revocation_endpoint", form, REVOCATION_SECONDS)
    except (UpstreamError, Refused) as e:
        return _not_revoked(provider, str(e))
    return response.status == 200 or _not_revoked(provider, f"status {response.status}.")


def _not_revoked(provider: Provider, reason: str) -> bool:
    message = "The refresh token could not be revoked at %s: %s"
    repeated_log.write(logging.WARNING, provider.slug, message, provider.slug, reason)
    return False


def push(provider: Provider, metadata: Metadata, parameters: Mapping[str, Any]) -> str:
    """Push an authorization request (RFC 9126 §2); return its ``request_uri`` for the browser's URL.

    Raises:
        UpstreamError: the provider refused, failed, or answered without a ``request_uri``.
    """
    form = {name: str(value) for name, value in parameters.items()}
    response = _post(provider, metadata, "pushed_authorization_request_endpoint", form, EXCHANGE_SECONDS)
    if response.status not in {200, 201}:
        raise _failure(provider, metadata, response, _error_code(response))
    request_uri = _member(response, "request_uri")
    if not isinstance(request_uri, str) or not 0 < len(request_uri) <= LONGEST_REQUEST_URI:
        raise UnexpectedResponse(f"{response.url} answered without a request_uri.", status=response.status)
    return request_uri


def _post(
    provider: Provider,
    metadata: Metadata,
    endpoint: str,
    form: Mapping[str, str | Plain],
    total_seconds: float,
    *,
    before_send: Callable[[], object] | None = None,
) -> Response:
    """Send a form with our client authentication."""
    basic: tuple[str, Plain] | None = None
    url: str = getattr(metadata, endpoint)
    if metadata.client_authentication == BASIC and provider.client_secret:
        # RFC 6749 §2.3.1: both are form-encoded before they become user name and password. A space becomes "%20":
        # some providers do not decode "+".
        basic = _encoded(provider.client_id), Plain(_encoded(provider.client_secret))
    else:
        form = {**form, "client_id": provider.client_id}
        if metadata.client_authentication == POST and provider.client_secret:
            form["client_secret"] = Plain(provider.client_secret)
        elif metadata.client_authentication == PRIVATE_KEY_JWT:
            form["client_assertion_type"] = client_keys.ASSERTION_TYPE
            form["client_assertion"] = Plain(client_keys.assertion(provider, metadata.assertion_audience))
    return transport().send(
        "POST",
        url,
        data=form,
        basic=basic,
        total_seconds=total_seconds,
        credential=True,
        public_only=not provider.is_typed(url),
        before_send=before_send,
        observe=partial(send_upstream_called, Provider, "", _NAMES[endpoint]),
    )


def _read_tokens(
    provider: Provider, metadata: Metadata, response: Response, rejections: frozenset[str]
) -> TokenResponse:
    """Return the tokens of an answer, or raise what its error means: one of ``rejections`` is about what was sent."""
    if response.status == 200:
        if str(_member(response, "token_type")).lower() == "dpop":
            raise RegistrationRefused(f"{response.url} issued a token that is bound to a key. {_NO_DPOP}", status=400)
        return parse_token_response(response, what="Identity provider")
    error = _error_code(response)
    if 400 <= response.status < 500 and error in rejections:
        raise CredentialsRejected(
            f"{response.url} does not accept this code or refresh token any more ({error}).", status=401
        )
    raise _failure(provider, metadata, response, error)


def _failure(provider: Provider, metadata: Metadata, response: Response, error: str) -> UpstreamError:
    """Return the exception of an error that is not about one person: about our registration, or about everybody."""
    message = f"{response.url} answered {response.status}" + (f" ({error})." if error else ".")
    status = 503 if error in error_codes.OUTAGE else response.status
    kind: type[UpstreamError] = UpstreamError
    if 400 <= status < 500 and status != 429:  # a wrong registration, or no reason given
        message += f" Check client id, client secret and client authentication of {provider.slug}."
        if metadata.client_authentication == BASIC and _is_changed_by_encoding(provider):
            message += (
                " Both are sent percent-encoded (RFC 6749 §2.3.1); a provider that does not decode them needs "
                "client_secret_post (OIDC_TOKEN_USE_BASIC_AUTH = False), or a secret of letters and digits."
            )
        if error in {"invalid_dpop_proof", "use_dpop_nonce"}:
            message += f" {_NO_DPOP}"
        status = 400
        kind = RegistrationRefused if error else UnexpectedResponse
    return kind(message, status=status, retry_after=parse_retry_after(response.headers))


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _is_changed_by_encoding(provider: Provider) -> bool:
    return any(_encoded(text) != text for text in (provider.client_id, provider.client_secret))


def _error_code(response: Response) -> str:
    return error_codes.readable(_member(response, "error"))


def _member(response: Response, name: str) -> Any:
    try:
        body: Any = response.json()
    except UpstreamError:
        return None
    return body.get(name) if isinstance(body, dict) else None
