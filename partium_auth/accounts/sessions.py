"""What a login and a log-out write to Django's session: which grant it has, and which organization is active."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any

from partium_auth import policy
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.tokens import grants

if TYPE_CHECKING:
    from django.http import HttpRequest

    from partium_auth.models import Organization
    from partium_auth.tokens.grants import Login

GRANT = grants.IN_SESSION
ORGANIZATION = "_partium_organization"


def begin(request: HttpRequest, login: Login) -> Grant:
    """Attach a login that succeeded to the session. Call it after ``django.contrib.auth.login``.

    Args:
        request: with the session that the login made or kept.
        login: what the login obtained.

    Raises:
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    end(request)  # a silent re-login keeps the session and replaces its grant
    if request.session.session_key is None:
        request.session.create()
    grant = grants.open_grant(login, request.session.session_key or "")
    request.session[GRANT] = str(grant.pk)
    _choose_organization(request, login.user, login.organization)
    return grant


def begin_without_grant(request: HttpRequest, user: Any) -> None:
    """Choose the organization of a session that logged in through another backend."""
    _choose_organization(request, user, None)


def end(request: HttpRequest) -> None:
    """Revoke the session's grant; nothing is handed out for it any more, in any process."""
    grant_id = grant_id_of(request)
    if grant_id is not None:
        grants.revoke(Grant.objects.filter(pk=grant_id))
        del request.session[GRANT]


def grant_id_of(request: HttpRequest) -> uuid.UUID | None:
    """Return which grant the session names, if it names one."""
    return _uuid(request.session.get(GRANT))


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


def _choose_organization(request: HttpRequest, user: Any, wanted: Organization | None) -> None:
    open_to_user = policy.organizations_by_joining(user)
    chosen = open_to_user.filter(pk=wanted.pk).first() if wanted is not None else None
    if chosen is None:
        kept = organization_id_of(request)
        chosen = (open_to_user.filter(pk=kept).first() if kept else None) or open_to_user.first()
    if chosen is not None:
        request.session[ORGANIZATION] = str(chosen.pk)
    else:
        request.session.pop(ORGANIZATION, None)


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return _parsed(value) if isinstance(value, str) else None
    except ValueError:
        return None


_parsed = functools.lru_cache(maxsize=4096)(uuid.UUID)
