"""Real servers: uvicorn, and WSGI with a thread per request; many requests of one session at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import connection

from partium_auth.models import Grant
from partium_auth.testing.people import PartiumUser, log_in
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def serve(partium_sandbox: PartiumSandbox) -> Iterator[Callable[[str], str]]:
    running: list[tuple[subprocess.Popen[str], socket.socket]] = []

    def start(kind: str) -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)  # whoever comes before the server is up waits here
        environment = {
            **os.environ,
            "TEST_PARTIUM_API_URL": partium_sandbox.url,
            "TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
        }
        command = [sys.executable, "-W", "error", "-m", "tests.hosts.server", kind, str(listener.fileno())]
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        running.append((process, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for process, listener in running:
        listener.close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors[-3000:]


def visit(site: str, person: PartiumUser, path: str, method: str = "GET", **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        session.cookies.set("sessionid", person.client.cookies["sessionid"].value)
        session.cookies.set("csrftoken", "c" * 32)
        headers = {"Accept": "application/json", "X-CSRFToken": "c" * 32, **headers}
        return session.request(method, site + path, headers=headers, timeout=90)


def let_tokens_expire() -> None:
    Grant.objects.update(issued_at=time.time() - 590)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_many_requests_of_two_people_at_once(
    serve: Callable[[str], str], partium_sandbox: PartiumSandbox, kind: str
) -> None:
    ann, bob = log_in(partium_sandbox, "ann", "acme"), log_in(partium_sandbox, "bob", "globex")
    site = serve(kind)
    assert visit(site, ann, "/search/?text=fan").status_code == 200  # what is imported at first use is imported now
    let_tokens_expire()
    paths = ["/token/", "/atoken/", "/search/?text=fan", "/asearch/?text=fan"] * 4
    wanted = [(person, path) for path in paths for person in (ann, bob)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: visit(site, *one), wanted))
    refused = [
        (path, answer.text) for (_, path), answer in zip(wanted, answers, strict=True) if answer.status_code != 200
    ]
    assert not refused
    for (person, path), answer in zip(wanted, answers, strict=True):
        if "token" in path:
            assert answer.json()["organization"] == person.organization.org_id
    assert partium_sandbox.count(endpoint="refresh") == 2  # one for each of them
    token = visit(site, ann, "/partium/token/", "POST")
    assert token.status_code == 200
    assert "no-store" in token.headers["Cache-Control"]


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_errors_reach_people_and_scripts_as_they_should(
    serve: Callable[[str], str], partium_sandbox: PartiumSandbox, kind: str
) -> None:
    ann = log_in(partium_sandbox, "ann", "acme")
    site = serve(kind)
    with partium_sandbox.fail("search", status=500):
        for path in ("/search/?text=fan", "/asearch/?text=fan"):
            assert visit(site, ann, path).status_code == 503
            page = visit(site, ann, path, Accept="text/html")
            assert (page.status_code, page.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    let_tokens_expire()
    with partium_sandbox.fail("refresh", status=503):
        for path in ("/token/", "/atoken/"):
            answer = visit(site, ann, path)
            assert answer.json()["error"] == "token_unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
    Grant.objects.all().delete()
    for path in ("/token/", "/atoken/", "/asearch/?text=fan"):
        assert visit(site, ann, path).status_code == 401
    assert visit(site, ann, "/partium/token/", "POST").status_code == 401
    forged: Any = visit(site, ann, "/partium/token/", "POST", **{"X-CSRFToken": "d" * 32})
    assert forged.status_code == 403
