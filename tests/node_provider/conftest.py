"""The provider's process, a site that it can reach, and headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from partium_auth.models import Organization
from partium_auth.oidc import documents
from partium_auth.services import create_client_key

HERE = Path(__file__).parent
CLIENT_SECRET = "a secret of the tests, as long as it should be"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm packages, installed from the lock file where they are not yet."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js")
    target = HERE / "node_modules"
    if not (target / "oidc-provider").is_dir():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("npm ci did not work here")
    return target


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    # Playwright's synchronous API runs an event loop in this thread, in which Django would refuse its database.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            yield browser
            browser.close()
    finally:
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        else:
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def issuer(
    node_modules: Path, live_server: Any, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A provider of its own for each test, and the site's settings for it; with the parameter "strict" see ``provider.mjs``."""
    strict = getattr(request, "param", "") == "strict"
    errors = tmp_path / "errors.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            ["node", "provider.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"site": live_server.url, "clientSecret": CLIENT_SECRET, "strict": strict}))
        process.stdin.close()
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), errors.read_text()
        documents.forget()
        settings.OIDC_OP_ISSUER = url
        settings.OIDC_RP_CLIENT_ID = "site"
        if strict:
            settings.OIDC_RP_CLIENT_AUTHENTICATION = "private_key_jwt"
            create_client_key(None, actor=None)
        else:
            settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
        settings.ROOT_URLCONF = "tests.node_provider.site"
        settings.LOGIN_REDIRECT_URL = "/page/home/"
        Organization.objects.create(org_id="acme", display_name="Acme")
        yield url
    finally:
        process.terminate()
        process.wait(60)
        process.stdin.close()
        process.stdout.close()
        sys.stderr.write(errors.read_text())  # shown by pytest where a test fails


@pytest.fixture
def context(chromium: Any, issuer: str) -> Iterator[Any]:
    """A browser without a past. It stays on this machine: the provider's pages name a font elsewhere."""
    context = chromium.new_context()
    context.set_default_timeout(15_000)
    context.route(
        "**/*",
        lambda route: (
            route.continue_()
            if "//127.0.0.1" in route.request.url or "//localhost" in route.request.url
            else route.abort()
        ),
    )
    yield context
    context.close()
