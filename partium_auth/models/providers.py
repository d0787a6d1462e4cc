"""Identity providers in the database, beside the one of the base library's ``OIDC_…`` settings."""

from __future__ import annotations

import uuid
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.validators import RegexValidator, URLValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from partium_auth.fields import SealedField, context_of
from partium_auth.models.texts import validate_seen
from partium_auth.models.versions import DecidesAccess, DecidesAccessQuerySet

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

validate_provider_slug = RegexValidator(r"\A[a-z0-9][a-z0-9-]{0,48}\Z", _("Lower-case letters, digits and hyphens."))
validate_email_domain = RegexValidator(
    r"\A(?=.{4,190}\Z)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z0-9]\Z",
    _("A domain in lower case, such as example.com."),
)

# No URLField: its form field adds a scheme that nobody typed. The transport refuses plain http, but to this machine.
validate_endpoint = URLValidator(schemes=["https", "http"])


ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
    "revocation_endpoint",
    "pushed_authorization_request_endpoint",
)


def _endpoint(name: StrOrPromise, **options: Any) -> models.CharField[str, str]:
    """Return the field of a URL that an operator may type; empty: as in the discovery document."""
    return models.CharField(name, max_length=500, blank=True, default="", validators=[validate_endpoint], **options)


class IdentityProvider(DecidesAccess):
    """An OpenID provider: site-wide, or one organization's own. Written by superusers only."""

    organization_field = ""  # its logins may be open in any organization
    DECIDES_WHO_GETS_SECRETS = ("organization_id", "issuer", *ENDPOINTS)
    """After a change of one of these, the client secret does not open, and no refresh token of a login is sent any more."""
    sealed_with: ClassVar = {"client_secret": DECIDES_WHO_GETS_SECRETS}

    class ClientAuthentication(models.TextChoices):
        BASIC = "client_secret_basic", "client_secret_basic"
        POST = "client_secret_post", "client_secret_post"
        PRIVATE_KEY_JWT = "private_key_jwt", _("private_key_jwt (key pair)")
        PRIVATE_KEY_JWT_ENDPOINT = (
            "private_key_jwt token_endpoint",
            _("private_key_jwt, for providers that expect their token endpoint as audience"),
        )
        NONE = "none", _("none (public client)")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(
        _("short name"),
        max_length=49,
        unique=True,
        validators=[validate_provider_slug],
        help_text=_("Part of the callback URL; cannot be changed once somebody has logged in."),
    )
    display_name = models.CharField(_("name"), max_length=190, validators=[validate_seen])
    organization = models.ForeignKey(
        "partium_auth.Organization",
        verbose_name=_("organization"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="identity_providers",
        help_text=_("Empty for a site-wide provider. A provider of one organization opens that organization only."),
    )
    issuer = models.CharField(
        _("issuer"),
        max_length=255,
        help_text=_("Exactly as the provider writes it, such as https://login.example.com/realms/acme"),
    )
    client_id = models.CharField(_("client id"), max_length=255)
    client_secret = SealedField(_("client secret"), null=True, blank=True)
    client_authentication = models.CharField(
        _("client authentication"),
        max_length=32,
        choices=ClientAuthentication.choices,
        default=ClientAuthentication.BASIC,
    )
    scopes = models.CharField(_("scopes"), max_length=255, default="openid email profile")
    extra_parameters = models.JSONField(
        _("extra parameters"), default=dict, blank=True, help_text=_("Sent with every login, as a JSON object.")
    )
    signing_algorithms = models.CharField(
        _("signing algorithms"),
        max_length=190,
        blank=True,
        default="",
        help_text=_("Choose the algorithms that ID tokens may be signed with. Choose none to allow all of these."),
    )
    authorization_endpoint = _endpoint(_("authorization endpoint"))
    token_endpoint = _endpoint(_("token endpoint"))
    jwks_uri = _endpoint(_("key set (jwks_uri)"))
    userinfo_endpoint = _endpoint(_("userinfo endpoint"))
    end_session_endpoint = _endpoint(_("end-session endpoint"))
    revocation_endpoint = _endpoint(_("revocation endpoint"))
    pushed_authorization_request_endpoint = _endpoint(
        _("pushed authorization request endpoint"),
        help_text=_("Enter it if logins have to be pushed there (PAR) and the discovery document does not require it."),
    )
    use_userinfo = models.BooleanField(
        _("ask the userinfo endpoint"),
        default=False,
        help_text=_("One more call at each login; needed where the ID token lacks the claims."),
    )
    refresh_tokens_reusable = models.BooleanField(
        _("refresh tokens may be sent twice"),
        default=False,
        help_text=_("Tick where the provider does not rotate refresh tokens, or accepts the previous one for a while."),
    )
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = DecidesAccessQuerySet["IdentityProvider"].as_manager()

    class Meta:
        verbose_name = _("identity provider")
        verbose_name_plural = _("identity providers")
        ordering = ("display_name",)

    def __str__(self) -> str:
        return self.display_name or self.slug

    @property
    def bound_to(self) -> str:
        """What logins here are bound to: a digest of :attr:`DECIDES_WHO_GETS_SECRETS`."""
        return sha256(context_of(self, "client_secret").encode()).hexdigest()[:32]


class EmailDomain(models.Model):
    """People whose e-mail address is in this domain log in through this provider. A domain has one provider."""

    provider = models.ForeignKey(
        IdentityProvider, verbose_name=_("identity provider"), on_delete=models.CASCADE, related_name="email_domains"
    )
    domain = models.CharField(_("domain"), max_length=190, unique=True, validators=[validate_email_domain])

    class Meta:
        verbose_name = _("e-mail domain")
        verbose_name_plural = _("e-mail domains")
        ordering = ("domain",)

    def __str__(self) -> str:
        return self.domain
