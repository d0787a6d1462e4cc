"""Which providers there are: the one of the base library's ``OIDC_…`` settings, and the rows of ``IdentityProvider``.

Every login reads its provider anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as AnyDatabaseError

from partium_auth.models import EmailDomain, IdentityProvider, Organization
from partium_auth.oidc.provider import (
    ASYMMETRIC_ALGORITHMS,
    BASIC,
    CLIENT_AUTHENTICATIONS,
    ENDPOINTS,
    HMAC_ALGORITHMS,
    POST,
    Provider,
    discovery_url_of,
)

DEFAULT = "default"
"""The slug of the provider that the settings describe."""


def get(slug: str) -> Provider:
    """Return a provider that people may log in through.

    Raises:
        LookupError: there is none of this name, or it is not active, or the organization it belongs to is not.
        EncryptionError: its client secret does not open.
    """
    if slug == DEFAULT and is_configured():
        return from_settings()
    row = IdentityProvider.objects.select_related("organization").filter(slug=slug, is_active=True).first()
    if row is None or row.slug != slug or not (row.organization is None or row.organization.is_active):
        raise LookupError(f"There is no active identity provider {slug!r}.")
    return from_row(row)


def exists(slug: str) -> bool:
    """Tell whether there is a provider of this name, active or not; False where the database cannot tell."""
    if slug == DEFAULT and is_configured():
        return True
    with contextlib.suppress(AnyDatabaseError):
        return slug in IdentityProvider.objects.filter(slug=slug).values_list("slug", flat=True)
    return False


def site_wide() -> list[tuple[str, str]]:
    """Return ``(slug, name)`` of the providers that a login page may list: active and of no organization."""
    listed = [(DEFAULT, settings_name())] if is_configured() else []
    rows = IdentityProvider.objects.filter(organization=None, is_active=True).values_list("slug", "display_name")
    return listed + [(slug, name or slug) for slug, name in rows if not (listed and slug == DEFAULT)]


def slug_for_email(email: str) -> str | None:
    """Return the slug of the provider that an e-mail address's domain belongs to, or None."""
    domain = email.strip().rpartition("@")[2].lower().rstrip(".")
    try:
        domain = domain.encode("idna").decode("ascii") if domain else ""
    except UnicodeError:
        return None
    # Compare again: a database's collation may ignore case or accents.
    found = EmailDomain.objects.filter(domain=domain, provider__is_active=True).values_list("domain", "provider__slug")
    return next((slug for row, slug in found if row == domain), None)


def slug_for_organization(org_id: str) -> str | None:
    """Return the slug of the provider that an organization's own login link leads to, or None.

    That is the provider that it requires, or else the only one that belongs to it. None also for an unknown organization.
    """
    rows = Organization.objects.named(org_id).filter(is_active=True).select_related("required_provider")
    organization = next((row for row in rows if row.org_id == org_id), None)
    if organization is None:
        return None
    required = organization.required_provider
    if required is not None:
        return required.slug if required.is_active else None
    slugs = organization.identity_providers.filter(is_active=True).values_list("slug", flat=True)
    return slugs[0] if len(slugs) == 1 else None


def from_row(row: IdentityProvider) -> Provider:
    """Return the provider that a row describes, active or not. Raises EncryptionError: the client secret does not open."""
    named = row.signing_algorithms.split()
    algorithms = tuple(name for name in named if name in ASYMMETRIC_ALGORITHMS) if named else ASYMMETRIC_ALGORITHMS
    endpoints = {name: url for name in ENDPOINTS if (url := getattr(row, name))}
    return Provider(
        slug=row.slug,
        display_name=str(row),
        issuer=row.issuer,
        client_id=row.client_id,
        client_secret=row.client_secret.reveal() if row.client_secret is not None else "",
        client_authentication=row.client_authentication,
        scopes=_with_openid(row.scopes),
        extra_parameters=row.extra_parameters if isinstance(row.extra_parameters, dict) else {},
        signing_algorithms=algorithms,
        endpoints=endpoints,
        discovery_url="" if _is_static(endpoints) else discovery_url_of(row.issuer),
        organization_id=row.organization_id,
        use_userinfo=row.use_userinfo,
        refresh_tokens_reusable=row.refresh_tokens_reusable,
        bound_to=row.bound_to,
    )


def is_configured() -> bool:
    """Tell whether the settings describe a provider: a client id is there."""
    return bool(getattr(settings, "OIDC_RP_CLIENT_ID", ""))


def settings_name() -> str:
    """Return what the login page calls the provider of the settings: ``OIDC_OP_NAME``, or the host of its issuer."""
    name: str = getattr(settings, "OIDC_OP_NAME", "")
    source = _setting("OIDC_OP_ISSUER") or _setting("OIDC_OP_DISCOVERY_ENDPOINT")
    try:
        return name or urlsplit(source or _setting("OIDC_OP_AUTHORIZATION_ENDPOINT")).hostname or DEFAULT
    except ValueError:  # not a URL; the login reports it
        return DEFAULT


def from_settings() -> Provider:
    """Return the provider named ``default``; ``docs/settings.md`` lists its settings.

    Raises:
        ImproperlyConfigured: a setting has the wrong type or names an unknown algorithm.
    """
    endpoints = {name: url for name, setting in ENDPOINTS.items() if (url := _setting(setting))}
    signing_key = getattr(settings, "OIDC_RP_IDP_SIGN_KEY", None)
    issuer = _setting("OIDC_OP_ISSUER")
    discovery_url = _setting("OIDC_OP_DISCOVERY_ENDPOINT")
    if issuer and not discovery_url and not _is_static(endpoints, signing_key):
        discovery_url = discovery_url_of(issuer)
    client_secret = _setting("OIDC_RP_CLIENT_SECRET")
    basic = getattr(settings, "OIDC_TOKEN_USE_BASIC_AUTH", None)
    client_authentication = _setting("OIDC_RP_CLIENT_AUTHENTICATION")
    if client_authentication and client_authentication not in CLIENT_AUTHENTICATIONS:
        raise ImproperlyConfigured(f"OIDC_RP_CLIENT_AUTHENTICATION must be one of {', '.join(CLIENT_AUTHENTICATIONS)}.")
    if client_authentication:
        pass
    elif not client_secret:
        client_authentication = "none"
    elif basic is None:
        client_authentication = "" if discovery_url else POST
    else:
        client_authentication = BASIC if basic else POST
    extra = getattr(settings, "OIDC_AUTH_REQUEST_EXTRA_PARAMS", {})
    if not isinstance(extra, Mapping):
        raise ImproperlyConfigured("OIDC_AUTH_REQUEST_EXTRA_PARAMS must be a dictionary.")
    return Provider(
        slug=DEFAULT,
        display_name=settings_name(),
        issuer=issuer,
        client_id=_setting("OIDC_RP_CLIENT_ID"),
        client_secret=client_secret,
        client_authentication=client_authentication,
        scopes=_with_openid(_setting("OIDC_RP_SCOPES") or "openid email"),
        extra_parameters=dict(extra),
        signing_algorithms=_settings_algorithms(),
        signing_key=signing_key,
        endpoints=endpoints,
        discovery_url=discovery_url,
        use_userinfo="userinfo_endpoint" in endpoints,
        refresh_tokens_reusable=bool(getattr(settings, "OIDC_REFRESH_TOKENS_REUSABLE", False)),
        verify_kid=bool(getattr(settings, "OIDC_VERIFY_KID", True)),
    )


def _is_static(endpoints: Mapping[str, str], signing_key: object = None) -> bool:
    needed = {"authorization_endpoint", "token_endpoint", *(() if signing_key else ("jwks_uri",))}
    return needed <= endpoints.keys()


def _settings_algorithms() -> tuple[str, ...]:
    value = getattr(settings, "OIDC_RP_SIGN_ALGO", None)
    if value is None:
        return ASYMMETRIC_ALGORITHMS
    names = value.split() if isinstance(value, str) else value
    known = (*ASYMMETRIC_ALGORITHMS, *HMAC_ALGORITHMS)
    if not isinstance(names, Collection) or not names or not all(name in known for name in names):
        raise ImproperlyConfigured("OIDC_RP_SIGN_ALGO must name algorithms such as RS256, PS256, ES256 or EdDSA.")
    return tuple(names)


def _setting(name: str) -> str:
    value = getattr(settings, name, None) or ""
    if not isinstance(value, str):
        raise ImproperlyConfigured(f"{name} must be a string.")
    return value


def _with_openid(scopes: str) -> str:
    names = scopes.split()
    return " ".join(names if "openid" in names else ["openid", *names])
