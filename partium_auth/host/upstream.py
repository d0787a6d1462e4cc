"""The transport that a process sends its HTTP requests with, and clients of Partium's API as configured."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING

from partium_auth import signals
from partium_auth.conf import conf
from partium_auth.host import background
from partium_auth.host.waiting import waiting_callers

if TYPE_CHECKING:
    from partium_auth.http.transport import Call, Transport
    from partium_auth.partium.authentication import AuthenticationAPI
    from partium_auth.partium.bearers import Bearer
    from partium_auth.partium.client import BearerSource, FindClient

EXCHANGE_SECONDS = 8.0
"""A token request is aborted this long after it began, whatever the socket does."""


@cache
def transport() -> Transport:
    """Return the process's transport for token requests. ``requests`` is imported on the first call."""
    from partium_auth.http.transport import Transport

    return Transport(total_seconds=EXCHANGE_SECONDS, place=_place)


@lru_cache(maxsize=4)
def bounded_transport(total_seconds: float) -> Transport:
    """Return the process's transport for requests that may take so long in total, also without a byte received."""
    from partium_auth.http.transport import Transport

    return Transport(read_seconds=total_seconds, total_seconds=total_seconds, place=_place)


def _place(host: str, seconds: float) -> AbstractContextManager[float]:
    return waiting_callers().call(host, seconds)


def send_upstream_called(
    sender: type, organization: str, endpoint: str, call: Call, *, key_id: uuid.UUID | None = None
) -> None:
    """Send the signal ``upstream_called``; without receivers this costs a few microseconds.

    Args:
        sender: the class of the client.
        organization: Partium's id, where the call was made for one; otherwise empty.
        endpoint: one of ``signals.ENDPOINTS``.
        call: what was called.
        key_id: the API key whose use this is.
    """
    about = {"endpoint": endpoint, "organization": organization, "key_id": key_id}
    signals.upstream_called.send_robust(sender=sender, **about, **call._asdict())


def authentication_api(total_seconds: float | None = None, *, organization: str = "") -> AuthenticationAPI:
    """Return Partium's Authentication API.

    Args:
        total_seconds: for each request; None: :data:`EXCHANGE_SECONDS`.
        organization: Partium's id of the organization whose API key is exchanged, for the signal ``upstream_called``.
    """
    from partium_auth.partium.authentication import AuthenticationAPI

    return AuthenticationAPI(
        transport() if total_seconds is None else bounded_transport(total_seconds),
        base_url=conf.api_url,
        auth_path=conf.auth_path,
        refresh_path=conf.refresh_path,
        observe=partial(send_upstream_called, AuthenticationAPI, organization),
    )


def _observe(bearer: Bearer, endpoint: str, call: Call) -> None:
    from partium_auth.partium.client import FindClient

    send_upstream_called(FindClient, bearer.organization, endpoint, call, key_id=bearer.api_key_id)


def find_client(source: BearerSource, name: str) -> FindClient:
    """Return a Find API client, whose ``repr`` shows the name of whom it acts for. This does no I/O."""
    from django.utils.translation import get_language

    from partium_auth.partium.client import FindClient

    return FindClient(
        bounded_transport(conf.timeout_seconds),
        base_url=conf.api_url,
        source=source,
        name=name,
        language=conf.language or (get_language() or "en").split("-")[0],
        assumptions=conf.assumptions,
        observe=_observe,
        defer=None if conf.executor == "inline" else background.run_later,
    )
