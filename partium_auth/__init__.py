"""Partium access tokens for Django sessions.

Importing this package imports neither Django nor ``requests`` nor ``cryptography``; the names below load what they
need when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from partium_auth.version import __version__

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from partium_auth.models import Organization
    from partium_auth.partium.client import FindClient
    from partium_auth.request import PartiumRequest

__all__ = ["PartiumRequest", "__version__", "afor_organization", "afor_user", "for_organization", "for_user"]


def __getattr__(name: str) -> type[PartiumRequest]:
    # Imported on first use (PEP 562), because it needs Django.
    if name != "PartiumRequest":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from partium_auth.request import PartiumRequest

    return PartiumRequest


def for_organization(organization: Organization | str, *, user: AbstractBaseUser | None = None) -> FindClient:
    """Return a client that acts for an organization where no request is at hand: Celery, cron, a shell.

    Args:
        organization: the organization, or Partium's id of it, such as ``"acme"``.
        user: the person whom the job acts for. Partium is told an opaque id of the person, the same one as from the
            person's sessions, and tells people apart by it (Partium, Find API: identifying unique users).

    Raises:
        NoOrganization: there is no such active organization.
        ValueError: the user is not stored.

    The organization's newest usable API key is exchanged for access tokens on first use (``NoUsableKey`` then, where
    there is none), and those are shared with everybody else who acts through that key. Whether the user is a member is not
    asked; :func:`for_user` asks it.
    """
    from partium_auth import clients

    return clients.for_organization(organization, user=user)


async def afor_organization(organization: Organization | str, *, user: AbstractBaseUser | None = None) -> FindClient:
    """Like :func:`for_organization`, without blocking the event loop."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(for_organization)(organization, user=user)


def for_user(user: AbstractBaseUser, organization: Organization | str) -> FindClient:
    """Return a client that acts for a person in an organization where no request is at hand.

    Args:
        user: the person; read anew for each call.
        organization: the organization, or Partium's id of it, such as ``"acme"``.

    Raises:
        NoOrganization: there is no such active organization, or the person is not active or not a member.
        LoginRequired: the organization's access tokens come from logins, and the person has none that lives and may use
            the organization.

    Where the organization's access tokens come from logins, the person's newest living one is used, of whichever session;
    otherwise the organization's API key, with the opaque id of the person. Both are looked up for each call, which raises the
    same errors.
    """
    from partium_auth import clients

    return clients.for_user(user, organization)


async def afor_user(user: AbstractBaseUser, organization: Organization | str) -> FindClient:
    """Like :func:`for_user`, without blocking the event loop."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(for_user)(user, organization)
