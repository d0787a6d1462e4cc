"""Identity providers in the database: written by operators only, because the server fetches their URLs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from partium_auth import policy
from partium_auth.conf import conf
from partium_auth.fields import seal
from partium_auth.models import AuditEvent, Grant, Identity, IdentityProvider
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.oidc import providers
from partium_auth.sealed.plain import Plain
from partium_auth.services.audit import record
from partium_auth.tokens import grants

if TYPE_CHECKING:
    from partium_auth.policy import Actor

_COLUMNS = tuple(
    column.name
    for column in IdentityProvider._meta.concrete_fields
    if column.name not in {"client_secret", "created_at"}
)


def save_provider(
    provider: IdentityProvider, *, actor: Actor, client_secret: str | Plain | None = None
) -> IdentityProvider:
    """Store an identity provider, new or changed.

    Args:
        provider: as it should become; a secret that is stored already stays.
        actor: an operator; None: the system.
        client_secret: a new secret; None keeps the old one.

    A change of what decides who gets secrets (organization, issuer, a URL) needs the client secret again and ends all logins
    at this provider, because the stored secret and the stored refresh tokens are sealed for the old values. A key pair for
    ``private_key_jwt`` is deleted for the same reason: make a new one.

    Raises:
        PermissionDenied: the actor is not an operator.
        ValidationError: people have logged in through this provider, and its short name or issuer was changed; or one of the
            two is taken, see :func:`validate_slug_and_issuer`; or the client secret has to be entered again (code
            ``secret_needed``).
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    client_secret = None if client_secret is None else Plain.of(client_secret)
    policy.require_operator(actor)
    before = IdentityProvider.objects.using(database_alias()).filter(pk=provider.pk).first()
    if before is not None and is_used(before):
        # Identities are (issuer, subject), and the callback URL is registered at the provider.
        for name in ("issuer", "slug"):
            if getattr(provider, name) != getattr(before, name):
                raise ValidationError({name: _("People have logged in through this provider: this cannot change.")})
    validate_slug_and_issuer(provider)
    validate_client_secret(provider, has_new_secret=client_secret is not None)
    if not provider.pk:  # Django's inline forms take a new row's primary key away
        provider.pk = uuid.uuid4()
    if client_secret is not None:
        provider.client_secret = seal(provider, "client_secret", client_secret)
    with transaction.atomic(using=database_alias()):
        provider.save()
        if before is not None and before.bound_to != provider.bound_to:
            grants.revoke(Grant.objects.filter(provider=before.slug), delete_sessions=True)
            provider.client_keys.all().delete()  # they do not open any more
        if before is None:
            _record(AuditEvent.Action.PROVIDER_ADDED, provider, actor)
        else:
            columns = [name for name in _COLUMNS if getattr(provider, name) != getattr(before, name)]
            changed = [*columns, "client_secret"] if client_secret is not None else columns
            record_change(provider, changed, actor=actor)
    return provider


def delete_provider(provider: IdentityProvider, *, actor: Actor) -> None:
    """Delete an identity provider, and its e-mail domains. Where people have logged in through it, make it inactive instead.

    Args:
        provider: the one to delete.
        actor: an operator; None: the system.

    Raises:
        PermissionDenied: the actor is not an operator.
        ProtectedError: an organization requires it.
    """
    policy.require_operator(actor)
    with transaction.atomic(using=database_alias()):
        _record(AuditEvent.Action.PROVIDER_DELETED, provider, actor)
        provider.delete()


def record_change(provider: IdentityProvider, fields: Sequence[str], *, actor: Actor) -> None:
    """Record which fields of a provider were changed; none is no event. Values may be secrets, so they are not recorded."""
    if fields:
        _record(AuditEvent.Action.PROVIDER_CHANGED, provider, actor, fields)


def _record(action: AuditEvent.Action, provider: IdentityProvider, actor: Actor, fields: Sequence[str] = ()) -> None:
    parameters = {"provider": provider.slug}
    record(
        action,
        actor=actor,
        organization=provider.organization,
        detail=EventDetail.PROVIDER_CHANGED if fields else EventDetail.BY_PROVIDER,
        parameters={**parameters, "fields": list(fields)} if fields else parameters,
    )


def validate_client_secret(provider: IdentityProvider, *, has_new_secret: bool) -> None:
    """Check that the client secret comes with a change of what decides who gets it.

    Raises:
        ValidationError: the stored secret is sealed for another organization, issuer or URL (code ``secret_needed``).
    """
    before = IdentityProvider.objects.using(database_alias()).filter(pk=provider.pk).first()
    if before is None or before.client_secret is None or has_new_secret or before.bound_to == provider.bound_to:
        return
    message = _("Organization, issuer or a URL was changed: enter the client secret again. It is sent to these URLs.")
    raise ValidationError(message, code="secret_needed")


def validate_slug_and_issuer(provider: IdentityProvider) -> None:
    """Check that a provider's short name is not that of the settings' provider, and that its issuer may be used.

    An organization's own provider and a site-wide one may not have the same issuer while both are active. Accounts are found
    by issuer and subject, so the organization's provider could log people in to site-wide accounts, privileged ones included.

    Raises:
        ValidationError: for ``slug`` or ``issuer``.
    """
    of_settings = provider.slug == providers.DEFAULT and providers.is_configured()
    # A row that was there before the settings named a provider can still be changed.
    if of_settings and not IdentityProvider.objects.filter(pk=provider.pk, slug=provider.slug).exists():
        raise ValidationError({"slug": _("The provider that the settings describe has this name.")})
    if not provider.is_active:
        return
    for name, owner in others_with_issuer(provider):
        if (owner is None) != (provider.organization_id is None):
            raise ValidationError(
                {
                    "issuer": _(
                        "%(name)s, which is active, has this issuer too. People are known by issuer and subject, so an "
                        "organization's own provider would open the accounts of a site-wide one. Let the organization's "
                        "people log in through the site-wide provider, or make that one inactive first."
                    )
                    % {"name": name}
                }
            )


def others_with_issuer(provider: IdentityProvider) -> list[tuple[str, uuid.UUID | None]]:
    """Return every active provider with the same issuer: its name, and its organization (None: site-wide)."""
    issuer = provider.issuer
    rows = IdentityProvider.objects.filter(issuer=issuer, is_active=True).exclude(pk=provider.pk)
    # Compare again: some databases ignore case.
    found = [(str(row), row.organization_id) for row in rows.defer("client_secret") if row.issuer == issuer]
    if providers.is_configured() and issuer in providers.from_settings().issuers:
        found.append((providers.settings_name(), None))
    if issuer == conf.api_url:
        found.append((_("Logging in with Partium user name and password"), None))
    return found


def is_used(provider: IdentityProvider) -> bool:
    """Tell whether somebody has logged in through a provider's issuer."""
    issuers = Identity.objects.filter(issuer=provider.issuer).values_list("issuer", flat=True).distinct()
    return provider.issuer in issuers[:10]  # compare again: some databases ignore case
