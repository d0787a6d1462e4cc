"""Organizations and who belongs to them."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.models.texts import validate_seen
from partium_auth.models.versions import DecidesAccess, DecidesAccessQuerySet, new_version


class Role(models.TextChoices):
    """What a person may do in an organization."""

    MEMBER = "member", _("member")
    DEVELOPER = "developer", _("developer")


class Origin(models.TextChoices):
    """Where a membership comes from. Claims end only memberships that came from claims."""

    CLAIMS = "claims", _("by login")
    ADMIN = "admin", _("by an administrator")


class OrganizationQuerySet(DecidesAccessQuerySet["Organization"]):
    def named(self, organization: Organization | str) -> OrganizationQuerySet:
        """Return this organization, or the one with this Partium id, or none. The id may be any text that somebody typed."""
        if isinstance(organization, Organization):
            return self.filter(pk=organization.pk)
        org_id = organization
        # PostgreSQL raises an error for NUL in a text, and every database for half a surrogate pair.
        askable = org_id == org_id.replace("\0", "").encode(errors="ignore").decode()
        return self.filter(org_id=org_id) if askable else self.none()


class Organization(DecidesAccess):
    """One Partium organization."""

    organization_field = "pk"

    class TokenSource(models.TextChoices):
        USER = "user", _("each person's own login")
        API_KEY = "api_key", _("the organization's API key, exchanged for access tokens")
        API_KEY_DIRECT = "api_key_direct", _("the organization's API key, sent as it is by the server")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    org_id = models.CharField(_("Partium id"), max_length=190, unique=True, validators=[validate_seen])
    display_name = models.CharField(_("name"), max_length=190, blank=True, validators=[validate_seen])
    token_source = models.CharField(
        _("access tokens come from"), max_length=16, choices=TokenSource.choices, default=TokenSource.USER
    )
    required_provider = models.ForeignKey(
        "partium_auth.IdentityProvider",
        verbose_name=_("required identity provider"),
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="required_by",
        help_text=_("Only sessions that logged in through this provider may open the organization."),
    )
    is_active = models.BooleanField(_("active"), default=True)
    version = models.BigIntegerField(default=new_version, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        verbose_name = _("organization")
        verbose_name_plural = _("organizations")
        ordering = ("display_name", "org_id")
        indexes = (models.Index(fields=["display_name", "org_id"], name="partium_organization_by_name"),)

    def __str__(self) -> str:
        return self.display_name or self.org_id


class Membership(DecidesAccess):
    """A person belongs to an organization. One row per origin, so that claims can be withdrawn without touching the rest."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.CASCADE, related_name="partium_memberships"
    )
    organization = models.ForeignKey(
        Organization, verbose_name=_("organization"), on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(_("role"), max_length=16, choices=Role.choices, default=Role.MEMBER)
    origin = models.CharField(_("origin"), max_length=16, choices=Origin.choices, default=Origin.ADMIN, editable=False)
    identity = models.ForeignKey(
        "partium_auth.Identity",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="memberships",
        help_text=_("Whose claims gave this membership."),
    )
    created_at = models.DateTimeField(_("since"), auto_now_add=True)

    objects = DecidesAccessQuerySet["Membership"].as_manager()

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = (
            models.UniqueConstraint(fields=["user", "organization", "origin"], name="partium_membership_unique"),
        )

    def __str__(self) -> str:
        return f"{self.user} – {self.organization} ({self.get_role_display()})"
