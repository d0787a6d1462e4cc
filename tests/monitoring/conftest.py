"""Everything that a receiver of the app's signals is told, and the provider of ``tests.oidc``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from partium_auth import signals
from tests.oidc.conftest import browser, op, provider_server  # noqa: F401  # fixtures
from tests.tokens.conftest import acme, clock, key_grant, oidc_grant, password_grant, token_manager  # noqa: F401

NAMES = ("token_refreshed", "token_refresh_failed", "login_refused", "upstream_called")


class Heard:
    """What the receivers of the four signals were told."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}

    def receive(self, name: str) -> Any:
        def receiver(signal: Any, **arguments: Any) -> None:
            self.by_name[name].append(arguments)

        return receiver

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        return self.by_name[name]


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    receivers = {name: heard.receive(name) for name in NAMES}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    yield heard
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)
