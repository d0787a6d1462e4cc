"""Making the sandbox do what a test needs: one set of methods for a sandbox in this process and in another one."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self, TypedDict, Unpack

from .calls import Call
from .faults import GARBAGE, Endpoint


class When(TypedDict, total=False):
    """Which calls meet a fault, and when: what every method that makes one accepts.

    Attributes:
        times: for how many calls; None is until cleared.
        credential: the only one that meets it; for a password login ``username:password``.
        after_processing: the request takes effect first (a token is rotated), only its answer is lost or replaced.
    """

    times: int | None
    credential: str | None
    after_processing: bool


class Fault:
    """Something that goes wrong until it has gone wrong often enough, or is cleared; leaving a ``with`` clears it."""

    def __init__(self, controls: SandboxControls, fault_id: int) -> None:
        self._controls = controls
        self._id = fault_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """End it. Calls that hang or wait because of it go on at once."""
        self._controls.operate("clear_fault", fault_id=self._id)

    def release(self) -> None:
        """The same as :meth:`clear`; the word for a hang."""
        self.clear()

    @property
    def hits(self) -> int:
        """How many calls have met it."""
        return int(self._controls.operate("wait_for_fault", fault_id=self._id))

    def wait_until_met(self, number: int = 1, *, timeout_seconds: float = 5.0) -> None:
        """Wait until that many calls have met it: for a hang, until they hang.

        Raises:
            TimeoutError: they have not in time.
        """
        met = self._controls.operate(
            "wait_for_fault", fault_id=self._id, number=number, timeout_seconds=timeout_seconds
        )
        if met < number:
            raise TimeoutError(f"{met} of {number} calls met the fault within {timeout_seconds:g} s.")


class SandboxControls(ABC):
    """Every method that makes or observes something in a sandbox.

    A method raises ``LookupError`` where it does not find what it is about (a user, a key, a token, an operation), and
    ``ValueError`` for an argument that is wrong; then it has changed nothing.
    """

    @abstractmethod
    def operate(self, operation: str, **arguments: Any) -> Any:
        """Carry out one operation of the control API."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:8900``: what ``PARTIUM_API_URL`` is set to."""

    # Who exists

    def add_organization(self, org_id: str, display_name: str = "", *, default_language: str = "en") -> str:
        """Add an organization, or replace the one with this id. Returns the id."""
        details = {"display_name": display_name, "default_language": default_language}
        return str(self.operate("add_organization", org_id=org_id, **details))

    def add_user(self, username: str, password: str, organizations: str | Iterable[str]) -> None:
        """Add a user, or replace the one of this name.

        Args:
            username: without a colon.
            password: any text.
            organizations: the ids of those that this person may search.
        """
        self.operate("add_user", username=username, password=password, organizations=_listed(organizations))

    def remove_user(self, username: str) -> None:
        """Remove a user and revoke all that their logins obtained."""
        self.operate("remove_user", username=username)

    def add_key(self, organization: str, name: str = "", *, permission: str = "find") -> str:
        """Add an API key, for the API ``"find"`` or ``"catalog"``, and return its value."""
        return str(self.operate("add_key", organization=organization, name=name, permission=permission))

    def add_issuer(
        self,
        url: str,
        organizations: str | Iterable[str] = (),
        *,
        organizations_claim: str = "organizations",
        audience: str | None = None,
    ) -> None:
        """Connect an identity provider, whose access tokens are then accepted as bearers.

        Args:
            url: its issuer identifier.
            organizations: what its tokens open where they have no such claim.
            organizations_claim: the claim that lists a user's organizations.
            audience: required in ``aud`` of its JWTs; None accepts any.
        """
        claims = {"organizations_claim": organizations_claim, "audience": audience}
        self.operate("add_issuer", url=url, organizations=_listed(organizations), **claims)

    # Revoking

    def revoke_key(self, value: str) -> None:
        """Revoke an API key: it and the refresh tokens obtained with it end. Access tokens live on until they expire."""
        self.operate("revoke_key", value=value)

    def revoke_token(self, value: str) -> None:
        """Revoke one access or refresh token and nothing else."""
        self.operate("revoke_token", value=value)

    def revoke_family(self, value: str) -> None:
        """Revoke all access and refresh tokens that came from the same exchange as this one."""
        self.operate("revoke_family", value=value)

    # Behavior

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings and return all of them; without arguments only the latter. See :class:`.settings.Settings`."""
        return dict(self.operate("settings", **changes))

    def advance_clock(self, seconds: float) -> float:
        """Move the sandbox's clock (tokens expire by it, and its ``Date`` header follows) and return its new time."""
        return float(self.operate("advance_clock", seconds=seconds))

    def fail(
        self,
        endpoint: Endpoint = "*",
        *,
        status: int = 503,
        body: str | bytes | dict[str, Any] | list[Any] | None = None,
        headers: dict[str, str] | None = None,
        retry_after: float | str | None = None,
        latency_seconds: float = 0.0,
        **when: Unpack[When],
    ) -> Fault:
        """Answer with a status.

        Args:
            endpoint: which calls; ``*`` is all.
            status: of the answer.
            body: of the answer; text, bytes, or something to be made JSON.
            headers: in addition.
            retry_after: seconds from now: sent as a date with 429 and as seconds otherwise. Text is sent as it is, the
                empty text leaves the header out. By default 429 and 503 say 1 s.
            latency_seconds: how long the answer takes.
            when: see :class:`When`.
        """
        content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
        content = content.encode() if isinstance(content, str) else content
        return self._fault(
            "answer",
            endpoint,
            when,
            status=status,
            headers=headers or {},
            retry_after=retry_after,
            latency_seconds=latency_seconds,
            body_base64=None if content is None else base64.b64encode(content).decode(),
        )

    def garbage(self, endpoint: Endpoint = "*", what: str = "html", **when: Unpack[When]) -> Fault:
        """Answer 200 with something that is no answer.

        Args:
            what: ``html``, ``empty``, ``truncated``, ``array``, ``invalid_utf8``, ``wrong_types``, ``empty_token``,
                ``zero_lifetime`` or ``negative_lifetime``.
            when: see :class:`When`.
        """
        if what not in GARBAGE:
            raise ValueError(f"There is no garbage {what!r}; there is {', '.join(GARBAGE)}.")
        headers = {"Content-Type": "text/html; charset=utf-8"} if what == "html" else None
        return self.fail(endpoint, status=200, body=GARBAGE[what], headers=headers, **when)

    def delay(self, endpoint: Endpoint, seconds: float, **when: Unpack[When]) -> Fault:
        """Take that long, then answer as always."""
        return self._fault("delay", endpoint, when, latency_seconds=seconds)

    def hang(self, endpoint: Endpoint = "*", **when: Unpack[When]) -> Fault:
        """Accept the request and say nothing until released, then answer as always."""
        return self._fault("hang", endpoint, when)

    def drop(self, endpoint: Endpoint = "*", **when: Unpack[When]) -> Fault:
        """Close the connection instead of answering."""
        return self._fault("drop", endpoint, when)

    def clear_faults(self) -> None:
        """End everything that was asked to go wrong."""
        self.operate("clear_fault")

    # Looking

    @property
    def events(self) -> list[dict[str, Any]]:
        """The Analytics events so far, oldest first: ``event``, ``data``, ``external_user_id``, ``event_id``, ``created_at``."""
        return list(self.operate("events"))

    def calls(self, **wanted: Any) -> list[Call]:
        """The calls so far, oldest first, whose attributes equal those given.

        Args:
            wanted: attributes of :class:`.calls.Call`, such as ``endpoint="refresh"``, ``status=401``,
                ``finished=False``; ``credential`` takes the value, not the fingerprint.
        """
        return [Call(**call) for call in self.operate("calls", **wanted)]

    def count(self, **wanted: Any) -> int:
        """How many :meth:`calls` there were so far."""
        return int(self.operate("count", **wanted))

    def wait_for(self, number: int, *, timeout_seconds: float = 5.0, **wanted: Any) -> list[Call]:
        """Wait until at least that many calls match and return them.

        Args:
            timeout_seconds: for how long at most.
            wanted: as for :meth:`calls`. Only calls that are finished count, unless ``finished`` is given: ``False``
                for those still under way, ``None`` for both.

        Raises:
            TimeoutError: there are fewer.
        """
        wanted = {"finished": True} | wanted
        if wanted["finished"] is None:
            del wanted["finished"]
        there = self.operate("wait_for", number=number, timeout_seconds=timeout_seconds, **wanted)
        if there < number:
            unfinished = self.count(finished=False)
            raise TimeoutError(
                f"{there} of {number} calls came within {timeout_seconds:g} s; {unfinished} more are not finished."
            )
        return [Call(**call) for call in self.operate("calls", **wanted)]

    def describe(self) -> dict[str, Any]:
        """Settings, clock, organizations, users and keys, without a credential."""
        return dict(self.operate("describe"))

    def reset(self) -> None:
        """Back to how it was started, or to the last :meth:`checkpoint`; no searches, no faults, an empty log."""
        self.operate("reset")

    def checkpoint(self) -> None:
        """Let every later :meth:`reset` go back to the organizations, users, keys, tokens and settings that there are now."""
        self.operate("checkpoint")

    def _fault(self, kind: str, endpoint: str, when: When, **details: Any) -> Fault:
        return Fault(self, self.operate("add_fault", kind=kind, endpoint=endpoint, **when, **details))


class SandboxControl(SandboxControls):
    """The controls of a sandbox in another process on this machine."""

    _opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    @property
    def url(self) -> str:
        return self._url

    def operate(self, operation: str, **arguments: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - whoever writes the test says which sandbox
            f"{self._url}/_sandbox/{operation}",
            data=json.dumps(arguments).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=arguments.get("timeout_seconds", 0.0) + 10) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            with error:
                told = json.loads(error.read())
        kinds = {"LookupError": LookupError, "ValueError": ValueError}
        raise kinds.get(told["error"], RuntimeError)(told["message"])


def _listed(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
