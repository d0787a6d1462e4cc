"""What exists in a sandbox when it starts: the defaults, or a seed file."""

from __future__ import annotations

from typing import Any

from .issuers import Issuer, Issuers
from .state import State, fingerprint

ACME = "acme"
ACME_USERNAME = "anna@acme.example"
ACME_PASSWORD = "anna-sandbox-password"  # noqa: S105 - known on purpose: it opens nothing but a sandbox
ACME_KEY = "sandbox-key-acme-7Qm2vXc9LkT4wZr8"
GLOBEX = "globex"
GLOBEX_USERNAME = "gustav@globex.example"
GLOBEX_PASSWORD = "gustav-sandbox-password"  # noqa: S105
GLOBEX_KEY = "sandbox-key-globex-5Hn8bYd3PjW6tFs1"

DEFAULT_SEED: dict[str, Any] = {
    "organizations": [
        {"org_id": ACME, "display_name": "Acme Elevators"},
        {"org_id": GLOBEX, "display_name": "Globex Machinery", "default_language": "de"},
    ],
    "users": [
        {"username": ACME_USERNAME, "password": ACME_PASSWORD, "organizations": [ACME]},
        {"username": GLOBEX_USERNAME, "password": GLOBEX_PASSWORD, "organizations": [GLOBEX]},
    ],
    "keys": [
        {"organization": ACME, "value": ACME_KEY, "name": "sandbox"},
        {"organization": GLOBEX, "value": GLOBEX_KEY, "name": "sandbox"},
    ],
}


def sow(seed: dict[str, Any], state: State, issuers: Issuers) -> None:
    """Create what a seed lists.

    Args:
        seed: ``organizations`` (org_id, display_name, parent_id, default_language), ``users`` (username, password,
            organizations), ``keys`` (organization, value, name), ``issuers`` (url, organizations, organizations_claim,
            audience), ``settings``; all optional.

    Raises:
        ValueError: something is unknown, missing or impossible; the message says where and quotes no credential.
    """
    unknown = set(seed) - {"organizations", "users", "keys", "issuers", "settings"}
    if unknown:
        raise ValueError(f"A seed has no {', '.join(sorted(unknown))}.")
    where = "settings"
    try:
        state.change_settings(seed.get("settings", {}))
        for index, one in enumerate(seed.get("organizations", ())):
            where = f"organizations[{index}]"
            state.add_organization(**one)
        for index, one in enumerate(seed.get("users", ())):
            where = f"users[{index}]"
            if set(one) != {"username", "password", "organizations"}:
                raise ValueError("a user has username, password and organizations")
            state.add_user(one["username"], fingerprint(f"{one['username']}:{one['password']}"), one["organizations"])
        for index, one in enumerate(seed.get("keys", ())):
            where = f"keys[{index}]"
            state.add_key(one["organization"], one.get("name", ""), one["value"])
        for index, one in enumerate(seed.get("issuers", ())):
            where = f"issuers[{index}]"
            issuers.add(Issuer(**{**one, "organizations": tuple(one.get("organizations", ()))}))
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"The seed's {where} is incomplete or has something unknown ({type(error).__name__})."
        ) from None
    except ValueError as error:
        raise ValueError(f"The seed's {where}: {error}") from None
