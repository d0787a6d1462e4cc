"""This process's way out: one transport, and Partium's API as the settings describe it."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from partium_auth.conf import conf

if TYPE_CHECKING:
    from partium_auth.http.transport import Transport
    from partium_auth.partium.authentication import AuthenticationAPI
    from partium_auth.partium.client import BearerSource, FindClient

EXCHANGE_SECONDS = 8.0
"""A token exchange is aborted this long after it began, whatever the socket does."""


@cache
def transport() -> Transport:
    """Return the process's transport for token exchanges. ``requests`` is imported here, not before."""
    from partium_auth.http.transport import Transport

    return Transport(total_seconds=EXCHANGE_SECONDS)


@lru_cache(maxsize=4)
def bounded_transport(total_seconds: float) -> Transport:
    """Return the process's transport for calls that may take so long in all, and be silent for as long."""
    from partium_auth.http.transport import Transport

    return Transport(read_seconds=total_seconds, total_seconds=total_seconds)


def authentication_api(total_seconds: float | None = None) -> AuthenticationAPI:
    """Return Partium's Authentication API.

    Args:
        total_seconds: for each exchange; None: :data:`EXCHANGE_SECONDS`.
    """
    from partium_auth.partium.authentication import AuthenticationAPI

    way = transport() if total_seconds is None else bounded_transport(total_seconds)
    return AuthenticationAPI(way, base_url=conf.api_url, auth_path=conf.auth_path, refresh_path=conf.refresh_path)


def find_client(source: BearerSource, organization: str, external_user_id: str | None = None) -> FindClient:
    """Return a Find API client.

    Args:
        source: where its bearer comes from.
        organization: Partium's id of the organization to search in.
        external_user_id: an opaque id of the person, where a key is shared.
    """
    from django.utils.translation import get_language

    from partium_auth.partium.client import FindClient

    return FindClient(
        bounded_transport(conf.timeout_seconds),
        base_url=conf.api_url,
        source=source,
        organization=organization,
        external_user_id=external_user_id,
        language=conf.language or (get_language() or "en").split("-")[0],
    )
