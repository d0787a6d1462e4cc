"""Administration: ``key_site`` for the developers of organizations, and the same pages on Django's own admin for operators.

``path("keys/", partium_auth.admin.key_site.urls)`` is all that a site adds. Who may see and do what is decided in
``partium_auth.policy``; Django's model permissions play no part.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model

from partium_auth.admin.events import AuditEventAdmin
from partium_auth.admin.grants import GrantAdmin
from partium_auth.admin.identities import IdentityAdmin
from partium_auth.admin.keys import ApiKeyAdmin
from partium_auth.admin.members import InvitationAdmin, MembershipAdmin
from partium_auth.admin.organizations import OrganizationAdmin
from partium_auth.admin.providers import IdentityProviderAdmin
from partium_auth.admin.site import KeySite
from partium_auth.models import (
    ApiKey,
    AuditEvent,
    Grant,
    Identity,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
)

__all__ = ["MODEL_ADMINS", "KeySite", "key_site", "register"]

MODEL_ADMINS: dict[type[Model], type[admin.ModelAdmin[Any]]] = {
    ApiKey: ApiKeyAdmin,
    AuditEvent: AuditEventAdmin,
    Organization: OrganizationAdmin,
    Membership: MembershipAdmin,
    Invitation: InvitationAdmin,
    IdentityProvider: IdentityProviderAdmin,
    Identity: IdentityAdmin,
    Grant: GrantAdmin,
}


def register(site: admin.AdminSite) -> None:
    """Register this app's pages on an admin site of the host's own."""
    for model, model_admin in MODEL_ADMINS.items():
        site.register(model, model_admin)


key_site = KeySite(name="partium_keys")
register(key_site)
register(admin.site)
