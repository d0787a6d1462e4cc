"""May this login use this organization? Asked at every token read, and at every switch of organization."""

from __future__ import annotations

from partium_auth.conf import conf
from partium_auth.exceptions import LoginRequired, NoOrganization
from partium_auth.tokens.access import SessionAccess


def require_permitted(access: SessionAccess, *, now: float) -> None:
    """Raise unless a session's login may use an organization.

    Args:
        access: what was read of the session and the organization.
        now: seconds since the epoch.

    Raises:
        LoginRequired: the login was ended, is too old, or was made at another provider than the organization requires.
        NoOrganization: the login's provider belongs to another organization.
    """
    own = access.own
    if own is None:
        if access.names_grant:
            raise LoginRequired("This login has been ended.")
        if access.required_provider is not None:
            raise _wrong_provider(access.required_provider)
        return
    if own.state.revoked:
        raise LoginRequired("This login has been ended.")
    if not own.provider_active:
        raise LoginRequired("The identity provider of this login is not active any more.")
    if own.provider_organization_id not in (None, access.organization_id):
        raise NoOrganization("A login through an organization's own identity provider opens that one only.")
    if access.required_provider is not None and access.required_provider != own.state.provider:
        raise _wrong_provider(access.required_provider)
    limit_seconds = conf.reauthenticate_after_seconds
    if limit_seconds is not None and now - (own.authenticated_at or 0) > limit_seconds:
        raise LoginRequired(
            "This login is older than PARTIUM_REAUTHENTICATE_AFTER allows.", provider=own.state.provider
        )


def _wrong_provider(required: str) -> LoginRequired:
    return LoginRequired("The organization requires a login through its identity provider.", provider=required)
