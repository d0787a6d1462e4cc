"""The only code that changes what is stored: admin, commands, login and a site's own code call it.

Every service is told who acts: a user, or None for the system itself; ``partium_auth.policy`` decides what they may.
"""

from partium_auth.services.members import (
    accept_invitations,
    add_member,
    add_organization,
    change_organization,
    invite,
    remove_member,
    set_claimed_memberships,
    withdraw_invitation,
)

__all__ = [
    "accept_invitations",
    "add_member",
    "add_organization",
    "change_organization",
    "invite",
    "remove_member",
    "set_claimed_memberships",
    "withdraw_invitation",
]
