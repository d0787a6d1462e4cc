"""Send a grant's credential to its upstream: a refresh token or an API key; and what the upstream's error means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from partium_auth.exceptions import KeyRejected, LoginRequired, TokenUnavailable, UnexpectedResponse, UpstreamError
from partium_auth.host import upstream
from partium_auth.models import Grant

if TYPE_CHECKING:
    from partium_auth.partium.token_response import TokenResponse

NOT_REFRESHABLE = "This login has no refresh token, and its access token has expired. The person has to log in again."


def send_credential(grant: Grant, before_send: Callable[[], None]) -> TokenResponse:
    """Send a grant's credential to its upstream and return the answer.

    Args:
        grant: with its refresh token, or its API key loaded.
        before_send: called when the connection stands, just before the first byte of the request.

    Raises:
        LoginRequired: there is nothing to refresh it with, or its provider is another one now.
        TokenUnavailable: its provider is not active.
        KeyRejected: the API key has just been revoked.
        UpstreamError: the upstream refused or failed.
        EncryptionError: the credential does not open.
    """
    if grant.kind == Grant.Kind.API_KEY:
        assert grant.api_key is not None  # noqa: S101  # a grant of this kind always has one
        if grant.api_key.secret is None:
            raise KeyRejected("The API key was revoked.")
        api = upstream.authentication_api(organization=grant.api_key.organization.org_id)
        return api.exchange_api_key(grant.api_key.secret.plain(), before_send=before_send)
    if grant.refresh_token is None:
        raise LoginRequired(NOT_REFRESHABLE)
    refresh_token = grant.refresh_token.plain()
    if grant.kind == Grant.Kind.PASSWORD:
        return upstream.authentication_api().refresh(refresh_token, before_send=before_send)
    from partium_auth.oidc import providers, token_endpoint

    try:
        op = providers.get(grant.provider)
    except LookupError:
        # Keep the refresh token: the provider may be activated again, or only this process lacks the site's settings.
        raise TokenUnavailable(
            f"The identity provider {grant.provider!r} is not active, or not in this process's settings."
        ) from None
    if not op.issued(grant):
        raise LoginRequired(f"The identity provider {grant.provider!r} is another one than this login was at.")
    who = None if grant.identity is None else (grant.identity.issuer, grant.identity.subject)
    return token_endpoint.refresh(op, refresh_token, who=who, before_send=before_send)


def is_rejection(error: UpstreamError) -> bool:
    """Tell whether an error is about the credential itself, so that sending it again makes no sense.

    At Partium that is a 401 with a JSON object, or a 4xx whose JSON says ``invalid_grant``: no other code is documented, and a
    gateway in front of it answers 403 with JSON, too. At an identity provider a rejected token arrives as 401
    (``oidc.token_endpoint``); any other error is about the client's registration, which the operator has to fix.
    """
    return error.sent and error.status == 401 and not isinstance(error, UnexpectedResponse)


def outcome_is_unknown(error: UpstreamError) -> bool:
    """Tell whether the credential may have been used up although no tokens came back."""
    if not error.sent:
        return False
    # A client error, 429 and 503 are answers to a request that was not carried out; 500, 502, 504, silence and garbage are not.
    return error.status is None or (error.status >= 500 and error.status != 503) or error.status < 400
