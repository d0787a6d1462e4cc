"""Partium access tokens for Django sessions.

Importing this package imports neither Django nor ``requests`` nor ``cryptography``; the names below load what they
need when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from partium_auth.version import __version__

if TYPE_CHECKING:
    from partium_auth.partium.client import FindClient
    from partium_auth.request import PartiumRequest

__all__ = ["PartiumRequest", "__version__", "afor_organization", "for_organization"]


def __getattr__(name: str) -> type[PartiumRequest]:
    # Imported on first use (PEP 562), because it needs Django.
    if name != "PartiumRequest":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from partium_auth.request import PartiumRequest

    return PartiumRequest


def for_organization(org_id: str) -> FindClient:
    """Return a client that acts for an organization where no request is at hand: Celery, cron, a shell.

    Args:
        org_id: Partium's id of the organization, such as ``"acme"``.

    Raises:
        NoOrganization: there is no active organization with this id.

    The organization's newest usable API key is exchanged for access tokens on first use (``NoUsableKey`` then, where
    there is none), and those are shared with everybody else who acts through that key.
    """
    from partium_auth import clients

    return clients.for_organization(org_id)


async def afor_organization(org_id: str) -> FindClient:
    """Like :func:`for_organization`, without blocking the event loop."""
    from asgiref.sync import sync_to_async

    from partium_auth import clients

    return await sync_to_async(clients.for_organization)(org_id)
