"""Reading organizations, roles and e-mail addresses from claims. Pure: no database, no settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING = object()


def read(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim at a path, or :data:`MISSING`.

    The path's dots go into nested claims (``realm_access.roles``), except where a claim itself has dots in its name:
    ``https://example.com/roles``, or ``resource_access.my.client.roles`` of a Keycloak client named ``my.client``.
    """
    if path in claims:
        return claims[path]
    for position in reversed([i for i, character in enumerate(path) if character == "."]):
        inner = claims.get(path[:position])
        if isinstance(inner, Mapping) and (found := read(inner, path[position + 1 :])) is not MISSING:
            return found
    return MISSING


def names(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return the names that a claim lists, each once: it may be a string, a list, or an object whose keys are the names."""
    value = read(claims, path) if path else MISSING
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | Mapping):
        return []
    return list(dict.fromkeys(name for name in value if isinstance(name, str) and name))


def verified_email(claims: Mapping[str, Any]) -> str:
    """Return the e-mail address if ``email_verified`` is JSON's ``true`` and nothing else; otherwise an empty string."""
    email = claims.get("email")
    return email.strip() if isinstance(email, str) and claims.get("email_verified") is True else ""
