"""The only code that writes keys, members, organizations, providers and encryption keys, and that deletes events.

Admin, commands, logins and a site's own code call it. Each function is told who acts: a user, or None for the system;
``partium_auth.policy`` decides what they may do.
"""

from partium_auth.services.client_keys import create_client_key
from partium_auth.services.encryption_keys import reseal
from partium_auth.services.erasure import clear_events, erase_person
from partium_auth.services.grants import revoke_grants
from partium_auth.services.identities import connect_identity, disconnect_identity
from partium_auth.services.key_verification import Outcome
from partium_auth.services.keys import add_key, change_key, find_by_value, revoke_key, rotate_key, verify_key
from partium_auth.services.members import (
    accept_invitations,
    add_member,
    decline_invitation,
    invite,
    leave_organization,
    remove_member,
    set_claimed_memberships,
    withdraw_invitation,
)
from partium_auth.services.organizations import add_organization, change_organization
from partium_auth.services.providers import delete_provider, save_provider

__all__ = [
    "Outcome",
    "accept_invitations",
    "add_key",
    "add_member",
    "add_organization",
    "change_key",
    "change_organization",
    "clear_events",
    "connect_identity",
    "create_client_key",
    "decline_invitation",
    "delete_provider",
    "disconnect_identity",
    "erase_person",
    "find_by_value",
    "invite",
    "leave_organization",
    "remove_member",
    "reseal",
    "revoke_grants",
    "revoke_key",
    "rotate_key",
    "save_provider",
    "set_claimed_memberships",
    "verify_key",
    "withdraw_invitation",
]
