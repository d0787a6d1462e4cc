"""Key pairs that this site proves itself with at identity providers (``private_key_jwt``)."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.fields import SealedField
from partium_auth.models.providers import IdentityProvider


class ClientKey(models.Model):
    """One key pair for one provider. Its primary key is the ``kid``.

    Of a provider's keys the one with the latest ``used_from`` that is not in the future signs; all are published until
    ``published_until``. Keys of the settings' provider have none here, and an empty ``bound_to``.
    """

    # Who gets what it signs cannot be changed without the encryption keys. The public half comes out of it, too: whoever writes
    # to the database must not be able to publish a key of their own.
    sealed_with: ClassVar = {"private_key": ("provider_id", "bound_to", "algorithm")}

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, null=True, related_name="client_keys")
    bound_to = models.CharField(max_length=32, blank=True, default="", db_index=True)  # see IdentityProvider.bound_to
    algorithm = models.CharField(max_length=8)
    private_key = SealedField()  # a JWK, as JSON
    used_from = models.DateTimeField()
    published_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("key pair for a provider")
        verbose_name_plural = _("key pairs for providers")

    def __str__(self) -> str:
        return f"{self.algorithm} {self.pk}"
