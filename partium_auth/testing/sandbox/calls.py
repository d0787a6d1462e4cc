"""The call log: what was asked of the sandbox, by which credential, and what it answered."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, fields
from typing import Any

from .state import CredentialKind, fingerprint

_MAX_CALLS = 100_000


@dataclass
class Call:
    """One request to Partium's API.

    Attributes:
        method, path: of the request; the path without its query.
        endpoint: ``auth``, ``refresh``, ``search``, ``state`` or ``other`` (a path that does not exist).
        credential_kind: what kind of credential came with it; ``unknown`` for a bearer the sandbox has never seen.
        credential: its fingerprint, or None. See :func:`~partium_auth.testing.sandbox.fingerprint`.
        organization: the one asked for (``search``, ``state``) or, where it is only one, the one the credential opens.
        external_user_id: ``X-Partium-ExternalUserId``, of ``search`` only.
        at: seconds since the epoch by the sandbox's clock.
        started, ended: :func:`time.monotonic` of this machine at arrival, and just before the answer was sent; ``ended``
            is None until then.
        status: of the answer; None until then, and where the connection was dropped.
        processed: whether the request took effect (a token was rotated, a search made), whatever the caller was told.
    """

    method: str
    path: str
    endpoint: str
    credential_kind: CredentialKind
    credential: str | None
    external_user_id: str | None
    at: float
    started: float
    organization: str | None = None
    status: int | None = None
    processed: bool = False
    ended: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the call has been answered or dropped."""
        return self.ended is not None


_FILTERS = {item.name for item in fields(Call)} | {"finished"}


class CallLog:
    """A bounded, thread-safe log. Callers filter by attributes; ``credential`` is the value, not the fingerprint."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque(maxlen=_MAX_CALLS)

    def begin(self, call: Call) -> None:
        """Log a call that has just arrived."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()

    def finish(self, call: Call, status: int | None) -> None:
        """Log a call's end. This happens before the caller sees the answer, so that the log is never late."""
        with self._changed:
            call.status = status
            call.ended = time.monotonic()
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all calls, also those that have no answer yet."""
        with self._changed:
            self._calls.clear()

    def calls(self, **wanted: Any) -> list[dict[str, Any]]:
        """The calls whose attributes equal the wanted ones, oldest first, as JSON-able values."""
        with self._changed:
            return [asdict(call) for call in self._matching(wanted)]

    def wait_for(self, number: int, timeout_seconds: float, **wanted: Any) -> int:
        """Wait until at least ``number`` calls match, or the time is over. Returns how many there are then."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._matching(wanted)) >= number, timeout_seconds)
            return len(self._matching(wanted))

    def _matching(self, wanted: dict[str, Any]) -> list[Call]:
        if unknown := wanted.keys() - _FILTERS:
            raise ValueError(f"A call has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_FILTERS))}.")
        if wanted.get("credential") is not None:
            wanted = wanted | {"credential": fingerprint(wanted["credential"])}
        return [call for call in self._calls if all(getattr(call, name) == value for name, value in wanted.items())]
