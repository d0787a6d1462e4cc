"""The tables. ``services`` writes them, ``tokens`` the grants; secrets are ``SealedField``s."""

from partium_auth.models.audit_events import AuditEvent
from partium_auth.models.client_keys import ClientKey
from partium_auth.models.fingerprints import FingerprintKey
from partium_auth.models.grants import Grant
from partium_auth.models.identities import Identity, Invitation, LoginAttempts, UsedOnce
from partium_auth.models.key_status import KeyStatus
from partium_auth.models.key_usage import ApiKeyUsage
from partium_auth.models.keys import ApiKey
from partium_auth.models.organizations import Membership, Organization, Origin, Role
from partium_auth.models.outages import Outage
from partium_auth.models.providers import EmailDomain, IdentityProvider

__all__ = [
    "ApiKey",
    "ApiKeyUsage",
    "AuditEvent",
    "ClientKey",
    "EmailDomain",
    "FingerprintKey",
    "Grant",
    "Identity",
    "IdentityProvider",
    "Invitation",
    "KeyStatus",
    "LoginAttempts",
    "Membership",
    "Organization",
    "Origin",
    "Outage",
    "Role",
    "UsedOnce",
]
