"""What was asked to go wrong: faults per endpoint, each for the next calls or until cleared.

A call meets at most one fault: the oldest that fits it. So several faults for the same endpoint happen in the order in
which they were set.
"""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import Literal, get_args

FaultKind = Literal["answer", "delay", "hang", "drop"]
Endpoint = Literal["auth", "refresh", "search", "state", "filters", "events", "catalog", "*"]
_WRONG_TYPES = {"access_token": 42, "refresh_token": [], "expires_in": "soon", "sessionId": 7, "results": "none"}
#: Answers that a client must reject, although their status is 200.
GARBAGE: dict[str, bytes] = {
    "html": b"<!doctype html><title>Proxy</title><h1>It works!</h1>",
    "empty": b"",
    "truncated": b'{"access_token": "garb',
    "array": b"[]",
    "invalid_utf8": b'{"access_token": "\xff\xfe"}',
    "wrong_types": json.dumps(_WRONG_TYPES).encode(),
    "empty_token": b'{"access_token": "", "token_type": "Bearer", "expires_in": 600}',
    "zero_lifetime": b'{"access_token": "garbage", "token_type": "Bearer", "expires_in": 0}',
    "negative_lifetime": b'{"access_token": "garbage", "token_type": "Bearer", "expires_in": -1}',
}


@dataclass
class FaultPlan:
    """One thing that goes wrong.

    Attributes:
        times: how many more calls meet it; None until it is cleared.
        credential: the fingerprint of the only credential that meets it; None for all.
        after_processing: the request takes effect first and only the answer is lost or replaced.
        body: of the answer; None for a JSON object that names the sandbox.
        released: set when the fault is cleared; whatever waits because of it goes on then.
    """

    kind: FaultKind
    endpoint: Endpoint = "*"
    times: int | None = None
    credential: str | None = None
    after_processing: bool = False
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    retry_after: float | str | None = None
    latency_seconds: float = 0.0
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"There is no fault {self.kind!r}.")
        if self.endpoint not in get_args(Endpoint):
            raise ValueError(f"There is no endpoint {self.endpoint!r}: use {', '.join(get_args(Endpoint))}.")
        if self.times is not None and self.times < 1:
            raise ValueError("A fault happens at least once; None is for until it is cleared.")


class Faults:
    """The faults in force, thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._plans: dict[int, FaultPlan] = {}

    def add(self, plan: FaultPlan) -> int:
        """Put a fault in force and return its id."""
        with self._changed:
            fault_id = next(self._ids)
            self._plans[fault_id] = plan
            return fault_id

    def next_for(self, endpoint: str, credential: str | None) -> FaultPlan | None:
        """The fault that this call meets, counted as met."""
        with self._changed:
            for plan in self._plans.values():
                fits = plan.endpoint in ("*", endpoint) and plan.credential in (None, credential)
                if fits and (plan.times is None or plan.hits < plan.times) and not plan.released.is_set():
                    plan.hits += 1
                    self._changed.notify_all()
                    return plan
            return None

    def clear(self, fault_id: int | None = None) -> None:
        """End one fault, or forget all: nothing meets it any more, and what waits because of it goes on."""
        with self._changed:
            for one, plan in self._plans.items():
                if fault_id in (None, one):
                    plan.released.set()
            if fault_id is None:
                self._plans.clear()

    def wait_until_met(self, fault_id: int, number: int = 0, timeout_seconds: float = 0.0) -> int:
        """Wait until that many calls have met a fault, or the time is over. Returns how many have."""
        with self._changed:
            plan = self._plans.get(fault_id)
            if plan is None:
                raise LookupError("There is no such fault; a reset forgets all of them.")
            self._changed.wait_for(lambda: plan.hits >= number, timeout_seconds)
            return plan.hits
