"""Where a request comes from."""

from __future__ import annotations

from django.http import HttpRequest


def address_of(request: HttpRequest) -> str | None:
    """Return the IP address of a request as Django knows it: behind a proxy the site has to set it."""
    address: str | None = request.META.get("REMOTE_ADDR")
    return address
