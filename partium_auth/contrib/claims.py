"""Functions for ``PARTIUM_CLAIMS``: how one provider's claims become what this app reads.

Each takes the verified claims and the provider, and returns a dictionary of claims. In it

- ``PARTIUM_ORGANIZATIONS_CLAIM`` and ``PARTIUM_ROLES_CLAIM`` name lists of strings: Partium's ids, and roles such as
  ``developer`` or ``acme:developer``. A claim that is left out is an empty list; what the function cannot tell it sets to
  :data:`UNKNOWN`, so that nothing is granted and nothing withdrawn;
- ``given_name``, ``family_name`` or ``name``, ``email`` and ``email_verified`` (``True`` or ``False``) describe the person.

To refuse a person, raise Django's ``PermissionDenied``. A function of your own::

    from partium_auth.contrib.claims import with_rights

    def read(claims, provider):
        return with_rights(claims, organizations=[claims["department"].lower()], roles=claims.get("groups", []))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from partium_auth.accounts.claims import MISSING, UNKNOWN
from partium_auth.accounts.claims import read as claim_at
from partium_auth.conf import conf
from partium_auth.oidc.provider import Provider

__all__ = ["UNKNOWN", "comma_separated", "entra", "keycloak", "space_separated", "with_rights"]


def with_rights(claims: Mapping[str, Any], *, organizations: Any, roles: Any) -> dict[str, Any]:
    """Return the claims with these organizations and roles, whatever the two settings name.

    Args:
        claims: the rest.
        organizations: Partium's ids, as a list; None: the provider said nothing; or :data:`UNKNOWN`.
        roles: their names; the same.
    """
    rights = {conf.organizations_claim: organizations, conf.roles_claim: roles}
    rest = {name: value for name, value in claims.items() if name not in rights}
    return rest | {name: value for name, value in rights.items() if value is not None}


def keycloak(claims: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    """Keycloak: its organizations and its groups are organizations, its realm and client roles are roles.

    A group counts by its path: ``/acme`` is the organization ``acme``, ``/acme/developer`` also the role ``acme:developer``.
    Of the client roles those of this site's own client count (``resource_access.<client id>.roles``).
    """
    groups = [group.strip("/") if isinstance(group, str) else group for group in _items(claims.get("groups"))]
    paths = [group.partition("/") for group in groups if isinstance(group, str)]
    unreadable = [group for group in groups if not isinstance(group, str)]
    organizations = [*_items(claims.get("organization")), *(name for name, _, _ in paths), *unreadable]
    roles = [f"{name}:{role}" for name, _, role in paths if role]
    for path in ("realm_access.roles", f"resource_access.{provider.client_id}.roles"):
        if (value := claim_at(claims, path)) is not MISSING:
            roles += _items(value)
    said = {"organization", "groups"} & claims.keys()
    return with_rights(claims, organizations=organizations if said else None, roles=roles or None)


def entra(claims: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    """Microsoft Entra ID: an app role ``acme:developer`` opens the organization ``acme``; without such roles its groups count.

    Beyond 200 groups Entra sends ``_claim_names`` or ``hasgroups`` instead of ``groups``: they are unknown then. App roles
    have no such limit.
    """
    roles = _items(claims.get("roles"))
    named = [role.partition(":")[0] for role in roles if isinstance(role, str) and ":" in role]
    elsewhere = claims.get("_claim_names")
    is_overage = claims.get("hasgroups") in (True, "true") or (isinstance(elsewhere, Mapping) and "groups" in elsewhere)
    groups = UNKNOWN if is_overage else claims.get("groups")
    return with_rights(claims, organizations=named or groups, roles=roles or None)


def comma_separated(claims: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    """Organizations and roles as one string each, separated by commas: ``"acme, globex"``."""
    return _split(claims, lambda text: [name.strip() for name in text.split(",")])


def space_separated(claims: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    """Organizations and roles as one string each, separated by spaces: ``"acme globex"``."""
    return _split(claims, str.split)


def _split(claims: Mapping[str, Any], split: Callable[[str], list[str]]) -> dict[str, Any]:
    found = dict(claims)
    for path in (conf.organizations_claim, conf.roles_claim):
        if isinstance(value := claim_at(claims, path), str):
            found[path] = [name for name in split(value) if name]
    return found


def _items(value: Any) -> list[Any]:
    """Return what a claim lists; a value that is no list becomes its only item."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | Mapping) else [value]
