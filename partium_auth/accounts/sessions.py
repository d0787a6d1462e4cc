"""What a login and a log-out write to Django's session: which grant it has, and which organization is active."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import auth

from partium_auth import policy
from partium_auth.accounts.login_events import record_login
from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError
from partium_auth.host.remote_address import address_of
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.policy import SessionActor
from partium_auth.tokens import grants
from partium_auth.tokens.database_clock import database_clock

if TYPE_CHECKING:
    from django.http import HttpRequest

    from partium_auth.models import Organization
    from partium_auth.tokens.verified_login import VerifiedLogin

GRANT = grants.IN_SESSION
ORGANIZATION = "_partium_organization"
LOGGED_IN_AT = "_partium_logged_in_at"
"""Under this name a session holds when it was logged in through another backend, where ``PARTIUM_FRESH_LOGIN_MINUTES`` asks for it."""
_LOGIN = "_partium_verified_login"  # an attribute of the request, while log_in() is at work
_NOTED_KEY = "_partium_session_key"  # an attribute of the request: the session key that the grant has


def log_in(request: HttpRequest, login: VerifiedLogin, *, org_id: str = "") -> None:
    """Log the user of a verified login in; the tokens are stored last.

    Args:
        request, login: the session's, and a login with its user.
        org_id: Partium's id of the organization whose login link was used.

    Raises:
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``; nobody is logged in.
    """
    user = login.user
    setattr(request, _LOGIN, login)
    try:
        if request.user.is_authenticated and request.user.pk == user.pk:
            # The session gets another key, which auth.login() omits here, and the browser keeps its CSRF token: a new one
            # would break the forms in other tabs, and the SDK's script there, at each silent login.
            request.session[auth.BACKEND_SESSION_KEY] = user.backend
            request.session.cycle_key()
            request.user = user
            auth.user_logged_in.send(sender=type(user), request=request, user=user)
        else:
            end(request)  # auth.login() deletes another person's session, but not its grant
            auth.login(request, user)
    finally:
        delattr(request, _LOGIN)
    try:
        begin(request, login, org_id=org_id)
    except EncryptionError:
        auth.logout(request)
        raise


def begin(request: HttpRequest, login: VerifiedLogin, *, org_id: str = "") -> Grant:
    """Attach a verified login to the session. Call it after ``django.contrib.auth.login``.

    Args:
        request, login: the session that the login made or kept, and the login with its user.
        org_id: Partium's id of the organization to open, if the person may.

    Raises:
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    end(request)  # a silent login keeps the session and replaces its grant
    if request.session.session_key is None:
        request.session.create()
    grant = grants.open_grant(login, grants.key_of(request.session))
    request.session[GRANT] = str(grant.pk)
    note_key(request)
    organizations = _organizations_of(login.user) if login.organizations is None else login.organizations
    owner_id = login.provider.organization_id if login.provider is not None else None
    wanted = next((row for row in organizations if row.pk == owner_id or (not owner_id and row.org_id == org_id)), None)
    record_login(request, login, _choose_organization(request, organizations, wanted))
    return grant


def logged_in_since(request: HttpRequest, login: VerifiedLogin, since: float) -> bool:
    """Tell whether the session got a usable grant of the same identity and provider after ``since``, in seconds since the epoch."""
    grant = oidc_grant_of(request) if request.user.pk == login.user.pk else None
    return (
        grant is not None
        and grant.rejected_at is None
        and grant.identity == login.identity
        and login.provider is not None
        and login.provider.issued(grant)
        and grant.created_at.timestamp() > since
    )


def begin_without_grant(request: HttpRequest, user: Any) -> None:
    """Choose the organization of a session that logged in through another backend."""
    if hasattr(request, _LOGIN):
        return  # log_in() chooses it
    if conf.fresh_login_minutes is not None:
        request.session[LOGGED_IN_AT] = database_clock()
    choose_organization(request, user)


def choose_organization(request: HttpRequest, user: Any) -> None:
    """Make one of the person's organizations the active one: the session's own if it still is one of them."""
    _choose_organization(request, _organizations_of(user), None)


def end(request: HttpRequest) -> None:
    """Revoke the session's grant; nothing is handed out for it any more, in any process."""
    grant_id = grant_id_of(request)
    if grant_id is not None:
        grants.revoke(Grant.objects.filter(pk=grant_id))
        del request.session[GRANT]


def note_key(request: HttpRequest) -> None:
    """Note which key the session has, for :func:`key_was_changed`."""
    setattr(request, _NOTED_KEY, _session_key(request))


def key_was_changed(request: HttpRequest) -> bool:
    """Tell whether the session has another key than :func:`note_key` has noted."""
    session_key = _session_key(request)
    return session_key is not None and session_key != getattr(request, _NOTED_KEY, None)


def store_key(request: HttpRequest) -> None:
    """Store on the session's grant which key the session has now."""
    grant_id, session_key = grant_id_of(request), grants.key_of(request.session)
    if grant_id is not None and session_key:
        grants.store_session_key(grant_id, session_key)


def has_other_key(request: HttpRequest, session_key_digest: str) -> bool:
    """Tell whether the session has another key than the one that its grant has the digest of."""
    return grants.session_key_digest(grants.key_of(request.session)) not in {"", session_key_digest}


def grant_id_of(request: HttpRequest) -> uuid.UUID | None:
    """Return which grant the session names, if it names one."""
    session = getattr(request, "session", None)  # a site may serve pages without one
    return None if session is None else _uuid(session.get(GRANT))


def actor_of(request: HttpRequest) -> SessionActor:
    """Return who acts in a request: the person, in the session. Pass it to ``partium_auth.services``."""
    at = request.session.get(LOGGED_IN_AT) if hasattr(request, "session") else None
    return SessionActor(request.user, grant_id_of(request), at if isinstance(at, float) else None, address_of(request))


def organization_id_of(request: HttpRequest) -> uuid.UUID | None:
    """Return which organization the session names as its active one, if it names one."""
    return _uuid(request.session.get(ORGANIZATION))


def oidc_grant_of(request: HttpRequest) -> Grant | None:
    """Return the session's login at an identity provider, with its identity, if there is one that has not ended."""
    grant_id = grant_id_of(request)
    if grant_id is None:
        return None
    found = Grant.objects.using(database_alias()).select_related("identity")
    return found.filter(pk=grant_id, kind=Grant.Kind.OIDC, revoked_at=None).first()


def _organizations_of(user: Any) -> list[Organization]:
    memberships = policy.memberships_by_joining(user).filter(organization__is_active=True)
    return [row.organization for row in memberships]


def _choose_organization(
    request: HttpRequest, organizations: Sequence[Organization], wanted: Organization | None
) -> Organization | None:
    """Make the wanted organization the active one; else the session's own stays, else the one joined longest ago."""
    kept_id = organization_id_of(request)
    kept = next((row for row in organizations if row.pk == kept_id), None)
    chosen = wanted or kept or next(iter(organizations), None)
    if chosen is not None:
        request.session[ORGANIZATION] = str(chosen.pk)
    else:
        request.session.pop(ORGANIZATION, None)
    return chosen


def _session_key(request: HttpRequest) -> str | None:
    return getattr(getattr(request, "session", None), "session_key", None)


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return _parsed(value) if isinstance(value, str) else None
    except ValueError:
        return None


_parsed = functools.lru_cache(maxsize=4096)(uuid.UUID)
