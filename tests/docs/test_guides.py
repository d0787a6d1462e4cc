"""The examples of docs/guides/ and docs/jobs.md, as a site would use them, over real HTTP to the sandbox."""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in
from django.core.management.base import CommandError
from django.test import Client
from django.urls import include, path, reverse
from pytest_django import Settings

from partium_auth import services
from partium_auth.checks import check_routers
from partium_auth.models import Membership, Organization, Role
from partium_auth.testing import PartiumUser
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
NEEDS_LOGIN = {"error": "login_required", "login_url": "/partium/login/"}

urlpatterns: list[Any] = [path("partium/", include("partium_auth.urls"))]


def example(page: str, containing: str, **names: Any) -> ModuleType:
    """Return the block of a page with these words, as a module."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [textwrap.dedent(block) for block in blocks if containing in block]
    module = ModuleType(re.sub(r"\W", "_", page))
    vars(module).update(names)
    sys.modules[module.__name__] = module  # where Strawberry looks up the names of its types
    exec(compile(block, page, "exec", dont_inherit=True), vars(module))  # our own page
    return module


@pytest.fixture
def routes() -> Iterator[list[Any]]:
    before = list(urlpatterns)
    yield urlpatterns
    urlpatterns[:] = before


def test_rest_framework_has_the_permission_and_the_handler(
    client: Client, partium_user: PartiumUser, routes: list[Any], settings: Any
) -> None:
    views = example("guides/apis.md", "APIView")
    settings.REST_FRAMEWORK = views.REST_FRAMEWORK
    routes.append(path("parts/", views.Parts.as_view()))
    response = client.get("/parts/?q=fan", headers=SCRIPT)
    assert (response.status_code, response.json()) == (401, NEEDS_LOGIN)
    assert partium_user.client.get("/parts/?q=fan", headers=SCRIPT).json()


def test_graphql_answers_what_a_resolver_raised(
    client: Client, routes: list[Any], partium_user: PartiumUser, partium_sandbox: PartiumSandbox
) -> None:
    routes.append(path("graphql/", example("guides/apis.md", "strawberry").graphql))

    def ask(who: Client) -> Any:
        body = {"query": '{ parts(text: "fan") }'}
        return who.post("/graphql/", body, content_type="application/json", headers=SCRIPT)

    assert (ask(client).status_code, ask(client).json()) == (401, NEEDS_LOGIN)
    assert ask(partium_user.client).json()["data"]["parts"][0].startswith("Axial fan")
    with partium_sandbox.fail("search", status=503, retry_after=7):
        response = ask(partium_user.client)
    assert (response.status_code, response["Retry-After"]) == (503, "7")


def test_ninja_answers_as_the_middleware_does(
    client: Client, routes: list[Any], partium_user: PartiumUser, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    settings.DEBUG = True  # Ninja has another handler of its own then
    routes.append(path("api/", example("guides/apis.md", "NinjaAPI").api.urls))
    assert client.get("/api/parts?q=fan", headers=SCRIPT).json()["error"] == "login_required"
    assert partium_user.client.get("/api/parts?q=fan").json()
    with partium_sandbox.fail("search", status=503, retry_after=7):
        response = partium_user.client.get("/api/parts?q=fan", headers=SCRIPT)
    assert (response.status_code, response["Retry-After"]) == (503, "7")


def test_htmx_gets_a_list_or_json(
    client: Client, routes: list[Any], partium_user: PartiumUser, tmp_path: Path, settings: Settings
) -> None:
    """Its page in a browser: ``tests/bundle/test_htmx.py``."""
    text = (DOCS / "guides/htmx.md").read_text()
    _page, template = re.findall(r"^```django\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "parts_list.html").write_text(template)
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    routes.append(path("parts/", example("guides/htmx.md", "parts_list.html").parts))
    headers = {"HX-Request": "true", "Sec-Fetch-Mode": "cors", "Accept": "*/*"}
    response = client.get("/parts/?q=fan", headers=headers)
    assert (response.status_code, response.json()["login_url"]) == (401, "/partium/login/")
    assert b"<li>Axial fan" in partium_user.client.get("/parts/?q=fan", headers=headers).content
    assert partium_user.client.get("/parts/", headers=headers).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_consumer_searches_for_its_person(partium_user: PartiumUser) -> None:
    consumer = example("guides/channels.md", "AsyncJsonWebsocketConsumer").Parts

    async def talk(user: Any, *messages: str) -> list[dict[str, Any]]:
        communicator: Any = ApplicationCommunicator
        app = communicator(consumer.as_asgi(), {"type": "websocket", "user": user})
        await app.send_input({"type": "websocket.connect"})
        for message in messages:
            await app.send_input({"type": "websocket.receive", "text": message})
        answers = [await app.receive_output(timeout=30) for _ in ("connect", *messages)]
        await app.send_input({"type": "websocket.disconnect", "code": 1000})
        await app.wait(timeout=30)
        return answers

    fan = '{"organization": "acme", "text": "fan"}'
    other = '{"organization": "globex", "text": "fan"}'
    accepted, found, refused = async_to_sync(talk)(partium_user.user, fan, other)
    assert accepted["type"] == "websocket.accept"
    assert "fan" in found["text"].lower()
    assert (refused["type"], refused["code"]) == ("websocket.close", 4401)
    assert async_to_sync(talk)(AnonymousUser())[0]["type"] == "websocket.close"


def test_a_backend_fills_the_fields_of_its_user_model(monkeypatch: pytest.MonkeyPatch) -> None:
    users = get_user_model()
    manager: Any = users._default_manager
    made = users(username="ann")

    def create_user(username: str, *, email: str, password: None, personnel_number: str) -> Any:
        assert (email, personnel_number) == ("ann@acme.example", "007")
        return made

    monkeypatch.setattr(type(manager), "create_user", staticmethod(create_user))
    backend = example("guides/users.md", "CompanyBackend").CompanyBackend()
    monkeypatch.setattr(backend, "get_username", lambda claims: "ann")
    claims = {"email": "ann@acme.example", "email_verified": True, "personnel_number": "007"}
    assert backend.create_user(claims) is made
    monkeypatch.setattr(users, "save", lambda self, update_fields: None)
    assert backend.update_user(made, {**claims, "given_name": "Ann"}).first_name == "Ann"


def test_the_router_sends_people_to_one_database(settings: Settings) -> None:
    router = example("guides/databases.md", "class PeopleRouter").PeopleRouter
    settings.DATABASE_ROUTERS = [router()]
    assert list(check_routers(None)) == []
    router.apps = {"auth"}
    assert [message.id for message in check_routers(None)] == ["partium_auth.E016"]


def test_both_policies_say_the_same() -> None:
    names: dict[str, Any] = {"MIDDLEWARE": []}
    by_package = example("guides/csp.md", "csp.constants", **names).CONTENT_SECURITY_POLICY["DIRECTIVES"]
    assert [str(value) for value in by_package["form-action"]] == ["'self'"]
    if django.VERSION >= (6, 0):
        by_django = example("guides/csp.md", "SECURE_CSP", MIDDLEWARE=[]).SECURE_CSP
        assert list(by_django) == list(by_package)


@pytest.fixture
def key(partium_sandbox: PartiumSandbox, settings: Settings) -> str:
    """A key of acme, which the site knows."""
    settings.PARTIUM_EXECUTOR = "inline"
    organization = Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
    services.add_key(organization, partium_sandbox.add_key("acme"), label="tests", actor=None)
    return "acme"


def test_a_task_searches_for_a_person(partium_user: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    task = example("jobs.md", "find_spare_parts").find_spare_parts
    assert task.apply(args=(partium_user.user.pk, "acme", "fan")).get()
    partium_user.grant.delete()
    assert task.apply(args=(partium_user.user.pk, "acme", "fan")).get() is None


def test_a_command_prints_what_it_finds(key: str) -> None:
    out = io.StringIO()
    example("jobs.md", "BaseCommand").Command(stdout=out).handle()
    assert "Axial fan" in out.getvalue()


def test_a_command_without_a_key_says_how_to_add_one(partium_sandbox: PartiumSandbox) -> None:
    Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
    with pytest.raises(CommandError, match="partium_keys add"):
        example("jobs.md", "BaseCommand").Command().handle()


def test_the_daily_commands_run_from_celery() -> None:
    jobs = example("jobs.md", "CELERY_BEAT_SCHEDULE")
    for entry in jobs.CELERY_BEAT_SCHEDULE.values():
        jobs.manage.apply(args=entry["args"]).get()


def test_people_with_another_login_join_by_a_rule_and_get_tokens(key: str, client: Client) -> None:
    guide = example("guides/logins.md", "user_logged_in")
    try:
        create: Any = get_user_model()._default_manager
        ann, eve = (create.create_user(name, f"{name}@{name}.example") for name in ("acme", "globex"))
        for person, status in ((ann, 200), (eve, 403), (ann, 200)):
            client.force_login(person, "django.contrib.auth.backends.ModelBackend")
            assert client.post(reverse("partium_auth:token"), headers=SCRIPT).status_code == status
        Membership.objects.update(role=Role.DEVELOPER)
        client.force_login(ann, "django.contrib.auth.backends.ModelBackend")
        assert [one.role for one in Membership.objects.all()] == [Role.DEVELOPER]
    finally:
        user_logged_in.disconnect(guide.join_acme)
