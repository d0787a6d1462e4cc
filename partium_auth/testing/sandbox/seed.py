"""What exists in a sandbox when it starts: the defaults, or a seed file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .issuers import Issuers
from .state import State

ACME = "acme"
ACME_USERNAME = "anna@acme.example"
ACME_PASSWORD = "anna-sandbox-password"
ACME_KEY = "sandbox-key-acme-7Qm2vXc9LkT4wZr8"
GLOBEX = "globex"
GLOBEX_USERNAME = "gustav@globex.example"
GLOBEX_PASSWORD = "gustav-sandbox-password"
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


def apply_seed(seed: dict[str, Any], state: State, issuers: Issuers) -> None:
    """Create what a seed lists.

    Args:
        seed: ``settings``, and lists of ``organizations``, ``users``, ``keys`` and ``issuers``, each an object with the
            arguments of ``add_organization``, ``add_user``, ``add_key`` and ``add_issuer``; all optional.

    Raises:
        ValueError: something is unknown, missing or impossible; the message says where and quotes no credential.
    """
    adders: dict[str, Callable[..., Any]] = {
        "organizations": state.add_organization,
        "users": state.add_user,
        "keys": state.add_key,
        "issuers": issuers.add,
    }
    if unknown := set(seed) - {"settings", *adders}:
        raise ValueError(f"A seed has no {', '.join(sorted(unknown))}.")
    where = "settings"
    try:
        state.change_settings(**seed.get("settings", {}))
        for name, add in adders.items():
            for index, arguments in enumerate(seed.get(name, ())):
                where = f"{name}[{index}]"
                add(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The seed's {where}: {error}") from None
