"""The sandbox without its socket: its parts, and the operations of the control API."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from .api import PartiumApi
from .calls import CallLog
from .faults import FaultKind, FaultPlan, Faults
from .issuers import Issuers
from .seed import DEFAULT_SEED, apply_seed
from .state import State, fingerprint

READ_OPERATIONS = frozenset({"calls", "events", "count", "describe"})
"""They change nothing, so GET is enough."""


class SandboxCore:
    """State, API, faults and call log of one sandbox.

    Raises:
        ValueError: the seed is not usable; see :func:`.seed.apply_seed`.
    """

    def __init__(self, seed: dict[str, Any] | None = None) -> None:
        self.state = State(time.time)
        self.issuers = Issuers(self.state.now)
        self.api = PartiumApi(self.state, self.issuers)
        self.faults = Faults()
        self.log = CallLog()
        self.resets = 0
        self.operations: dict[str, Callable[..., Any]] = {
            "add_organization": self.state.add_organization,
            "add_user": self.state.add_user,
            "remove_user": self.state.remove_user,
            "add_key": self.state.add_key,
            "add_issuer": self.issuers.add,
            "revoke_key": self.state.revoke_key,
            "revoke_token": self.state.revoke_token,
            "revoke_family": self.state.revoke_family,
            "settings": self.state.change_settings,
            "advance_clock": self.state.advance_clock,
            "add_fault": self._add_fault,
            "clear_fault": self.faults.clear,
            "wait_for_fault": self.faults.wait_until_met,
            "calls": self.log.calls,
            "events": lambda: list(self.api.events),
            "count": lambda **wanted: len(self.log.calls(**wanted)),
            "wait_for": self.log.wait_for,
            "describe": self.state.describe,
            "checkpoint": self._checkpoint,
            "reset": self._reset,
        }
        apply_seed(DEFAULT_SEED if seed is None else seed, self.state, self.issuers)
        self._checkpoint()

    def operate(self, name: str, arguments: dict[str, Any]) -> Any:
        """Carry out the operation of that name and return its JSON-able result.

        Raises:
            LookupError: there is no such operation, or it does not find what it is about.
            ValueError: its arguments are wrong.
        """
        operation = self.operations.get(name)
        if operation is None:
            raise LookupError("There is no such operation.")
        try:
            return operation(**arguments)
        except TypeError as error:
            raise ValueError(f"{name}: {error}.") from None

    def _add_fault(
        self, kind: FaultKind, body_base64: str | None = None, credential: str | None = None, **details: Any
    ) -> int:
        body = None if body_base64 is None else base64.b64decode(body_base64)
        mark = None if credential is None else fingerprint(credential)
        return self.faults.add(FaultPlan(kind, body=body, credential=mark, **details))

    def _checkpoint(self) -> None:
        self._saved = self.state.saved(), self.issuers.saved()

    def _reset(self) -> None:
        # A call that a fault held up before the reset must not act after it: the server compares this number.
        self.resets += 1
        self.faults.clear()
        state, issuers = self._saved
        self.state.restore(state)
        self.issuers.restore(issuers)
        self.api.clear()
        self.log.clear()
