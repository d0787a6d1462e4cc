"""``find-sdk.js`` in Chromium, with a clock that the test moves and a token endpoint that does what the test says."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import partium_auth

pytestmark = pytest.mark.browser
CHROMIUM = "/usr/bin/chromium"
SCRIPT = Path(partium_auth.__file__).parent / "static" / "partium_auth" / "find-sdk.js"
SDK = b"window.inits = []; window.Partium = { initApiKey: (key) => inits.push(key.length) };"
PREPARATION = """
const original = window.fetch;
window.underway = 0;
window.fetch = (...parameters) => {
  window.underway += 1;
  return original(...parameters).finally(() => { window.underway -= 1; });
};
window.hiddenNow = false;
Object.defineProperty(document, "hidden", { get: () => window.hiddenNow });
window.events = [];
for (const name of ["partium:ready", "partium:login", "partium:reload"]) {
  document.addEventListener(name, () => window.events.push(name));
}
window.bundled = [];  // the three lines of docs/client.md, with a bundled SDK that notes what it was started with
const Partium = { initApiKey: (token) => window.bundled.push(token.length) };
const start = () => partiumAuth.token().then((token) => Partium.initApiKey(token));
document.addEventListener("partium:token", start);
"""


class Endpoint:
    """A token endpoint, and the page around it."""

    def __init__(self) -> None:
        self.lifetime = 600
        self.organization = "acme"
        self.answer: Callable[[], tuple[int, dict[str, str], bytes]] = self.token
        self.calls: list[dict[str, str]] = []
        self.values: list[str] = []
        self.policy = ""
        self.numbers = itertools.count(1)
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/find-sdk.js":
                    self.reply(200, {"Content-Type": "text/javascript"}, SCRIPT.read_bytes())
                elif self.path == "/sdk.js":
                    self.reply(200, {"Content-Type": "text/javascript"}, SDK)
                else:
                    headers = {"Content-Type": "text/html"}
                    if endpoint.policy:
                        headers["Content-Security-Policy"] = endpoint.policy
                    tag = (
                        '<script src="/find-sdk.js" defer nonce="n0nce" data-token-url="/token/" data-csrf-token="c"'
                        ' data-organization="acme" data-external-user-id="" data-sdk-url="/sdk.js"></script>'
                    )
                    self.reply(200, headers, f"<!doctype html><title>x</title>{tag}".encode())

            def do_POST(self) -> None:
                endpoint.calls.append(dict(self.headers.items()))
                answer = endpoint.answer()
                if answer[0] == 0:
                    self.connection.close()  # the network is gone
                    return
                self.reply(*answer)

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a page that is closed
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def token(self) -> tuple[int, dict[str, str], bytes]:
        value = f"access-token-number-{next(self.numbers)}"
        self.values.append(value)
        body = {
            "access_token": value,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "organization": self.organization,
        }
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def fails(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.answer = lambda: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    def __init__(self, page: Any, endpoint: Endpoint) -> None:
        self.page, self.endpoint = page, endpoint
        page.set_default_timeout(10_000)
        page.clock.install()
        page.add_init_script(PREPARATION)
        page.goto(endpoint.url)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for has been answered, and the answer has been taken in."""
        for _ in range(3):
            self.page.wait_for_function("() => window.partiumAuth && window.underway === 0")
            self.page.evaluate("() => Promise.resolve()")

    def pass_seconds(self, seconds: float, step: float = 60) -> None:
        while seconds > 0:
            self.page.clock.run_for(int(min(step, seconds) * 1000))
            self.settle()
            seconds -= step

    def hide(self, hidden: bool) -> None:
        self.page.evaluate(
            "hidden => { window.hiddenNow = hidden; document.dispatchEvent(new Event('visibilitychange')); }", hidden
        )
        self.settle()

    def token(self) -> Any:
        return self.page.evaluate("() => partiumAuth.token().catch(() => null)")

    @property
    def events(self) -> list[str]:
        return list(self.page.evaluate("() => window.events"))

    @property
    def calls(self) -> int:
        return len(self.endpoint.calls)


@pytest.fixture
def open_tab(chromium: Any, endpoint: Endpoint) -> Iterator[Callable[[], Tab]]:
    contexts = []

    def open_it() -> Tab:
        context = chromium.new_context()
        contexts.append(context)
        return Tab(context.new_page(), endpoint)

    yield open_it
    for context in contexts:
        context.close()


def test_the_sdk_starts_and_gets_another_token_before_the_first_ends(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    tab = open_tab()
    assert tab.events == ["partium:ready"]
    assert tab.calls == 1
    assert endpoint.calls[0]["X-CSRFToken"] == "c"
    tab.pass_seconds(520)
    assert tab.calls == 1
    tab.pass_seconds(60)
    assert tab.calls == 2
    assert tab.token() == endpoint.values[1]
    assert tab.page.evaluate("() => inits.length") == 2
    assert tab.page.evaluate("() => bundled") == [len(value) for value in endpoint.values]


def test_a_token_of_many_days_is_refreshed_too(open_tab: Callable[[], Tab], endpoint: Endpoint) -> None:
    endpoint.lifetime = 40 * 86400  # more than a timer can be set for
    tab = open_tab()
    tab.pass_seconds(39 * 86400, step=6 * 3600)
    assert tab.calls == 1
    assert tab.events == ["partium:ready"]
    tab.pass_seconds(2 * 86400, step=6 * 3600)
    assert tab.calls == 2


def test_everybody_on_the_page_shares_one_request(open_tab: Callable[[], Tab], endpoint: Endpoint) -> None:
    tab = open_tab()
    tab.hide(True)  # the page itself asks nothing now
    tab.pass_seconds(700)
    assert tab.calls == 1
    tokens = tab.page.evaluate("() => Promise.all([1, 2, 3, 4, 5].map(() => partiumAuth.token()))")
    assert tokens == [endpoint.values[1]] * 5
    assert tab.calls == 2


def test_who_has_to_log_in_is_told_once_and_nobody_is_asked_again(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    endpoint.fails(401, b"{}")
    tab = open_tab()
    tab.pass_seconds(3600)
    assert tab.events == ["partium:login"]
    assert tab.calls == 1
    assert tab.token() is None


@pytest.mark.parametrize("change", ["csrf", "organization"])
def test_a_page_that_is_out_of_date_is_told_to_load_anew_and_is_given_nothing(
    open_tab: Callable[[], Tab], endpoint: Endpoint, change: str
) -> None:
    """In another tab somebody has logged in, or switched to another organization."""
    tab = open_tab()
    if change == "csrf":
        endpoint.fails(403, b"<html>CSRF</html>")
    else:
        endpoint.organization = "globex"
    tab.pass_seconds(580)
    assert tab.events == ["partium:ready", "partium:reload"]
    tab.pass_seconds(3600)
    assert tab.calls == 2
    assert tab.token() is None


def test_retry_after_is_respected_whoever_asks(open_tab: Callable[[], Tab], endpoint: Endpoint) -> None:
    endpoint.fails(503, Retry_After="40")
    tab = open_tab()
    for _ in range(20):
        assert tab.token() is None
    tab.pass_seconds(35, step=5)
    assert tab.token() is None
    assert tab.calls == 1
    endpoint.answer = endpoint.token
    tab.pass_seconds(10, step=5)
    assert tab.calls == 2
    assert tab.token() == endpoint.values[0]
    assert tab.events == ["partium:ready"]


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (0, b"", {}),
        (200, b"<html>log in</html>", {}),
        (200, b"{}", {}),
        (200, b'{"access_token": "x", "expires_in": "soon"}', {}),
        (500, b"", {}),
        (503, b"", {"Retry_After": "99999999"}),
        (503, b"", {"Retry_After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        (503, b"", {"Retry_After": "-5"}),
    ],
)
def test_whatever_goes_wrong_is_tried_again_ever_more_rarely(
    open_tab: Callable[[], Tab], endpoint: Endpoint, status: int, body: bytes, headers: dict[str, str]
) -> None:
    endpoint.fails(status, body, **headers)
    tab = open_tab()
    tab.pass_seconds(1800, step=5)
    assert 3 <= tab.calls <= 15
    for _ in range(10):
        tab.token()
    assert tab.calls <= 16
    endpoint.answer = endpoint.token
    tab.pass_seconds(300, step=20)
    assert tab.token() == endpoint.values[0]
    assert tab.events == ["partium:ready"]


def test_what_is_left_of_a_token_serves_while_there_is_no_other(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    tab = open_tab()
    endpoint.fails(503, Retry_After="5")
    tab.pass_seconds(580)
    assert tab.calls > 1
    assert tab.token() == endpoint.values[0]
    tab.pass_seconds(30)
    assert tab.token() is None


def test_a_hidden_tab_asks_nothing_and_catches_up_when_it_is_seen(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    tab = open_tab()
    tab.hide(True)
    tab.pass_seconds(7200)
    assert tab.calls == 1
    tab.hide(False)
    assert tab.calls == 2
    assert tab.token() == endpoint.values[1]


def test_a_tab_that_was_hidden_before_it_had_a_token_gets_one_when_it_is_seen(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    endpoint.fails(503, Retry_After="5")
    tab = open_tab()
    tab.hide(True)
    tab.pass_seconds(60)
    assert tab.calls == 1
    endpoint.answer = endpoint.token
    tab.hide(False)
    assert tab.calls == 2
    assert tab.events == ["partium:ready"]


def test_a_token_that_ended_while_the_machine_slept_is_not_served(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    tab = open_tab()
    # Asleep, performance.now() stands still on some systems; the time of day does not.
    tab.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3600000; }")
    assert tab.token() == endpoint.values[1]


def test_the_token_is_nowhere_but_behind_the_one_function(open_tab: Callable[[], Tab], endpoint: Endpoint) -> None:
    tab = open_tab()
    seen = tab.page.evaluate(
        """(token) => {
          const found = [], visited = new Set();
          const look = (value, path, depth) => {
            if (typeof value === "string" && value.includes(token)) found.push(path);
            if (!value || (typeof value !== "object" && typeof value !== "function") || visited.has(value) || depth > 5) return;
            visited.add(value);
            for (const name of Reflect.ownKeys(value)) {
              try { look(value[name], path + "." + String(name), depth + 1); } catch { /* not to be read */ }
            }
          };
          look(window, "window", 0);
          const html = document.documentElement.outerHTML.includes(token);
          const stored = JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie;
          return { found, html, stored: stored.includes(token), frozen: Object.isFrozen(window.partiumAuth),
                   names: Object.keys(window.partiumAuth) };
        }""",
        endpoint.values[0],
    )
    assert seen == {
        "found": [],
        "html": False,
        "stored": False,
        "frozen": True,
        "names": ["token", "organization"],
    }
    assert tab.token() == endpoint.values[0]


def test_the_sdk_is_loaded_under_a_policy_that_asks_for_a_nonce(
    open_tab: Callable[[], Tab], endpoint: Endpoint
) -> None:
    endpoint.policy = "default-src 'self'; script-src 'nonce-n0nce'"
    tab = open_tab()
    assert tab.page.evaluate("() => typeof window.Partium") == "object"
    assert tab.events == ["partium:ready"]
