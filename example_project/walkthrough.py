"""Drive the running demo as a script and say what happens: ``python -m example_project.walkthrough`` (``make walkthrough``).

Two people log in through the identity provider with its real forms, get tokens, search, watch a token being renewed,
switch the organization and log out. After every step stands what Partium (here: the sandbox) was asked because of it.
No token, key or password is printed. The exit code is 0 if every step did what it should.

Environment: ``DEMO_PORT`` (8000), ``DEMO_SANDBOX_PORT`` (8900), as for ``make demo``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import requests

from example_project.demo_provider import Person, read_cast
from partium_auth.testing.sandbox import ACME, GLOBEX, Call, SandboxControl, part_png

TIMEOUT_SECONDS = 15.0
RENEWAL_LIFETIME_SECONDS = 12
"""What the sandbox's access tokens live while one is watched: a renewal is due after some seven seconds."""
WATCH_SECONDS = 40.0

CREDENTIALS = {
    "access_token": "an access token",
    "api_key": "the API key",
    "refresh": "a refresh token",
    "password": "a password",
    "unknown": "an access token of the identity provider",
    "none": "nothing",
}


class StepFailed(Exception):
    """Something was not as it should be; the message says what."""


def expect(condition: object, message: str) -> None:
    """Raise StepFailed unless ``condition``."""
    if not condition:
        raise StepFailed(message)


@dataclass
class Form:
    """An HTML form as a browser would send it.

    Args:
        action: where it goes, as written.
        method: ``get`` or ``post``.
        fields: names and values of its fields, hidden ones included.
    """

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict, repr=False)


class Page(HTMLParser):
    """The forms and links of a page, its headings, and how many parts it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.numbers = re.findall(r"Part number </span>([^<]+)</p>", html)
        self._open: Form | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(values.get("action", ""), values.get("method", "get").lower())
            self.forms.append(self._open)
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "input" and self._open is not None and values.get("name"):
            self._open.fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None

    def form(self, what: str, fits: Callable[[Form], bool]) -> Form:
        """The first form that fits. Raises StepFailed: there is none."""
        for form in self.forms:
            if fits(form):
                return form
        raise StepFailed(f"the page has no form to {what}")


class Visitor:
    """A person with a browser of their own: one session, cookies, real forms."""

    def __init__(self, person: Person, site: str) -> None:
        self.person = person
        self._site = site
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy is a way to this machine's own ports
        self.page = Page("")
        self._url = site

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        try:
            return self._http.request(method, url, timeout=TIMEOUT_SECONDS, **options)
        except requests.RequestException as error:
            raise StepFailed(f"{method} {url.partition('?')[0]} got no answer ({type(error).__name__})") from None

    def _browse(self, method: str, url: str, **options: Any) -> requests.Response:
        response = self._send(method, url, headers={"Accept": "text/html", "Referer": self._url}, **options)
        where = f"{method} {response.url.partition('?')[0]}"
        expect(response.status_code == 200, f"{where} answered {response.status_code}")
        self.page, self._url = Page(response.text), response.url
        return response

    def open(self, path: str, **query: str) -> requests.Response:
        """Open a page of the site."""
        return self._browse("GET", urljoin(self._site, path), params=query)

    def submit(self, form: Form, files: Mapping[str, Any] | None = None, **changes: str) -> requests.Response:
        """Send a form with some fields filled in."""
        target = urljoin(self._url, form.action) if form.action else self._url
        return self._browse("POST", target, data={**form.fields, **changes}, files=files)

    def log_in(self, password: str) -> None:
        """From the site's first page through its login page and the provider's, and back."""
        self.open("/")
        ways = [link for link in self.page.links if "/login/" in link]
        expect(ways, "the login page offers no identity provider")
        self._browse("GET", urljoin(self._url, ways[0]))
        form = self.page.form("sign in at the provider", lambda form: {"username", "password"} <= form.fields.keys())
        self.submit(form, username=self.person.username, password=password)
        expect(self._url.startswith(self._site), "the provider did not send the browser back to the site")
        self._form_to("/logout/", "log out; the login did not succeed")

    def _form_to(self, path: str, what: str) -> Form:
        return self.page.form(what, lambda form: form.action.endswith(path))

    def token(self) -> dict[str, Any]:
        """What the token endpoint answers; the token in it is not for printing."""
        csrf = self._form_to("/logout/", "take the CSRF token from").fields["csrfmiddlewaretoken"]
        headers = {"Accept": "application/json", "X-CSRFToken": csrf, "Referer": self._url}
        response = self._send("POST", urljoin(self._site, "/partium/token/"), headers=headers)
        expect(response.status_code == 200, f"the token endpoint answered {response.status_code}")
        answer: dict[str, Any] = response.json()
        expect(answer.get("access_token"), "the token endpoint answered without a token")
        expect(response.headers.get("Cache-Control", "").find("no-store") >= 0, "the token may be stored by caches")
        return answer

    def state(self, *, use: bool = False) -> dict[str, Any]:
        """The session panel's state; ``use`` asks for the token on the server first, as a search would."""
        headers = {"Accept": "application/json", "X-Fragment": "1", "Referer": self._url}
        url = urljoin(self._site, "/session-state/")
        if use:
            csrf = self._form_to("/logout/", "take the CSRF token from").fields["csrfmiddlewaretoken"]
            response = self._send("POST", url, headers={**headers, "X-CSRFToken": csrf})
        else:
            response = self._send("GET", url, headers=headers)
        expect(response.status_code == 200, f"the session's state answered {response.status_code}")
        state: dict[str, Any] = response.json()
        return state

    def search(self, text: str) -> list[str]:
        """Part numbers found by words."""
        self.open("/", text=text, language="en", limit="6")
        return self.page.numbers

    def search_by_photo(self, photo: bytes) -> list[str]:
        """Part numbers found by a photo."""
        self.open("/")
        form = self.page.form("search by photo", lambda form: "image" in form.fields)
        form.fields.pop("image")
        self.submit(form, files={"image": ("part.png", photo, "image/png")})
        return self.page.numbers

    def switch(self, org_id: str) -> None:
        """Make another organization the active one."""
        self.open("/")
        self.submit(self._form_to("/organization/", "switch the organization"), organization=org_id)

    def log_out(self) -> None:
        """Log out at the site, and at the provider."""
        self.open("/")
        form = self._form_to("/logout/", "log out")
        self.submit(form)
        status = self._send("GET", urljoin(self._site, "/session-state/")).status_code
        expect(status == 401, f"the session is still alive after the log-out (its state answered {status})")


class Walkthrough:
    """Numbers the steps, prints them, and notes what the sandbox was asked during each."""

    def __init__(self, sandbox: SandboxControl) -> None:
        self._sandbox = sandbox
        self._step = 0
        self._seen = len(sandbox.calls())

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step; StepFailed passes through after it was printed."""
        self._step += 1
        say(f"\n{self._step:2}  {title}")
        started_at = time.monotonic()
        try:
            yield
        except StepFailed as error:
            say(f"      FAILED: {error}")
            raise
        finally:
            self._report_upstream()
        say(f"      done in {time.monotonic() - started_at:.1f} s")

    def upstream(self) -> list[Call]:
        """What the sandbox was asked since the last report, which stays unreported."""
        return self._sandbox.calls()[self._seen :]

    def _report_upstream(self) -> None:
        calls = self.upstream()
        self._seen += len(calls)
        for call in calls:
            person = ", for one person of many" if call.external_user_id else ""
            say(
                f"      upstream: {call.method} {call.path} with {CREDENTIALS[call.credential_kind]}{person} → {call.status}"
            )
        if not calls:
            say("      upstream: nothing asked of Partium")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print what a step found."""
    say(f"      {text}")


def walk(site: str, sandbox: SandboxControl) -> None:
    """All steps.

    Args:
        site: the site's base URL.
        sandbox: the demo's.

    Raises:
        StepFailed: a step did not do what it should; it has been printed.
    """
    cast = read_cast()
    people = {person.username: person for person in cast.people}
    ada, pat = Visitor(people["ada"], site), Visitor(people["pat"], site)
    walkthrough = Walkthrough(sandbox)

    with walkthrough.step("Ada logs in with her company's identity provider"):
        ada.log_in(cast.password)
        state = ada.state()
        note(f"organization: {state['organization']}; her token comes from: {state['source_label']}")
        expect(state["window"] != "none", "the login left no access token")

    with walkthrough.step("A page of hers asks the token endpoint"):
        answer = ada.token()
        note(
            f"an access token of {len(answer['access_token'])} characters, valid for {answer['expires_in']} s, {ACME} only"
        )
        expect(answer["organization"] == ACME, "the token is for another organization")
        expect(not walkthrough.upstream(), "a valid token was fetched again")

    with walkthrough.step("Ada searches for “axial fan”"):
        numbers = ada.search("axial fan")
        expect(numbers, "nothing was found")
        note(f"found {', '.join(numbers[:3])} and {len(numbers) - 3} more")
        searches = [call for call in walkthrough.upstream() if call.endpoint == "search"]
        expect(len(searches) == 1 and searches[0].status == 200, "Partium was not asked exactly once")

    with walkthrough.step("Ada searches by a photo of the second part"):
        photo = part_png(numbers[1])
        expect(photo, "the sandbox has no picture of the part")
        looked_up = ada.search_by_photo(photo or b"")
        expect(looked_up[:1] == [numbers[1]], "the part in the photo was not found first")
        note(f"the first of {len(looked_up)} is the part in the photo, {looked_up[0]}")

    with walkthrough.step("Pat, a partner of both companies, logs in"):
        pat.log_in(cast.password)
        note(f"organization: {pat.state()['organization']}")

    with walkthrough.step("Pat switches to the other organization, whose people share an API key"):
        before = pat.state()["organization"]
        other = GLOBEX if pat.token()["organization"] == ACME else ACME
        pat.switch(other)
        after = pat.state()["organization"]
        expect(after != before, "the organization is still the same")
        if other != GLOBEX:
            pat.switch(GLOBEX)
        state = pat.state(use=True)
        note(f"{before} → {state['organization']}; the token comes from: {state['source_label']}")
        expect(pat.search("pump"), "nothing was found")
        note("the page got an access token, never the key")

    with walkthrough.step("A token is renewed before it expires"):
        watch_renewal(pat, sandbox)

    with walkthrough.step("Both log out, here and at the provider"):
        ada.log_out()
        pat.log_out()
        note("their sessions and tokens are gone")


def watch_renewal(visitor: Visitor, sandbox: SandboxControl) -> None:
    """Let tokens live some seconds only, get such a one, and use it until another has taken its place."""
    usual_seconds = sandbox.settings()["lifetime_seconds"]
    sandbox.settings(lifetime_seconds=RENEWAL_LIFETIME_SECONDS)
    try:
        # The one that the session has lives long. The sandbox revokes it; Partium's 401 makes the site fetch another.
        before = visitor.state()["renewals"]
        sandbox.revoke_token(visitor.token()["access_token"])
        expect(visitor.search("pump"), "nothing was found with a revoked token")
        state = visitor.state()
        expect(state["renewals"] == before + 1, "a revoked token was not replaced")
        note(
            f"Partium revoked the token; the search went through all the same, with a new one that lives {state['lifetime']} minutes"
        )
        shown, deadline = "", time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            state = visitor.state(use=shown == "advisory")
            if state["window"] != shown:
                shown = state["window"]
                so_far = f"{state['renewals']} renewal{'' if state['renewals'] == 1 else 's'} so far"
                note(f"{state['window_label'].lower()}, {state['left']} left, {so_far}")
            if state["renewals"] > before + 1:
                note("used once more, and renewed in the background while the old one still served")
                return
            time.sleep(0.5)
        raise StepFailed(f"the token was not renewed within {WATCH_SECONDS:g} s")
    finally:
        sandbox.settings(lifetime_seconds=usual_seconds)


def find_demo(environment: Mapping[str, str]) -> tuple[str, SandboxControl] | None:
    """The site's URL and the sandbox's controls, or None where the demo does not run."""
    site = f"http://127.0.0.1:{environment.get('DEMO_PORT') or '8000'}"
    sandbox = SandboxControl(f"http://127.0.0.1:{environment.get('DEMO_SANDBOX_PORT') or '8900'}")
    try:
        with requests.Session() as http:
            http.trust_env = False
            http.get(site, timeout=TIMEOUT_SECONDS)
        sandbox.describe()
    except (requests.RequestException, OSError, ValueError, LookupError):
        return None
    return site, sandbox


def main() -> int:
    """Run all steps. Returns 0 if they all did what they should, 1 if one did not, 2 if the demo does not run."""
    demo = find_demo(os.environ)
    if demo is None:
        say(
            "The demo does not run. Start it in another terminal and try again:\n\n    make demo\n\n"
            "If it uses other ports, set DEMO_PORT and DEMO_SANDBOX_PORT here too."
        )
        return 2
    site, sandbox = demo
    started = time.monotonic()
    say(f"Walking through the demo at {site}, with Partium played by {sandbox.url}.")
    try:
        walk(site, sandbox)
    except StepFailed:
        say("\nThis step failed; the ones after it were not tried.")
        return 1
    except OSError as error:  # the sandbox's controls
        say(f"\nThe sandbox stopped answering ({type(error).__name__}). Does the demo still run?")
        return 1
    say(f"\nEvery step did what it should, in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
