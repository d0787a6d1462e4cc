"""What a login has proved, whoever verified it: an identity provider, or Partium for a user name and a password."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partium_auth.models import Grant, Identity, Organization
    from partium_auth.oidc.errors import Refused
    from partium_auth.oidc.provider import Provider
    from partium_auth.partium.token_response import TokenResponse


@dataclass
class VerifiedLogin:
    """A login that was verified. Only this app's own code makes one; the backends act on nothing else. Its ``repr`` shows no secret.

    Args:
        kind: OIDC or password.
        claims: verified; ``iss`` and ``sub`` at least.
        tokens: what the token endpoint answered.
        issued_at: just before the token request was sent.
        provider: the identity provider; None for a Partium user name and password.
        user: whose account it is; the backend sets it, and what follows.
        identity: the row that connects issuer and subject with the user.
        organizations: the active ones that the user belongs to, joined longest ago first; None: not read yet.
        from_userinfo: claims that give rights, and that userinfo has and the ID token has not, or with another value.
        has_joined: it has accepted an invitation.
        address: the IP address that it comes from.
        authenticated_seconds_ago: how long before ``issued_at`` the person proved who they are; None: the provider does not say.
        refusal: why the backend did not let the person in.
    """

    kind: Grant.Kind
    claims: Mapping[str, Any] = field(repr=False)
    tokens: TokenResponse | None = field(repr=False)
    issued_at: dt.datetime
    provider: Provider | None = None
    user: Any = None  # of the host's own model
    identity: Identity | None = field(default=None, repr=False)
    organizations: list[Organization] | None = None
    from_userinfo: Collection[str] = ()
    has_joined: bool = False
    address: str | None = None
    authenticated_seconds_ago: float | None = None
    refusal: Refused | None = None

    @property
    def issuer(self) -> str:
        """The claim ``iss``."""
        return str(self.claims["iss"])

    @property
    def subject(self) -> str:
        """The claim ``sub``."""
        return str(self.claims["sub"])

    @property
    def session_id(self) -> str:
        """The provider's ``sid``, where it has sent one that can be stored."""
        sid = self.claims.get("sid")
        return sid if isinstance(sid, str) and len(sid) <= 255 else ""
