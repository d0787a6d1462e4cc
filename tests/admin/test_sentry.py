"""What ``sentry_sdk`` sends, with its default options, when a view or service that handles a secret fails.

Each runs once per statement of the database, and another one fails each time. No frame shows a secret either: neither one of
this app, nor one of Django's, nor a decorator's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from unittest import mock
from urllib.parse import quote, quote_plus

import pytest
import sentry_sdk
from django.core.management import call_command
from django.test import Client
from django.test.utils import override_settings
from django.urls import reverse
from pytest_django import Settings
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

import partium_auth
from partium_auth import services
from partium_auth.models import ApiKey, Grant, IdentityProvider, Organization
from partium_auth.oidc.client_keys import public_jwk
from partium_auth.partium import authentication, token_response
from partium_auth.services.client_keys import create_client_key
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import manager
from tests.admin.conftest import Tenant, login
from tests.admin.posted_secrets import SECRET, VIEWS, assert_hidden, failing_browser, post
from tests.oidc.conftest import op, provider_server  # noqa: F401
from tests.oidc.provider import CLIENT_SECRET, BendableProvider
from tests.reports import every_failure, frames_that_show

pytestmark = pytest.mark.django_db
PASSWORD = "canary-of-a-password"
Run: TypeAlias = Callable[[], object]


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The envelopes, as text."""
    envelopes: list[str] = []

    class Local(Transport):
        def capture_envelope(self, envelope: Envelope) -> None:
            envelopes.append(envelope.serialize().decode())

    sentry_sdk.init("https://key@sentry.example/1", transport=Local)
    yield envelopes
    sentry_sdk.get_client().close()
    sentry_sdk.init()


@pytest.mark.parametrize("view", VIEWS)
def test_a_posted_secret(
    ours: Tenant,
    root: Any,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
    partium_sandbox: PartiumSandbox,
    view: str,
) -> None:
    response, secret = post(failing_browser(root, monkeypatch), ours, partium_sandbox, view)
    assert_hidden("".join(sent), response, secret)


class Stage:
    """Does what handles a secret, and knows which ones there are."""

    def __init__(self, ours: Tenant, root: Any, op: BendableProvider, sandbox: PartiumSandbox) -> None:  # noqa: F811
        self.ours, self.root, self.op, self.sandbox = ours, root, op, sandbox
        self.organization = Organization.objects.get(pk=ours.organization.pk)
        self.learnt = {CLIENT_SECRET, SECRET, PASSWORD}
        sandbox.add_organization("aardvark")
        sandbox.add_user("ann", PASSWORD, "aardvark")

    @property
    def secrets(self) -> set[str]:
        # The code of a login is in the URL that the browser calls, and so in the request's repr. It is used up by then.
        codes = {form["code"] for form in self.op.forms if "code" in form} | set(self.op.codes)
        verifiers = {form["code_verifier"] for form in self.op.forms if "code_verifier" in form}
        return self.learnt | verifiers | set(self.op.issued) - codes

    def client(self, user: Any = None) -> Client:
        browser = login(user)
        browser.raise_request_exception = False
        return browser

    def key(self) -> str:
        value = self.sandbox.add_key("aardvark")
        self.learnt.add(value)
        return value

    def posted(self, view: str) -> Run:
        def run() -> None:
            self.learnt.add(post(self.client(self.root), self.ours, self.sandbox, view)[1])

        return run

    def find(self) -> Run:
        browser, value = self.client(self.root), self.key()
        return lambda: browser.post(reverse("admin:partium_auth_apikey_find"), {"value": value})

    def stored_key(self) -> ApiKey:
        return services.add_key(self.organization, self.key(), label="new", actor=None, verify=False)

    def verify(self) -> Run:
        browser, key = self.client(self.root), self.stored_key()
        return lambda: browser.post(reverse("admin:partium_auth_apikey_verify"), {"pks": str(key.pk)})

    def verify_key(self) -> Run:
        key = self.stored_key()
        return lambda: services.verify_key(key, actor=None)

    def add_key(self) -> Run:
        value = self.key()
        return lambda: services.add_key(self.organization, value, label="new", actor=self.root)

    def rotate_key(self) -> Run:
        value, key = self.key(), ApiKey.objects.get(pk=self.ours.key.pk)
        return lambda: services.rotate_key(key, value, label="new", actor=self.root)

    def find_by_value(self) -> Run:
        value = self.key()
        return lambda: services.find_by_value(value, actor=self.root)

    def save_provider(self) -> Run:
        row = IdentityProvider(slug="new", display_name="New", issuer="https://new.example", client_id="portal")
        return lambda: services.save_provider(row, actor=self.root, client_secret=SECRET)

    def command_add(self) -> Run:
        return self.command("add", "--organization", "aardvark", "--label", "new")

    def command_rotate(self) -> Run:
        return self.command("rotate", str(self.ours.key.pk))

    def command(self, *arguments: str) -> Run:
        value = self.key()

        def run() -> None:
            with mock.patch("sys.stdin", io.StringIO(value)):
                call_command("partium_keys", *arguments, stdout=io.StringIO())

        return run

    def reencrypt(self) -> Run:
        self.stored_key()
        return lambda: call_command("partium_reencrypt", stdout=io.StringIO())

    def password_login(self) -> Run:
        browser = self.client()
        return lambda: browser.post("/partium/login/", {"username": "ann", "password": PASSWORD})

    def oidc_login(self) -> Run:
        browser = self.client()
        answer = self.op.authorize(browser.get("/partium/login/default/")["Location"])
        return lambda: browser.get("/partium/callback/default/", answer)

    def signed_login(self) -> Run:
        """With ``private_key_jwt``."""
        self.op.metadata = {"token_endpoint_auth_signing_alg_values_supported": ["ES256"]}
        key = create_client_key(None, actor=None)
        private = json.loads(key.private_key.reveal())
        self.learnt.add(private["d"])
        self.op.client_jwks = [public_jwk(key)]
        self.op.client_authentication = "private_key_jwt"
        with override_settings(OIDC_RP_CLIENT_AUTHENTICATION="private_key_jwt"):
            login = self.oidc_login()
        return override_settings(OIDC_RP_CLIENT_AUTHENTICATION="private_key_jwt")(login)

    def form_post(self) -> Run:
        browser = self.client()
        answer = self.op.authorize(browser.get("/partium/login/default/")["Location"])
        self.learnt.add(answer["code"])
        return lambda: browser.post("/partium/callback/default/", {**answer, "partium_same_site": "1"})

    def logged_in_browser(self, login: Run) -> Client:
        browser: Client = login().client  # type: ignore[attr-defined]
        Grant.objects.update(issued_at=1.0)
        return browser

    def logout(self) -> Run:
        browser = self.logged_in_browser(self.oidc_login())
        return lambda: browser.post("/partium/logout/")

    def backchannel_logout(self) -> Run:
        self.logged_in_browser(self.oidc_login())
        token = self.op.logout_token()
        self.learnt.add(token)
        return lambda: self.client().post("/partium/backchannel-logout/default/", {"logout_token": token})

    def oidc_refresh(self) -> Run:
        browser = self.logged_in_browser(self.oidc_login())
        return lambda: browser.post("/partium/token/")

    def password_refresh(self) -> Run:
        browser = self.logged_in_browser(self.password_login())
        return lambda: browser.post("/partium/token/")

    def key_exchange(self) -> Run:
        self.stored_key()
        Organization.objects.filter(pk=self.organization.pk).update(token_source="api_key")
        return lambda: partium_auth.for_organization("aardvark").search(text="fan")

    def search_with_key(self) -> Run:
        self.stored_key()
        Organization.objects.filter(pk=self.organization.pk).update(token_source="api_key_direct")
        return lambda: partium_auth.for_organization("aardvark").search(text="fan")


WAYS: dict[str, Callable[[Stage], Run]] = {
    way.__name__: way
    for way in (
        *(Stage.find, Stage.verify, Stage.verify_key, Stage.add_key, Stage.rotate_key, Stage.find_by_value),
        *(Stage.save_provider, Stage.command_add, Stage.command_rotate, Stage.reencrypt, Stage.password_login),
        *(
            Stage.oidc_login,
            Stage.signed_login,
            Stage.form_post,
            Stage.logout,
            Stage.backchannel_logout,
            Stage.oidc_refresh,
        ),
        *(Stage.password_refresh, Stage.key_exchange, Stage.search_with_key),
    )
}


@pytest.mark.parametrize("way", [*VIEWS, *WAYS])
def test_whatever_fails(
    ours: Tenant,
    root: Any,
    op: BendableProvider,  # noqa: F811
    sent: list[str],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    partium_sandbox: PartiumSandbox,
    way: str,
) -> None:
    stage = Stage(ours, root, op, partium_sandbox)
    settings.PARTIUM_PASSWORD_ORGANIZATION = "aardvark"
    settings.PARTIUM_PASSWORD_ATTEMPTS = 0

    def parse(*args: Any, **kwargs: Any) -> token_response.TokenResponse:
        tokens = token_response.parse_token_response(*args, **kwargs)
        stage.learnt |= {tokens.access_token, tokens.refresh_token or tokens.access_token}
        return tokens

    monkeypatch.setattr(authentication, "parse_token_response", parse)
    monkeypatch.setattr(manager, "PATIENCE_SECONDS", 1.0)
    prepare: Callable[[Stage], Run] = WAYS.get(way) or (lambda stage: stage.posted(way))
    found, failures = set(), 0
    for errors in every_failure(lambda: prepare(stage)):
        failures += len(errors)
        found |= {frame for error in errors for frame in frames_that_show(error, stage.secrets)}
    reported = "".join(sent)
    forms = {
        form
        for secret in stage.secrets
        for form in (secret, quote(secret), quote_plus(secret), json.dumps(secret)[1:-1])
    }
    leaks = {reported[max(0, reported.find(form) - 300) : reported.find(form)] for form in forms if form in reported}
    assert failures
    assert not found, "\n".join(sorted(found))
    assert not leaks, "\n----\n".join(sorted(leaks))
