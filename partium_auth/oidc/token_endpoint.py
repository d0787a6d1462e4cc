"""The token endpoint (RFC 6749 §4.1.3 and §6, RFC 7636) and revocation (RFC 7009): where our client secret is used.

No redirect is followed, no body is quoted, and of an error answer only the ``error`` code is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from partium_auth.exceptions import CredentialsRejected, UnexpectedResponse, UpstreamError
from partium_auth.host.upstream import EXCHANGE_SECONDS, transport
from partium_auth.http.transport import Response, parse_retry_after
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.id_token import is_about_somebody_else
from partium_auth.oidc.metadata import Metadata, metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.partium.token_response import TokenResponse, parse_token_response

logger = logging.getLogger("partium_auth.oidc")

REVOCATION_SECONDS = 3.0

#: RFC 6749 §5.2; anything else in an error answer is not repeated.
_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "temporarily_unavailable",
        "server_error",
        "slow_down",
    }
)


_DEAD_CODE = frozenset({"invalid_grant"})
_DEAD_REFRESH_TOKEN = frozenset({"invalid_grant", "invalid_request"})
"""LemonLDAP::NG says the latter; it can be about nothing else, since nothing else differs from one renewal to the next."""


def redeem_code(provider: Provider, code: str, redirect_uri: str, code_verifier: str) -> TokenResponse:
    """Exchange an authorization code; the answer has an ``id_token``, which nobody has verified yet.

    Args:
        provider: where the login was started.
        code: from the authorization response.
        redirect_uri: exactly as it was sent with the authorization request.
        code_verifier: whose challenge was sent with the authorization request.

    Raises:
        Refused: the provider's metadata is not acceptable.
        UpstreamError: the token endpoint refused, failed, or answered with something that is no token response.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": code_verifier,
    }
    del code, code_verifier  # an error report prints every frame's variables; _post() empties the form
    metadata = metadata_of(provider)
    response = _post(provider, metadata, "token_endpoint", form, EXCHANGE_SECONDS)
    tokens = _tokens(provider, metadata, response, _DEAD_CODE)
    if not tokens.id_token:
        raise UnexpectedResponse(f"The token endpoint of {provider.slug!r} answered without an id_token.", status=200)
    return tokens


def refresh(
    provider: Provider,
    refresh_token: str,
    *,
    who: tuple[str, str] | None = None,
    before_send: Callable[[], object] | None = None,
) -> TokenResponse:
    """Exchange a refresh token (RFC 6749 §6).

    Args:
        provider: who issued it.
        refresh_token: may be used up by this.
        who: issuer and subject of the login. An ID token in the answer has to be about them, and serves for nothing else.
        before_send: called just before the first byte is sent; see ``Transport.send``.

    Raises:
        CredentialsRejected: ``invalid_grant`` or ``invalid_request``: this refresh token is dead for good; or the answer is
            about somebody else, whose tokens must not serve here. ``status`` is 401.
        UpstreamError: anything else. A refusal that concerns our registration (``invalid_client``, …) is the operator's
            to mend, is logged as such, and never has the status 401; nor has UnexpectedResponse: refused, and not said why.
    """
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    del refresh_token
    try:
        metadata = metadata_of(provider)
    except Refused as e:
        form.clear()
        raise UpstreamError(f"The identity provider {provider.slug!r} cannot be used: {e}", sent=False) from None
    except UpstreamError as e:
        form.clear()
        e.sent = False  # that was about the discovery document: the refresh token has not left
        raise
    response = _post(provider, metadata, "token_endpoint", form, EXCHANGE_SECONDS, before_send=before_send)
    try:
        tokens = _tokens(provider, metadata, response, _DEAD_REFRESH_TOKEN)
    except UpstreamError as e:
        if e.status == 400 and isinstance(e, UnexpectedResponse):
            logger.warning("A refresh token was refused, and not said why: %s", e)
        elif e.status == 400:
            logger.error("Nobody's tokens can be renewed: %s", e)
        raise
    if who is not None and tokens.id_token and is_about_somebody_else(tokens.id_token, *who):
        logger.error("%s answered a refresh token with tokens of somebody else; they are not used.", response.url)
        raise CredentialsRejected(f"{response.url} answered with tokens of somebody else.", status=401)
    return tokens


def revoke(provider: Provider, refresh_token: str) -> bool:
    """Tell the provider that a refresh token will not be used again (RFC 7009), where it offers that.

    Returns whether it was told. Never raises for what the provider does: a log-out must work while it is down.
    """
    try:
        metadata = metadata_of(provider)
        if not metadata.revocation_endpoint:
            return False
        form = {"token": refresh_token, "token_type_hint": "refresh_token"}
        response = _post(provider, metadata, "revocation_endpoint", form, REVOCATION_SECONDS)
    except (UpstreamError, Refused) as e:
        logger.warning("The refresh token could not be revoked at %s: %s", provider.slug, e)
        return False
    if response.status != 200:
        logger.warning("The refresh token could not be revoked at %s: status %d.", provider.slug, response.status)
    return response.status == 200


def _post(
    provider: Provider,
    metadata: Metadata,
    endpoint: str,
    form: dict[str, str],
    seconds: float,
    *,
    before_send: Callable[[], object] | None = None,
) -> Response:
    basic: list[str] = []
    try:
        if metadata.client_authentication == "client_secret_basic" and provider.client_secret:
            # RFC 6749 §2.3.1: both are form-encoded before they become user name and password. A space as "%20", which
            # everybody decodes; not all read "+".
            basic += [_encoded(provider.client_id), _encoded(provider.client_secret)]
        else:
            form["client_id"] = provider.client_id
            if metadata.client_authentication == "client_secret_post" and provider.client_secret:
                form["client_secret"] = provider.client_secret
        return transport().send(
            "POST",
            getattr(metadata, endpoint),
            data=form,
            basic=(basic[0], basic[1]) if basic else None,
            total_seconds=seconds,
            credential=True,
            before_send=before_send,
        )
    finally:
        form.clear()
        basic.clear()


def _tokens(provider: Provider, metadata: Metadata, response: Response, dead: frozenset[str]) -> TokenResponse:
    if response.status == 200:
        return parse_token_response(response, what="Identity provider")
    error = _error_code(response)
    if response.status in {400, 401} and error in dead:
        raise CredentialsRejected(
            f"{response.url} does not accept this code or refresh token any more ({error}).", status=401
        )
    message = f"{response.url} answered {response.status}" + (f" ({error})." if error else ".")
    status = response.status
    kind: type[UpstreamError] = UpstreamError
    if 400 <= status < 500 and status != 429:
        message += f" Check client id, client secret and client authentication of {provider.slug}."
        if metadata.client_authentication == "client_secret_basic" and _is_changed_by_encoding(provider):
            message += (
                " Both are sent percent-encoded (RFC 6749 §2.3.1); a provider that does not decode them needs "
                "client_secret_post (OIDC_TOKEN_USE_BASIC_AUTH = False), or a secret of letters and digits."
            )
        status = 400
        if not error:
            kind = UnexpectedResponse
    raise kind(message, status=status, retry_after=parse_retry_after(response.headers))


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _is_changed_by_encoding(provider: Provider) -> bool:
    return any(_encoded(text) != text for text in (provider.client_id, provider.client_secret))


def _error_code(response: Response) -> str:
    try:
        body: Any = response.json()
    except UpstreamError:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, str) and error in _ERRORS else ""
