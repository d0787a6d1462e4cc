"""The page of docs/guides/htmx.md in Chromium, under the policy of docs/guides/csp.md, with each htmx that the guide names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from pytest_django import Settings

from partium_auth.testing import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.test_browser import chromium, new_page, site  # noqa: F401  # fixtures
from tests.admin.test_csp import watched
from tests.docs.test_guides import DOCS, SCRIPT, example

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

urlpatterns: list[Any] = []
HEAD = """<!doctype html><title>Parts</title>%s
<script nonce="{{ request.csp_nonce }}" src="/htmx.js"></script><script nonce="{{ request.csp_nonce }}">%s</script><body>"""


def blocks(language: str) -> list[str]:
    text = (DOCS / "guides/htmx.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(params=["htmx2", "htmx4"])
def parts_page(
    request: pytest.FixtureRequest,
    node_modules: Path,
    partium_user: PartiumUser,
    settings: Settings,
    tmp_path: Path,
) -> Iterator[str]:
    """The address of the guide's page."""
    page, part_list = blocks("django")
    (meta,), (script,) = blocks("html"), blocks("js")
    (tmp_path / "parts.html").write_text(HEAD % (meta, script) + page)
    (tmp_path / "parts_list.html").write_text(part_list)
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    policy = example("guides/csp.md", "csp.constants", MIDDLEWARE=[*settings.MIDDLEWARE])
    settings.MIDDLEWARE, settings.CONTENT_SECURITY_POLICY = policy.MIDDLEWARE, policy.CONTENT_SECURITY_POLICY
    settings.PARTIUM_PASSWORD_ORGANIZATION = "acme"
    script_file = node_modules / request.param / "dist" / "htmx.min.js"

    def htmx(request: HttpRequest) -> HttpResponse:
        return HttpResponse(script_file.read_bytes(), content_type="text/javascript")

    views = example("guides/htmx.md", "parts_list.html")
    urlpatterns[:] = [
        path("partium/", include("partium_auth.urls")),
        path("page/", views.page),
        path("parts/", views.parts, name="parts"),
        path("htmx.js", htmx),
    ]
    url = request.getfixturevalue("site")  # only now: a server reads MIDDLEWARE when it starts
    settings.ROOT_URLCONF = __name__
    yield f"{url}/page/"
    urlpatterns.clear()


def test_the_list_the_message_and_the_way_to_the_login_and_back(
    parts_page: str,
    new_page: Callable[..., Any],  # noqa: F811
    partium_user: PartiumUser,
    partium_sandbox: PartiumSandbox,
) -> None:
    page = new_page()
    violations = watched(page)
    session = partium_user.client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "domain": "localhost", "path": "/"}])
    page.goto(parts_page)

    def search() -> Any:
        page.get_by_label("Part").fill("fan")
        page.get_by_role("button", name="Search").click()
        return page.locator("#parts")

    search().get_by_text("Axial fan").first.wait_for()

    with partium_sandbox.fail("search", status=503):
        message = partium_user.client.get("/parts/?q=fan", headers=SCRIPT).json()["message"]
        search().get_by_text(message, exact=True).wait_for()
    search().get_by_text("Axial fan").first.wait_for()

    page.context.set_offline(True)
    search().get_by_text("This did not work.").wait_for()
    page.context.set_offline(False)

    partium_user.client.session.flush()
    search()
    page.get_by_label("Password").fill("anna-sandbox-password")
    page.locator("[name=username]").fill("anna@acme.example")
    page.locator("[name=username]").press("Enter")
    page.wait_for_url(parts_page)
    search().get_by_text("Axial fan").first.wait_for()
    assert violations == []
