"""The examples of docs/errors.md, as a site would use them: each block is run, over real HTTP to the sandbox."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.test import Client
from django.urls import include, path
from pytest_django import Settings

from partium_auth import exceptions
from partium_auth.testing.people import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
PAGE = Path(__file__).resolve().parents[2] / "docs/errors.md"
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
NEEDS_LOGIN = {"error": "login_required", "login_url": "/partium/login/"}

urlpatterns: list[Any] = [path("partium/", include("partium_auth.urls"))]


def example(heading: str) -> ModuleType:
    """Return the block below a heading as a module."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    module = ModuleType("errors_page_" + heading.lower().replace(" ", "_"))
    exec(compile(block, f"{PAGE}: {heading}", "exec"), vars(module))  # our own page
    return module


@pytest.fixture
def routes() -> Iterator[list[Any]]:
    before = list(urlpatterns)
    yield urlpatterns
    urlpatterns[:] = before


def test_every_block_of_the_page_is_tested() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == ["Before the view", "Streams", "Another middleware"]
    assert PAGE.read_text().count("```python") == len(headings)


@pytest.fixture
def export(routes: list[Any]) -> str:
    routes.append(path("export/", example("Streams").export))
    return "/export/?text=fan&text=fuse"


def test_a_stream_that_cannot_begin_is_answered(client: Client, export: str) -> None:
    response = client.get(export, headers=SCRIPT)
    assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)


def test_a_stream_that_works_is_a_stream(partium_user: PartiumUser, export: str) -> None:
    response: Any = partium_user.client.get(export, headers=SCRIPT)
    lines = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]
    assert len(lines) > 1
    assert all(set(line) == {"name"} for line in lines)


def test_a_stream_that_breaks_off_says_why_in_its_last_line(
    partium_user: PartiumUser, export: str, partium_sandbox: PartiumSandbox
) -> None:
    response: Any = partium_user.client.get(export, headers=SCRIPT)
    with partium_sandbox.fail("search", status=503):
        lines = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]
    assert response.status_code == 200
    assert set(lines[0]) == {"name"}
    assert lines[-1]["error"] == "upstream_error"


def test_guarded_views_run_for_members_only(client: Client, partium_user: PartiumUser, routes: list[Any]) -> None:
    views = example("Before the view")
    routes += [path("parts/", views.parts), path("organization/", views.Organization.as_view())]
    for url in ("/parts/?q=fan", "/organization/"):
        response = client.get(url, headers=SCRIPT)
        assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)
    assert partium_user.client.get("/parts/?q=fan").json()["parts"]
    assert partium_user.client.get("/organization/").json() == {"organization": "acme"}


def test_another_middleware_answers_for_itself(
    client: Client, partium_user: PartiumUser, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    middleware = example("Another middleware").TokenHeaderMiddleware
    monkeypatch.setattr(sys.modules[__name__], "Example", middleware, raising=False)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.Example"]
    response = Client().get("/partium/login/", headers=SCRIPT)
    assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)
    person = Client()
    person.cookies = partium_user.client.cookies
    assert person.get("/partium/login/")["X-Organization"] == "acme"


def test_the_table_has_the_statuses_that_exceptions_get(client: Client, routes: list[Any]) -> None:
    def failing(request: Any, name: str) -> Any:
        raise getattr(exceptions, name)("for developers")

    routes.append(path("failing/<str:name>/", failing))
    rows = [row.split("|") for row in PAGE.read_text().splitlines() if row.startswith("| `")]
    assert len(rows) > 3
    for _, kinds, _, answer, _ in rows:
        statuses = re.findall(r"\b[45]\d\d\b", answer)
        names = re.findall(r"`(\w+)`", kinds)
        for name, status in zip(names, statuses * len(names) if len(statuses) == 1 else statuses, strict=True):
            assert client.get(f"/failing/{name}/", headers=SCRIPT).status_code == int(status), name
