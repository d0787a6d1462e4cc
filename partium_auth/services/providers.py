"""Identity providers in the database: written by operators only, because the server fetches their URLs."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied, ValidationError
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from partium_auth import policy
from partium_auth.fields import seal
from partium_auth.models import Identity, IdentityProvider

if TYPE_CHECKING:
    from partium_auth.policy import Actor


@sensitive_variables("client_secret")
def save_provider(provider: IdentityProvider, *, actor: Actor, client_secret: str | None = None) -> IdentityProvider:
    """Store an identity provider, new or changed.

    Args:
        provider: as it should become; a secret that is stored already stays.
        actor: an operator; None: the system.
        client_secret: a new secret; None keeps the old one.

    Raises:
        PermissionDenied: the actor is not an operator.
        ValidationError: the short name or the issuer of a provider that people have logged in through was changed.
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    if not policy.is_operator(actor):
        raise PermissionDenied
    before = IdentityProvider.objects.filter(pk=provider.pk).first()
    if before is not None and is_used(before):
        # Identities are (issuer, subject), and the callback URL is registered at the provider.
        for name in ("issuer", "slug"):
            if getattr(provider, name) != getattr(before, name):
                raise ValidationError({name: _("People have logged in through this provider: this cannot change.")})
    if not provider.pk:  # Django's inline forms take a new row's primary key away
        provider.pk = uuid.uuid4()
    if client_secret is not None:
        provider.client_secret = seal(provider, "client_secret", client_secret)
    provider.save()
    return provider


def is_used(provider: IdentityProvider) -> bool:
    """Tell whether somebody has logged in through a provider's issuer."""
    return any(issuer == provider.issuer for issuer in _issuers(provider.issuer))


def _issuers(issuer: str) -> list[str]:
    # Compared again by the caller: not every database tells upper case from lower.
    return list(Identity.objects.filter(issuer=issuer).values_list("issuer", flat=True).distinct()[:10])
