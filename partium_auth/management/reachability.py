"""Can somebody get into each organization, and get an access token there? Asked by ``partium_doctor``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.shortcuts import resolve_url
from django.urls import Resolver404, get_script_prefix, resolve
from django.utils import timezone

from partium_auth import policy
from partium_auth.accounts.enabled_logins import is_oidc_login_enabled, is_password_login_enabled
from partium_auth.conf import conf
from partium_auth.models import ApiKey, EmailDomain, IdentityProvider, Invitation, Membership, Organization
from partium_auth.oidc import providers
from partium_auth.services.provider_check import Finding

SHOWN = 20
"""How many organizations a line names."""


def check_organizations() -> Iterator[Finding]:
    """Name the active organizations that nobody can get into, or in which nobody gets a token.

    An error where there is no other organization, a warning otherwise.
    """
    rows = list(Organization.objects.filter(is_active=True).order_by("org_id").select_related("required_provider"))
    if not rows:
        yield Finding(
            "warning",
            "There is no organization, so nobody can search.",
            "Add one in the admin, with the id that Partium gave it.",
        )
        return
    oidc, password = is_oidc_login_enabled(), is_password_login_enabled()
    has_site_wide = oidc and bool(providers.site_wide())
    owners = _ids(IdentityProvider.objects.filter(is_active=True, organization__isnull=False)) if oidc else set()
    members = _ids(Membership.objects.filter(**policy.active_people("user__")))
    invited = _ids(Invitation.objects.filter(accepted_at=None, expires_at__gt=timezone.now()))
    with_key = _ids(ApiKey.objects.usable())

    def can_log_in(row: Organization) -> bool:
        return has_site_wide or row.pk in owners or password

    def is_by_key(row: Organization) -> bool:
        return row.token_source != Organization.TokenSource.USER

    gaps = (
        (
            [
                row
                for row in rows
                if not (has_site_wide or row.pk in owners or row.pk in members)
                and not (row.pk in invited and can_log_in(row))
                and not (password and row.org_id == conf.password_organization)
            ],
            "Nobody can get into {}: no member, no open invitation, no identity provider, not PARTIUM_PASSWORD_ORGANIZATION.",
            "Add a member or an invitation in the admin, set up an identity provider, or set PARTIUM_PASSWORD_ORGANIZATION.",
        ),
        (
            [row for row in rows if not is_by_key(row) and not can_log_in(row)],
            "Nobody gets a token in {}: tokens come from each person's own login there, and nobody can log in through this app.",
            "Set up an identity provider or PartiumPasswordBackend, or set the token source to an API key and add a key.",
        ),
        (
            [row for row in rows if (required := row.required_provider) and not (oidc and required.is_active)],
            "Nobody may open {}: the identity provider that it requires is not active, or PartiumOIDCBackend is missing.",
            "Activate the provider, or clear the organization's required provider in the admin.",
        ),
        (
            [row for row in rows if is_by_key(row) and row.pk not in with_key],
            "No usable API key: {}.",
            "Their developers can add one in the key admin.",
        ),
    )
    closed = {row.pk for found, _, _ in gaps for row in found}
    is_all = len(closed) == len(rows)
    for found, text, advice in gaps:
        if found:
            yield Finding("error" if is_all else "warning", text.format(_names(found)), advice)
    if not closed:
        yield Finding("ok", f"Active organizations: {len(rows)}; somebody can get into each, and get a token there.")


def check_login_page() -> Iterator[Finding]:
    """Name what makes a login page of no use: a backend or a setting that is missing, or providers that it does not list."""
    org_id, password = conf.password_organization, is_password_login_enabled()
    if org_id and not Organization.objects.named(org_id).filter(is_active=True).exists():
        yield Finding(
            "error",
            f"PARTIUM_PASSWORD_ORGANIZATION names {org_id!r}, and there is no active organization with this id.",
            "Add it in the admin, with the id that Partium gave it, or correct the setting.",
        )
    if org_id and not password:
        yield Finding(
            "error",
            "PARTIUM_PASSWORD_ORGANIZATION is set, but nobody can log in with a Partium password.",
            'Add "partium_auth.backends.PartiumPasswordBackend" to AUTHENTICATION_BACKENDS, or remove the setting.',
        )
    rows = IdentityProvider.objects.filter(is_active=True)
    if (providers.is_configured() or rows.exists()) and not is_oidc_login_enabled():
        yield Finding(
            "error",
            "There is an identity provider, but no backend that logs people in: every login there is refused.",
            'Add "partium_auth.backends.PartiumOIDCBackend" to AUTHENTICATION_BACKENDS.',
        )
    has_domain = EmailDomain.objects.filter(provider__is_active=True).exists()
    if rows.exists() and not (providers.site_wide() or has_domain or password):
        yield Finding(
            "warning",
            "The login page offers nothing: every identity provider belongs to an organization and has no e-mail domain.",
            "Add e-mail domains to the providers, or give people their organization's link: …/login/?organization=<id>.",
        )


def check_targets() -> Iterator[Finding]:
    """Name the settings that send people to a page that does not exist."""
    for name, who in (("LOGIN_URL", "Who has to log in"), ("LOGIN_REDIRECT_URL", "Who has logged in")):
        target = getattr(settings, name)
        url = resolve_url(target)
        if not url.startswith("/") or url.startswith("//"):
            continue  # another site's, or the system check partium_auth.E027
        path = url.partition("?")[0].partition("#")[0]
        try:
            resolve("/" + path.removeprefix(get_script_prefix()).lstrip("/"))
        except Resolver404:
            page = "partium_auth:login" if name == "LOGIN_URL" else "/"
            yield Finding(
                "warning",
                f"{who} is sent to {name} ({target}), and this site has no such page.",
                f'Add the page, or set {name} = "{page}".' if target != page else "Add the page, or name another one.",
            )


def _ids(rows: QuerySet[Any]) -> set[Any]:
    return set(rows.order_by().values_list("organization_id", flat=True).distinct())


def _names(rows: Collection[Organization]) -> str:
    names = [row.org_id for row in rows]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
