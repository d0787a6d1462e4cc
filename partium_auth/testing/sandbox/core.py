"""The sandbox without its socket: what it consists of, and every operation that controls it.

An operation takes and returns JSON-able values and credentials only as fingerprints. :mod:`.control` gives them typed
methods, the same for a sandbox in this process and in another one.
"""

from __future__ import annotations

import base64
import inspect
import json
import time as time_module
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from .api import PartiumApi, Response, http_date
from .calls import Call, CallLog
from .faults import GARBAGE, FaultPlan, Faults
from .issuers import Issuer, Issuers
from .seed import DEFAULT_SEED, sow
from .state import State, fingerprint

_CALL_FILTERS = frozenset(item.name for item in fields(Call)) | {"finished"}
_READS = frozenset({"calls", "count", "describe"})


class SandboxCore:
    """State, API, faults and call log of one sandbox.

    Args:
        seed: what exists after start and after every :meth:`reset`; None for the defaults. See :func:`.seed.sow`.
        time: seconds since the epoch.

    Raises:
        ValueError: the seed is not usable.
    """

    def __init__(self, seed: dict[str, Any] | None = None, time: Callable[[], float] = time_module.time) -> None:
        self._seed = DEFAULT_SEED if seed is None else seed
        self.state = State(time)
        self.issuers = Issuers(self.state.now, lambda: self.state.settings.issuer_cache_seconds)
        self.api = PartiumApi(self.state, self.issuers)
        self.faults = Faults()
        self.log = CallLog()
        # Counts resets: a call that was held up in an earlier epoch must not act in this one.
        self.epoch = 0
        self.close_idle: Callable[[], int] = lambda: 0
        sow(self._seed, self.state, self.issuers)

    def operate(self, name: str, arguments: dict[str, Any]) -> Any:
        """Carry out the operation of that name.

        Raises:
            LookupError: there is no such operation, or it does not find what it is about.
            ValueError: its arguments are wrong.
        """
        operation = getattr(type(self), f"op_{name}", None)
        if operation is None:
            raise LookupError("There is no such operation.")
        try:
            inspect.signature(operation).bind(self, **arguments)
        except TypeError as error:
            raise ValueError(f"{name}: {error}.") from None
        return operation(self, **arguments)

    @staticmethod
    def is_read(name: str) -> bool:
        """Whether an operation changes nothing, so that GET will do."""
        return name in _READS

    # Who exists

    def op_add_organization(
        self, org_id: str, display_name: str = "", parent_id: str | None = None, default_language: str = "en"
    ) -> str:
        return self.state.add_organization(org_id, display_name, parent_id, default_language).org_id

    def op_add_user(self, username: str, password: str, organizations: list[str]) -> None:
        self.state.add_user(username, fingerprint(f"{username}:{password}"), organizations)

    def op_remove_user(self, username: str) -> None:
        self.state.remove_user(username)

    def op_add_key(self, organization: str, name: str = "") -> str:
        return self.state.add_key(organization, name)

    def op_add_issuer(
        self,
        url: str,
        organizations: list[str],
        organizations_claim: str = "organizations",
        audience: str | None = None,
    ) -> None:
        self.issuers.add(Issuer(url, tuple(organizations), organizations_claim, audience))

    # Revoking

    def op_revoke_key(self, credential: str) -> None:
        self.state.revoke_key(credential)

    def op_revoke_token(self, credential: str) -> None:
        self.state.revoke_token(credential)

    def op_revoke_family(self, credential: str) -> None:
        self.state.revoke_family(credential)

    # Behavior

    def op_settings(self, **changes: Any) -> dict[str, Any]:
        return self.state.change_settings(changes).as_json()

    def op_advance_clock(self, seconds: float) -> float:
        offset = self.state.settings.clock_offset_seconds + seconds
        self.state.change_settings({"clock_offset_seconds": offset})
        return self.state.now()

    def op_add_fault(
        self,
        kind: str,
        endpoint: str = "*",
        times: int | None = None,
        credential: str | None = None,
        after_processing: bool = False,
        status: int = 503,
        body: str | None = None,
        body_base64: str | None = None,
        headers: dict[str, str] | None = None,
        retry_after: float | str | None = None,
        garbage: str | None = None,
        location: str | None = None,
        latency_seconds: float = 0.0,
        interval_seconds: float = 0.1,
        chunk_bytes: int = 1,
        after_bytes: int | None = None,
        size_bytes: int = 0,
        declared: bool = True,
    ) -> int:
        if kind not in ("answer", "delay", "hang", "drop", "drip", "huge"):
            raise ValueError(f"There is no fault {kind!r}.")
        if min(latency_seconds, interval_seconds, size_bytes) < 0 or chunk_bytes < 1:
            raise ValueError("Durations and sizes are not negative, and a chunk has at least one byte.")
        sent_headers = {"Content-Type": "application/json"}
        content = body.encode() if body is not None else base64.b64decode(body_base64) if body_base64 else b""
        if garbage is not None:
            if garbage not in GARBAGE:
                raise ValueError(f"There is no garbage {garbage!r}; there is {', '.join(GARBAGE)}.")
            status, (sent_headers["Content-Type"], content) = 200, GARBAGE[garbage]
        elif body is None and body_base64 is None:
            failure = {"status": status, "error": "sandbox_fault", "message": "The sandbox was told to answer this."}
            content = json.dumps(failure).encode()
        if location is not None:
            sent_headers["Location"] = location
        plan = self.faults.add(
            kind,  # type: ignore[arg-type]  # checked above
            endpoint,
            times,
            credential,
            after_processing=after_processing,
            status=status,
            body=content,
            headers=sent_headers | (headers or {}),
            retry_after=retry_after,
            latency_seconds=latency_seconds,
            interval_seconds=interval_seconds,
            chunk_bytes=chunk_bytes,
            after_bytes=after_bytes,
            size_bytes=size_bytes,
            declared=declared,
        )
        return plan.id

    def op_clear_fault(self, fault_id: int | None = None) -> None:
        self.faults.clear(fault_id)

    def op_wait_for_fault(self, fault_id: int, number: int = 0, timeout_seconds: float = 0.0) -> int:
        return self.faults.wait_until_met(fault_id, number, timeout_seconds)

    def op_close_idle_connections(self) -> int:
        return self.close_idle()

    # Looking

    def op_calls(self, **wanted: Any) -> list[dict[str, Any]]:
        return self.log.find(_filters(wanted))

    def op_count(self, **wanted: Any) -> int:
        return len(self.log.find(_filters(wanted)))

    def op_wait_for(self, number: int, timeout_seconds: float, **wanted: Any) -> int:
        return self.log.wait_for(number, timeout_seconds, _filters(wanted))

    def op_describe(self) -> dict[str, Any]:
        return self.state.describe()

    def op_reset(self) -> None:
        self.epoch += 1
        self.faults.clear()
        self.state.clear()
        self.issuers.clear()
        self.api.clear()
        sow(self._seed, self.state, self.issuers)
        self.log.clear()

    def planned_answer(self, plan: FaultPlan) -> Response:
        """What a fault of the kind ``answer`` answers, by the clock of this moment."""
        headers = dict(plan.headers)
        after: float | str | None = plan.retry_after
        if after is None and plan.status in (429, 503):
            after = 1
        if isinstance(after, int | float):
            # As documented: a date with 429, seconds with anything else.
            after = http_date(self.state.now() + after) if plan.status == 429 else f"{after:g}"
        if after:
            headers.setdefault("Retry-After", after)
        if plan.status == 401:
            headers.setdefault("WWW-Authenticate", 'Bearer realm="Partium", error="invalid_token"')
        return Response(plan.status, plan.body, headers)


def _filters(wanted: dict[str, Any]) -> dict[str, Any]:
    unknown = set(wanted) - _CALL_FILTERS
    if unknown:
        raise ValueError(f"A call has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_CALL_FILTERS))}.")
    return wanted
