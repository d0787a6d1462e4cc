"""The lines of docs/client.md for pages that bundle the Find SDK: built by Vite, run in Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HERE = Path(__file__).parent
SEARCH = """
window.search = (text) => new Promise((found, failed) => {
  const input = { organizationName: partiumAuth.organization, searchLanguage: "en", text };
  Partium.search.performSearch(input, {}, ["id"], { limit: 2 }).subscribe(found, (error) => failed(error.status));
});
"""


def build(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundle the documented lines, and a search for the test to call."""
    [lines] = re.findall(r"```js\n(import .*?)```", (HERE.parents[1] / "docs" / "client.md").read_text(), re.DOTALL)
    entry = target / "entry.js"
    entry.write_text(lines + SEARCH)
    monkeypatch.setenv("OUT", str(target / "built"))
    built = subprocess.run(
        ["node_modules/.bin/vite", "build"],
        cwd=HERE,
        env={**os.environ, "ENTRY": str(entry)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr


def test_a_bundled_sdk_searches_with_the_token_of_the_session(
    partium_user: PartiumUser,
    partium_sandbox: PartiumSandbox,
    live_server: Any,
    node_modules: Path,
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs Debian's chromium")
    from playwright.sync_api import sync_playwright

    build(tmp_path, monkeypatch)
    settings.ROOT_URLCONF = "tests.bundle.site"
    session = partium_user.client.cookies["sessionid"].value
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        page = context.new_page()
        page.goto(live_server.url)
        page.wait_for_function("() => window.partiumAuth && partiumAuth.token()")
        found = page.evaluate("() => search('fan')")
        browser.close()
    assert len(found["searchResults"]) == 2
    assert found["searchInput"]["searchSessionId"]
    [call] = partium_sandbox.calls(endpoint="search")
    assert call.organization == "acme"
