"""The events of logins, of accounts that a first login opens, and of refused logins of people that the site knows."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from partium_auth.host.remote_address import address_of
from partium_auth.models import AuditEvent, Identity, Organization
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.models.identities import identity_digest
from partium_auth.services.audit import record

if TYPE_CHECKING:
    from django.http import HttpRequest

    from partium_auth.oidc.provider import Provider
    from partium_auth.tokens.verified_login import VerifiedLogin

REFUSALS_PER_HOUR = 10
"""So many refusals of one person are recorded; whoever tries a known user name again and again cannot fill the table."""


def record_login(request: HttpRequest, login: VerifiedLogin, organization: Organization | None) -> None:
    """Record that a person has logged in, and which organization the session has opened: one INSERT."""
    record(
        AuditEvent.Action.LOGIN,
        actor=login.user,
        address=address_of(request),
        organization=organization,
        **_way_of(login),
    )


def record_link(login: VerifiedLogin, user: Any) -> None:
    """Record that a first login opens an account that was there before: from now on the identity is a way into it."""
    record(AuditEvent.Action.IDENTITY_CONNECTED, actor=user, address=login.address, **_way_of(login))


def _way_of(login: VerifiedLogin) -> dict[str, Any]:
    if login.provider is None:
        return {"detail": EventDetail.BY_PASSWORD}
    return {"detail": EventDetail.BY_PROVIDER, "parameters": {"provider": login.provider.slug}}


def record_refusal(
    request: HttpRequest, check: str, *, issuer: str, subject: str, provider: Provider | None = None
) -> None:
    """Record that a login was refused, if a person has logged in with this issuer and subject before.

    Refusals of strangers are lines in the log only: anybody can cause them.

    Args:
        request: has the address.
        check: the check that failed.
        issuer: who vouches for the person; Partium for a user name and a password.
        subject: who it is there, or claims to be.
        provider: the identity provider; None for a Partium user name and password.
    """
    identities = Identity.objects.using(database_alias()).select_related("user")
    identity = identities.filter(digest=identity_digest(issuer, subject)).first()
    if identity is None or _are_enough(identity.user_id):
        return
    owner_id = None if provider is None else provider.organization_id
    record(
        AuditEvent.Action.LOGIN_REFUSED,
        actor=identity.user,
        address=address_of(request),
        organization=None if owner_id is None else Organization.objects.filter(pk=owner_id).first(),
        detail=EventDetail.REFUSED_BY_PASSWORD if provider is None else EventDetail.REFUSED_BY_PROVIDER,
        parameters={"check": check} if provider is None else {"check": check, "provider": provider.slug},
    )


def _are_enough(user_pk: object) -> bool:
    since = timezone.now() - dt.timedelta(hours=1)
    refused = AuditEvent.objects.using(database_alias()).filter(action=AuditEvent.Action.LOGIN_REFUSED)
    return refused.filter(actor_id=str(user_pk), at__gt=since).count() >= REFUSALS_PER_HOUR
