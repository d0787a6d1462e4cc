"""What a site's own hooks can and cannot do, and two first logins at the same moment."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import SESSION_KEY, get_user_model
from django.db import IntegrityError, connections
from django.test import AsyncClient
from django.utils import timezone
from pytest_django import Settings

from partium_auth.accounts import matching
from partium_auth.backends import PartiumOIDCBackend
from partium_auth.models import Grant, Identity, Membership, Organization
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider
from partium_auth.tokens.verified_login import VerifiedLogin
from tests.oidc.conftest import Browser, add_provider
from tests.oidc.provider import BendableProvider, callback_url

pytestmark = pytest.mark.django_db


class Hooks:
    """A backend with hooks that find whom they are told to find."""

    def __init__(self, *found: Any) -> None:
        self.found = list(found)

    def verify_claims(self, claims: Any) -> bool:
        return True

    def filter_users_by_claims(self, claims: Any) -> Any:
        return self.found

    def create_user(self, claims: Any) -> Any:
        return get_user_model().objects.create_user(f"made-{claims['sub']}")

    def update_user(self, user: Any, claims: Any) -> Any:
        return user


def login(organization_id: uuid.UUID | None = None, **claims: Any) -> VerifiedLogin:
    provider = Provider("p", "P", "https://p.example", "client", organization_id=organization_id)
    claims = {"iss": "https://p.example", "sub": "ann", **claims}
    return VerifiedLogin(Grant.Kind.OIDC, claims, None, timezone.now(), provider)


def user(name: str = "bob", **fields: Any) -> Any:
    return get_user_model().objects.create_user(name, **fields)


def test_one_account_that_a_hook_finds_is_connected() -> None:
    bob, verified = user(), login()
    assert matching.record_login(verified, Hooks(bob)) == bob
    assert verified.identity == Identity.objects.get(user=bob)


def test_several_accounts_are_refused() -> None:
    with pytest.raises(Refused, match="several"):
        matching.record_login(login(), Hooks(user("a"), user("b")))


def test_a_deactivated_account_that_a_hook_finds_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        matching.record_login(login(), Hooks(user(is_active=False)))
    assert caught.value.check == "inactive"


def test_an_organizations_provider_is_not_connected_whatever_a_hook_finds(acme: Organization) -> None:
    with pytest.raises(Refused, match="never linked"):
        matching.record_login(login(acme.pk), Hooks(user()))
    assert Identity.objects.count() == 0


def test_hooks_get_the_addresses_of_an_organizations_provider_in_its_own_domains_only(
    acme: Organization, op: BendableProvider
) -> None:
    """Many a site keeps addresses up to date in update_user(); a first login and a later one say the same."""
    add_provider(op, "p", organization=acme).email_domains.create(domain="acme.example")
    given: list[Any] = []

    class Noting(Hooks):
        def create_user(self, claims: Any) -> Any:
            given.append(claims.get("email"))
            return super().create_user(claims)

        def update_user(self, user: Any, claims: Any) -> Any:
            given.append(claims.get("email"))
            return user

    for email in ("chief@host.example", "ann@acme.example", "chief@host.example"):
        matching.record_login(login(acme.pk, email=email, email_verified=True), Noting())
    assert given == [None, "ann@acme.example", None]


def test_a_hook_that_returns_nobody_is_refused_and_leaves_nothing() -> None:
    class Forgetful(Hooks):
        def create_user(self, claims: Any) -> Any:
            super().create_user(claims)

    with pytest.raises(Refused, match="returned nobody"):
        matching.record_login(login(), Forgetful())
    assert get_user_model().objects.count() == 0


def test_whoever_comes_second_of_two_first_logins_finds_what_the_first_has_made() -> None:
    outcomes: list[Any] = [IntegrityError("digest"), "the first one's account"]

    def record() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert matching.retry_on_conflict(record) == "the first one's account"


MEETING = threading.Barrier(2)


class Simultaneous(PartiumOIDCBackend):
    """Two logins, of which neither goes on before the other one has come as far."""

    def verify_claims(self, claims: Any) -> bool:
        MEETING.wait(timeout=20)
        return True


@pytest.mark.django_db(transaction=True)
def test_two_first_logins_at_the_same_moment_make_one_account(op: BendableProvider, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Simultaneous"]
    Organization.objects.create(org_id="acme")

    def come_back(browser: Browser, answer: dict[str, str]) -> int:
        try:
            return int(browser.come_back(answer).status_code)
        finally:
            connections.close_all()

    browsers = [Browser(op), Browser(op)]
    answers = [op.authorize(browser.start(), organizations=["acme"]) for browser in browsers]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(come_back, browsers, answers)) == [302, 302]
    assert get_user_model().objects.count() == Identity.objects.count() == Membership.objects.count() == 1
    assert browsers[0].user == browsers[1].user == get_user_model().objects.get()


def test_a_unique_value_that_stays_taken_is_refused_and_not_a_500() -> None:
    class Clashing(Hooks):
        def create_user(self, claims: Any) -> Any:
            return user("bob")

    user("bob")
    with pytest.raises(Refused, match="unique value"):
        matching.record_login(login(), Clashing())


def test_the_flow_works_in_an_asynchronous_site(op: BendableProvider) -> None:
    async def log_in() -> Any:
        client = AsyncClient()
        start = await client.get("/partium/login/default/")
        answer = op.authorize(start.headers["Location"])
        response = await client.get(callback_url("/partium/callback/default/", answer))
        return response.status_code, await client.asession()

    status, session = async_to_sync(log_in)()
    assert status == 302
    assert SESSION_KEY in session


def test_a_session_that_ended_while_its_login_was_under_way_does_no_harm(
    browser: Browser, op: BendableProvider
) -> None:
    from django.contrib.sessions.models import Session

    browser.log_in()
    answer = op.authorize(browser.start())
    Session.objects.all().delete()
    assert browser.come_back(answer).status_code == 302
    assert browser.user is not None


@pytest.mark.parametrize("transaction", [pytest.param(True, marks=pytest.mark.django_db(transaction=True)), False])
def test_a_copied_cookie_serves_no_second_login(browser: Browser, op: BendableProvider, transaction: bool) -> None:
    answer = op.authorize(browser.start())
    copy = SimpleCookie(browser.client.cookies.output(header="", sep=";"))
    assert browser.come_back(answer).status_code == 302
    again = Browser(op)
    again.client.cookies = copy
    codes = len(op.forms)
    assert again.come_back(answer).status_code == 400
    assert len(op.forms) == codes
    assert again.user is None
