"""One OpenID provider and our registration there, wherever that is configured (see ``oidc.providers``)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from partium_auth.http.loopback import is_loopback

if TYPE_CHECKING:
    from partium_auth.models import Grant

ENDPOINTS: Final[Mapping[str, str]] = {
    "authorization_endpoint": "OIDC_OP_AUTHORIZATION_ENDPOINT",
    "token_endpoint": "OIDC_OP_TOKEN_ENDPOINT",
    "jwks_uri": "OIDC_OP_JWKS_ENDPOINT",
    "userinfo_endpoint": "OIDC_OP_USER_ENDPOINT",
    "end_session_endpoint": "OIDC_OP_END_SESSION_ENDPOINT",
    "revocation_endpoint": "OIDC_OP_REVOCATION_ENDPOINT",
    "pushed_authorization_request_endpoint": "OIDC_OP_PUSHED_AUTHORIZATION_REQUEST_ENDPOINT",
}
"""The URLs of a provider: the name in a discovery document and in ``IdentityProvider``, and the setting."""

BASIC = "client_secret_basic"
POST = "client_secret_post"
PRIVATE_KEY_JWT = "private_key_jwt"
ENDPOINT_AUDIENCE = " token_endpoint"
"""After ``private_key_jwt``: the audience of client assertions is the token endpoint, and not the issuer."""

CLIENT_AUTHENTICATIONS = (BASIC, POST, PRIVATE_KEY_JWT, PRIVATE_KEY_JWT + ENDPOINT_AUDIENCE, "none")

ASYMMETRIC_ALGORITHMS = (
    *(family + size for family in ("RS", "PS", "ES") for size in ("256", "384", "512")),
    *("ES256K", "EdDSA", "Ed25519", "Ed448"),
)
"""What an ID token may be signed with, by default all (RFC 7518, 8037, 8812, 9864). ``none`` is no signature; HMAC has to be
allowed by name."""

HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")
WELL_KNOWN = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Provider:
    """One OpenID provider and our registration there. Its ``repr`` shows no secret.

    Args:
        slug: its name in URLs.
        display_name: what people see.
        issuer: exactly as the provider writes it; empty where only a discovery URL is configured, which then says it.
        client_id: our client id.
        client_secret: our client secret; empty for a public client.
        client_authentication: one of :data:`CLIENT_AUTHENTICATIONS`, or empty: as discovery says.
        scopes: separated by spaces; ``openid`` among them.
        extra_parameters: sent with every authorization request.
        signing_algorithms: what an ID token may be signed with.
        signing_key: the one key (PEM or JWK) where the provider publishes none.
        endpoints: configured URLs by their names in :data:`ENDPOINTS`; each takes precedence over discovery.
        discovery_url: where the discovery document is.
        organization_id: primary key of the organization it belongs to; None for a site-wide provider.
        use_userinfo: ask the userinfo endpoint at each login.
        refresh_tokens_reusable: a refresh token may be sent twice.
        verify_kid: the ``kid`` of a token must be found in the key set.
        bound_to: what logins at a provider in the database are bound to; empty for that of the settings.
    """

    slug: str
    display_name: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    client_authentication: str = ""
    scopes: str = "openid email"
    extra_parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    signing_algorithms: tuple[str, ...] = ASYMMETRIC_ALGORITHMS
    signing_key: str | Mapping[str, Any] | None = field(default=None, repr=False)
    endpoints: Mapping[str, str] = field(default_factory=dict)
    discovery_url: str = ""
    organization_id: uuid.UUID | None = None
    use_userinfo: bool = False
    refresh_tokens_reusable: bool = False
    verify_kid: bool = True
    bound_to: str = ""

    @property
    def is_site_wide(self) -> bool:
        """Whether people of every organization may log in here."""
        return self.organization_id is None

    @property
    def issuers(self) -> tuple[str, ...]:
        """The issuers that its discovery document may name: the configured one, or those that the discovery URL allows."""
        if self.issuer:
            return (self.issuer,)
        # The path of a discovery URL does not say whether the issuer ends in a slash (Discovery §4).
        base = self.discovery_url.removesuffix(WELL_KNOWN)
        return (base, base + "/")

    def is_typed(self, url: str) -> bool:
        """Tell whether an operator typed the host of a URL; otherwise a discovery document named it, which others write.

        Where an operator typed a loopback host, every name of this machine counts as typed.
        """
        host = urlsplit(url).hostname or ""
        typed = {urlsplit(url).hostname or "" for url in (self.issuer, self.discovery_url, *self.endpoints.values())}
        return host in typed or (is_loopback(host) and any(map(is_loopback, typed)))

    def issued(self, grant: Grant) -> bool:
        """Tell whether a grant came from a login at this provider, and not at an earlier one with the same slug."""
        is_same = (grant.provider, grant.bound_to) == (self.slug, self.bound_to)
        issuer = grant.issuer if grant.identity is None else grant.identity.issuer
        return is_same and (not issuer or issuer in self.issuers)


def discovery_url_of(issuer: str) -> str:
    """Return where an issuer's discovery document is (OpenID Connect Discovery §4)."""
    return issuer.rstrip("/") + WELL_KNOWN
