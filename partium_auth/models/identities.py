"""Who a person is at an identity provider, and who has been invited."""

from __future__ import annotations

import hashlib
import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.models.organizations import Organization, Role
from partium_auth.models.texts import validate_seen


def identity_digest(issuer: str, subject: str) -> str:
    """Return the key by which an identity is found: SHA-256 of issuer and subject, in hexadecimal digits.

    Both are case-sensitive (OpenID Connect Core §2), but not every database compares so.
    """
    return hashlib.sha256(f"{issuer}\x00{subject}".encode()).hexdigest()


class Identity(models.Model):
    """One subject at one issuer, and the user it belongs to. Logins find users by this, not by e-mail address."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    issuer = models.CharField(_("issuer"), max_length=255)
    subject = models.CharField(_("subject"), max_length=255)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.CASCADE, related_name="partium_identities"
    )
    created_at = models.DateTimeField(_("first login"), auto_now_add=True)
    last_login_at = models.DateTimeField(_("last login"), null=True, blank=True)

    class Meta:
        verbose_name = _("identity")
        verbose_name_plural = _("identities")

    def __str__(self) -> str:
        return f"{self.subject} @ {self.issuer}"


class Invitation(models.Model):
    """Membership for whoever next logs in with this verified e-mail address."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(_("e-mail address"), max_length=254, db_index=True, validators=[validate_seen])
    # As it was typed: Partium's user names are exact.
    name = models.CharField(max_length=254, editable=False, default="")
    organization = models.ForeignKey(
        Organization, verbose_name=_("organization"), on_delete=models.CASCADE, related_name="invitations"
    )
    role = models.CharField(_("role"), max_length=16, choices=Role.choices, default=Role.MEMBER)
    invited_by = models.ForeignKey(
        # Not SET_NULL: without an inviter it would count as the system's, which may invite anybody.
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )
    created_at = models.DateTimeField(_("invited"), auto_now_add=True)
    expires_at = models.DateTimeField(_("open until"))
    accepted_at = models.DateTimeField(_("accepted"), null=True, blank=True, editable=False)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    declined_at = models.DateTimeField(null=True, blank=True, editable=False)  # after a login had accepted it

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.email or '–'} → {self.organization}"


class UsedOnce(models.Model):
    """A logout token or a login's ``state`` that was used; stored until it expires, so that it cannot be used again."""

    digest = models.CharField(max_length=64, primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest[:8]


class LoginAttempts(models.Model):
    """How often a Partium password was tried within a few minutes, for one address, account or both."""

    digest = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest[:8]
