"""A grant is the right to obtain access tokens: one per login, one per API key."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.fields import SealedField
from partium_auth.models.identities import Identity
from partium_auth.models.keys import ApiKey


class Grant(models.Model):
    """What is needed to refresh an access token, and the state of that refresh.

    ``generation`` counts committed refreshes: every write of a token is a compare-and-swap on it. Lease columns,
    ``issued_at``, ``authenticated_at`` and ``auth_time`` are by the database's clock, and compared with it only.
    """

    class Kind(models.TextChoices):
        OIDC = "oidc", _("OIDC login")
        PASSWORD = "password", _("Partium user name and password")
        API_KEY = "api_key", _("API key")

    # What a stored token can be used for, and where it is sent, cannot be changed without the encryption keys.
    sealed_with: ClassVar = dict.fromkeys(
        ("access_token", "refresh_token", "id_token"), ("kind", "provider", "bound_to")
    )

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    user = models.ForeignKey(
        # Whoever deletes an account or an identity ends its logins; their refresh tokens are still to be revoked.
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="partium_grants",
    )
    api_key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, null=True, related_name="grant")
    provider = models.CharField(_("identity provider"), max_length=49, blank=True, default="")  # slug, of an OIDC login
    bound_to = models.CharField(max_length=36, blank=True, default="")  # a provider's digest, or a key's organization
    identity = models.ForeignKey(Identity, on_delete=models.SET_NULL, null=True, related_name="grants")
    issuer = models.CharField(max_length=255, blank=True, default="")  # of an OIDC login; stays without its identity
    session_id = models.CharField(max_length=255, blank=True, default="")  # the provider's sid
    session_key = SealedField(null=True)  # Django's, so that a logout from elsewhere can delete the session
    session_key_digest = models.CharField(max_length=32, blank=True, default="")  # tells whether the key has changed
    signed_with = models.CharField(max_length=8, blank=True, default="")  # the algorithm of its ID tokens
    id_token = SealedField(null=True)  # the id_token_hint of a log-out
    from_userinfo = models.JSONField(default=list)  # claims with rights that the ID token of a refresh does not know

    access_token = SealedField(null=True)
    refresh_token = SealedField(null=True)
    generation = models.PositiveBigIntegerField(default=0)
    # Seconds since the epoch, taken just before the request that obtained the token was sent.
    issued_at = models.FloatField(null=True)
    lifetime_seconds = models.PositiveIntegerField(default=0)
    reusable = models.BooleanField(default=False)  # the refresh token may be sent twice
    unrotated = models.PositiveSmallIntegerField(default=0)  # answers in a row that brought no other refresh token

    lease_id = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)

    authenticated_at = models.FloatField(null=True)  # seconds since the epoch; how old the login's claims are
    # When the person proved who they are (auth_time, Core §2), which may be long before the login; None: not told.
    auth_time = models.FloatField(null=True)
    rejected_at = models.DateTimeField(null=True)  # the upstream said that there will be no more tokens
    revoked_at = models.DateTimeField(_("revoked"), null=True)
    created_at = models.DateTimeField(_("since"), auto_now_add=True)
    refreshed_at = models.DateTimeField(_("last refreshed"), null=True)

    class Meta:
        verbose_name = _("grant")
        verbose_name_plural = _("grants")
        # No index on what a refresh writes: PostgreSQL would have to write to every index for each refresh (no HOT update).
        indexes = (
            models.Index(fields=["session_id"], name="partium_grant_by_session_id"),
            models.Index(fields=["created_at", "id"], name="partium_grant_by_age"),
            models.Index(fields=["kind", "created_at", "id"], name="partium_grant_by_kind"),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.id}"
