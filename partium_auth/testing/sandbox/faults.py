"""What was asked to go wrong: faults per endpoint, each for the next calls or until cleared.

A call meets at most one fault: the oldest that fits it. So several faults for the same endpoint happen in the order in
which they were set.
"""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

FaultKind = Literal["answer", "delay", "hang", "drop", "drip", "huge"]

#: Answers that a client must not take for an answer (all with status 200).
GARBAGE: dict[str, tuple[str, bytes]] = {
    "html": ("text/html; charset=utf-8", b"<!doctype html><title>Proxy</title><h1>It works!</h1>"),
    "empty": ("application/json", b""),
    "truncated": ("application/json", b'{"access_token": "garb'),
    "array": ("application/json", b"[]"),
    "invalid_utf8": ("application/json", b'{"access_token": "\xff\xfe"}'),
    "wrong_types": (
        "application/json",
        json.dumps(
            {"access_token": 42, "refresh_token": [], "expires_in": "soon", "sessionId": 7, "results": "none"}
        ).encode(),
    ),
    "empty_token": ("application/json", b'{"access_token": "", "token_type": "Bearer", "expires_in": 600}'),
    "zero_lifetime": ("application/json", b'{"access_token": "garbage", "token_type": "Bearer", "expires_in": 0}'),
    "negative_lifetime": ("application/json", b'{"access_token": "garbage", "token_type": "Bearer", "expires_in": -1}'),
}


@dataclass
class FaultPlan:
    """One thing that goes wrong.

    Attributes:
        endpoint: ``auth``, ``refresh``, ``search``, ``state``, or ``*`` for all of them.
        times: how many more calls meet it; None until it is cleared.
        credential: the fingerprint of the only credential that meets it; None for all.
        after_processing: the request takes effect first and only the answer is lost or replaced.
        released: set when the fault is cleared; whatever waits or drips because of it goes on then.
    """

    id: int
    kind: FaultKind
    endpoint: str
    times: int | None
    credential: str | None
    after_processing: bool
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    retry_after: float | str | None = None
    latency_seconds: float = 0.0
    interval_seconds: float = 0.0
    chunk_bytes: int = 1
    after_bytes: int | None = None
    size_bytes: int = 0
    declared: bool = True
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event, repr=False)


class Faults:
    """The faults in force, thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._ids = itertools.count(1)
        self._plans: dict[int, FaultPlan] = {}

    def add(
        self, kind: FaultKind, endpoint: str, times: int | None, credential: str | None, **details: Any
    ) -> FaultPlan:
        """Put a fault in force.

        Raises:
            ValueError: an unknown endpoint, or ``times`` below 1.
        """
        if endpoint not in ("auth", "refresh", "search", "state", "*"):
            raise ValueError(f"There is no endpoint {endpoint!r}: use auth, refresh, search, state or *.")
        if times is not None and times < 1:
            raise ValueError("A fault happens at least once; None is for until it is cleared.")
        with self._lock:
            plan = FaultPlan(next(self._ids), kind, endpoint, times, credential, **details)
            self._plans[plan.id] = plan
            return plan

    def take(self, endpoint: str, credential: str | None) -> FaultPlan | None:
        """The fault that this call meets, counted as met."""
        with self._lock:
            for plan in self._plans.values():
                fits = plan.endpoint in ("*", endpoint) and plan.credential in (None, credential)
                if fits and (plan.times is None or plan.hits < plan.times) and not plan.released.is_set():
                    plan.hits += 1
                    self._lock.notify_all()
                    return plan
            return None

    def clear(self, fault_id: int | None = None) -> None:
        """End one fault, or all: nothing meets it any more, and what waits because of it goes on."""
        with self._lock:
            for plan in self._plans.values():
                if fault_id in (None, plan.id):
                    plan.released.set()
            if fault_id is None:
                self._plans.clear()

    def wait_until_met(self, fault_id: int, number: int, timeout_seconds: float) -> int:
        """Wait until that many calls have met a fault, or the time is over. Returns how many have.

        Raises:
            LookupError: no such fault (a reset forgets all).
        """
        with self._lock:
            plan = self._plans.get(fault_id)
            if plan is None:
                raise LookupError("There is no such fault; a reset forgets all of them.")
            self._lock.wait_for(lambda: plan.hits >= number, timeout_seconds)
            return plan.hits
