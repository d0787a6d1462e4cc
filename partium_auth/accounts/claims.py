"""Reading organizations, roles and e-mail addresses from claims. No database.

What a provider does not say is *missing*, which is as good as an empty list. What it says in a way that cannot be read is
*unknown*: nothing is granted and nothing withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation

from partium_auth.conf import conf
from partium_auth.oidc.errors import Refused

if TYPE_CHECKING:
    from partium_auth.oidc.provider import Provider

MISSING = object()


UNKNOWN = object()
"""The value of a claim that cannot be read: a ``PARTIUM_CLAIMS`` function sets it, so that nothing is withdrawn."""


def as_the_site_reads_them(claims: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    """Return verified claims as ``PARTIUM_CLAIMS`` reads them.

    Raises:
        Refused: the function refuses the person, by PermissionDenied or SuspiciousOperation.
    """
    read_claims = conf.claims
    if read_claims is None:
        return dict(claims)
    try:
        return dict(read_claims(claims, provider))
    except (PermissionDenied, SuspiciousOperation) as e:
        raise Refused(
            "claims", f"{getattr(read_claims, '__name__', 'PARTIUM_CLAIMS')}() raised {type(e).__name__}."
        ) from None


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


def is_missing(claims: Mapping[str, Any], path: str) -> bool:
    """Tell whether a provider says nothing about a claim."""
    return read(claims, path) in (MISSING, None)


def names(claims: Mapping[str, Any], path: str) -> list[str] | None:
    """Return the names that a claim lists, each once: it may be a string, a list, or an object whose keys are the names.

    Returns:
        None where the claim is unknown: :func:`why_unknown` says why.
    """
    value = _value(claims, path)
    if value in (MISSING, None):
        return []
    if why_unknown(claims, path):
        return None
    listed = [value] if isinstance(value, str) else value
    return list(dict.fromkeys(name for name in listed if isinstance(name, str) and name))


def why_unknown(claims: Mapping[str, Any], path: str) -> str:
    """Return why a claim cannot be read, without its value; an empty string where it can, or is missing."""
    value = _value(claims, path)
    if value is UNKNOWN:
        return "is left out by the provider, or could not be fetched"
    if isinstance(value, list) and value and not any(isinstance(name, str) for name in value):
        return "is a list of " + ", ".join(sorted({type(item).__name__ for item in value}))
    if value in (MISSING, None) or isinstance(value, str | list | Mapping):
        return ""
    return f"is of the type {type(value).__name__}"


def _value(claims: Mapping[str, Any], path: str) -> Any:
    value = read(claims, path) if path else MISSING
    elsewhere = claims.get("_claim_names")
    # A distributed claim (OpenID Connect Core §5.6.2); Entra ID sends its groups so beyond 200.
    is_elsewhere = value is MISSING and isinstance(elsewhere, Mapping) and path in elsewhere
    return UNKNOWN if is_elsewhere else value


def verified_email(claims: Mapping[str, Any]) -> str:
    """Return the e-mail address if ``email_verified`` is JSON's ``true`` and nothing else; otherwise an empty string."""
    email = claims.get("email")
    return email.strip() if isinstance(email, str) and claims.get("email_verified") is True else ""
