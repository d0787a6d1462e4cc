"""``make walkthrough``: show on the terminal, step by step, what the running demo does.

Two people log in through the identity provider, get tokens, search, watch a token being refreshed, switch the
organization and log out, all over HTTP. Below every step stands what the site asked of Partium (here: the sandbox)
because of it. No token, key or password is printed. The exit code is 0 if every step succeeded.

Environment: ``DEMO_PORT`` (8000), ``DEMO_SANDBOX_PORT`` (8900), as for ``make demo``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from example_project.demo_provider import read_people
from partium_auth.testing.sandbox import ACME, GLOBEX, SandboxControl

PHOTO = Path(__file__).parent / "static" / "portal" / "try-this.png"
TIMEOUT_SECONDS = 60.0
SHORT_LIFETIME_SECONDS = 12
"""Lifetime of the access token that is watched: a refresh is due after some seven seconds."""
WATCH_SECONDS = 60.0
CREDENTIALS = {
    "access_token": "an access token",
    "api_key": "the API key",
    "refresh": "a refresh token",
    "password": "a password",
    "unknown": "an access token of the identity provider",
    "none": "nothing",
}


class StepFailed(Exception):
    """A step did not do what it should; the message says what."""


def expect(condition: object, message: str) -> None:
    """Raise StepFailed unless ``condition``."""
    if not condition:
        raise StepFailed(message)


class Visitor:
    """A person with a browser of their own.

    Args:
        username: one of the demo's people.
    """

    def __init__(self, site: str, username: str) -> None:
        self._site = site
        self._username = username
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy: the site is on this machine

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        response = self._http.request(method, url, timeout=TIMEOUT_SECONDS, **options)
        path = response.url.removeprefix(self._site).partition("?")[0]
        expect(response.ok, f"{method} {path} answered {response.status_code}")
        return response

    def get(self, path: str, **query: str) -> requests.Response:
        """Open a page of the site."""
        return self._send("GET", self._site + path, params=query)

    def post(self, path: str, *, files: Mapping[str, Any] | None = None, **fields: str) -> requests.Response:
        """Send a form to the site, as the page's own JavaScript does."""
        headers = {"X-CSRFToken": self._http.cookies["csrftoken"], "X-Fragment": "1"}
        return self._send("POST", self._site + path, data=fields, files=files, headers=headers)

    def log_in(self, password: str) -> None:
        """Log in at the identity provider, and come back to the site."""
        page = self.get("/partium/login/default/", next="/")
        hidden = dict(re.findall(r'name="(transaction_id)" value="([^"]+)"', page.text))
        arrived = self._send("POST", page.url, data={**hidden, "username": self._username, "password": password})
        expect(arrived.url == f"{self._site}/", "the provider did not send the browser back to the site")

    def token(self) -> dict[str, Any]:
        """Return the answer of the token endpoint. The token in it must not be printed."""
        answer: dict[str, Any] = self.post("/partium/token/").json()
        return answer

    def state(self, *, use: bool = False) -> dict[str, Any]:
        """Return what the session panel shows; ``use`` reads the token first, as a search does."""
        response = self.post("/session-state/") if use else self.get("/session-state/")
        state: dict[str, Any] = response.json()
        return state

    def search(self, text: str) -> list[str]:
        """Return the part numbers that a search finds."""
        return part_numbers(self.get("/", text=text, limit="6"))

    def log_out(self) -> None:
        """Log out at the site, and at the provider."""
        self.post("/partium/logout/")
        status = self._http.get(f"{self._site}/session-state/", timeout=TIMEOUT_SECONDS).status_code
        expect(status == 401, f"the session is still alive after the log-out (its state answered {status})")


def part_numbers(page: requests.Response) -> list[str]:
    """Return the part numbers that a page of the portal shows."""
    return re.findall(r"Part number </span>([^<]+)</p>", page.text)


@contextmanager
def step(title: str, sandbox: SandboxControl) -> Iterator[None]:
    """One step: its title, what it notes, and what the sandbox was asked. Prints StepFailed, and raises it again."""
    print(f"\n{title}", flush=True)
    started_at, asked_before = time.monotonic(), len(sandbox.calls())
    try:
        yield
    except StepFailed as error:
        note(f"FAILED: {error}")
        raise
    finally:
        calls = sandbox.calls()[asked_before:]
        for call in calls:
            person = ", for one person of many" if call.external_user_id else ""
            note(
                f"upstream: {call.method} {call.path} with {CREDENTIALS[call.credential_kind]}{person} → {call.status}"
            )
        if not calls:
            note("upstream: nothing asked of Partium")
    note(f"done in {time.monotonic() - started_at:.1f} s")


def note(text: str) -> None:
    """Print a line below a step's title."""
    print(f"   {text}", flush=True)


def walk(site: str, sandbox: SandboxControl) -> None:
    """Take all steps.

    Raises:
        StepFailed: a step did not do what it should; it has been printed.
    """
    password = read_people().password
    ada, pat = Visitor(site, "ada"), Visitor(site, "pat")

    with step("1  Ada logs in with her company's identity provider", sandbox):
        ada.log_in(password)
        state = ada.state()
        note(f"organization: {state['organization']}; her token comes from: {state['source_label']}")

    with step("2  A page of hers asks the token endpoint", sandbox):
        token = ada.token()
        size, lifetime_seconds = len(token["access_token"]), token["expires_in"]
        note(f"an access token of {size} characters, valid for {lifetime_seconds} s, {token['organization']} only")

    with step("3  Ada searches for “axial fan”", sandbox):
        numbers = ada.search("axial fan")
        expect(numbers, "nothing was found")
        note(f"found {', '.join(numbers[:3])} and {len(numbers) - 3} more")

    with step("4  Ada searches by photo", sandbox):
        numbers = part_numbers(ada.post("/", files={"image": PHOTO.read_bytes()}))
        expect(numbers, "nothing was found")
        note(f"found {len(numbers)} parts, first of all {numbers[0]}")

    with step("5  Pat, a partner of both companies, logs in", sandbox):
        pat.log_in(password)
        pat.post("/partium/organization/", organization=ACME)
        before = pat.state()["organization"]
        note(f"organization: {before}")

    with step("6  Pat switches to the other organization, whose people share an API key", sandbox):
        pat.post("/partium/organization/", organization=GLOBEX)
        state = pat.state(use=True)
        expect(state["organization"] != before, "the organization is still the same")
        note(f"{before} → {state['organization']}; the token comes from: {state['source_label']}")
        expect(pat.search("pump"), "nothing was found")
        note("the page got an access token, never the key")

    with step("7  A token is refreshed before it expires", sandbox):
        watch_refresh(pat, sandbox)

    with step("8  Both log out, here and at the provider", sandbox):
        ada.log_out()
        pat.log_out()
        note("their sessions and tokens are gone")


def watch_refresh(visitor: Visitor, sandbox: SandboxControl) -> None:
    """Let tokens live for some seconds, obtain one, and use it until it has been refreshed."""
    usual_seconds = sandbox.settings()["lifetime_seconds"]
    sandbox.settings(lifetime_seconds=SHORT_LIFETIME_SECONDS)
    try:
        refreshes = visitor.state()["refreshes"]
        # The session's token lives long. Once it is revoked, Partium answers 401 and the site refreshes it.
        sandbox.revoke_token(visitor.token()["access_token"])
        expect(visitor.search("pump"), "nothing was found with a revoked token")
        state = visitor.state()
        expect(state["refreshes"] > refreshes, "a revoked token was not replaced")
        note(f"Partium revoked the token; the search succeeded with a new one that lives {state['lifetime']} minutes")
        refreshes, window, deadline = state["refreshes"], "", time.monotonic() + WATCH_SECONDS
        while state["refreshes"] == refreshes:
            expect(time.monotonic() < deadline, f"the token was not refreshed within {WATCH_SECONDS:g} s")
            if state["window"] != window:
                window = state["window"]
                note(f"{state['window_label'].lower()}, {state['left']} left")
            time.sleep(0.5)
            state = visitor.state(use=window != "fresh")
        note("used once more, and refreshed in the background while the old one was still served")
    finally:
        sandbox.settings(lifetime_seconds=usual_seconds)


def main() -> int:
    """Take all steps. Returns 0 if they succeeded, 1 if one failed, 2 if the demo does not run."""
    site = f"http://127.0.0.1:{os.environ.get('DEMO_PORT') or 8000}"
    sandbox = SandboxControl(f"http://127.0.0.1:{os.environ.get('DEMO_SANDBOX_PORT') or 8900}")
    started_at = time.monotonic()
    try:
        sandbox.describe()
        print(f"Walking through the demo at {site}, with Partium played by {sandbox.url}.", flush=True)
        walk(site, sandbox)
    except StepFailed:
        print("\nThis step failed; the ones after it were not tried.")
        return 1
    except (OSError, ValueError, LookupError) as error:
        print(
            f"\nNo answer ({type(error).__name__}). Does the demo run? Start it in another terminal:\n\n    make demo\n\n"
            "If it uses other ports, set DEMO_PORT and DEMO_SANDBOX_PORT here, too."
        )
        return 2
    print(f"\nEvery step succeeded, in {time.monotonic() - started_at:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
