"""Whose failure a provider's error code is: this grant's, our registration's, or everybody's.

RFC 6749 §4.1.2.1 and §5.2, OpenID Connect Core §3.1.2.6, RFC 9101, 9126, 9396, 9449 and 9470, and what providers send besides.
"""

from __future__ import annotations

import re
from typing import Final

INTERACTION: Final = frozenset(
    {
        "account_selection_required",
        "consent_required",
        "insufficient_user_authentication",
        "interaction_required",
        "login_required",
        "unmet_authentication_requirements",
    }
)
"""The person is needed."""

REFRESH_REJECTED: Final = INTERACTION | {"invalid_grant", "access_denied", "expired_token", "invalid_scope"}
"""About one refresh token. No scope is sent with it, so ``invalid_scope`` is about what the person has agreed to (Keycloak)."""

OUTAGE: Final = frozenset({"server_error", "slow_down", "temporarily_unavailable"})
"""About everybody, and it passes."""

REGISTRATION: Final = frozenset(
    {
        "invalid_authorization_details",
        "invalid_client",
        "invalid_dpop_proof",
        "invalid_redirect_uri",
        "invalid_request",
        "invalid_request_object",
        "invalid_request_uri",
        "invalid_scope",
        "invalid_target",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_mode",
        "unsupported_response_type",
        "use_dpop_nonce",
    }
)
"""Only a change of configuration mends it, here or at the provider."""

_CODE = re.compile(r"[a-z_]{1,60}")


def readable(error: object) -> str:
    """Return an error code that may be logged: small letters and underscores; an empty string for anything else."""
    return error if isinstance(error, str) and _CODE.fullmatch(error) else ""
