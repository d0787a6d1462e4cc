"""A Partium password cannot be guessed as quickly as Partium answers."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY
from django.db import connections
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from partium_auth.checks import check_throttling
from partium_auth.models import LoginAttempts
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import cleanup

PASSWORD = "correct horse"


@pytest.fixture
def ann(partium_sandbox: PartiumSandbox) -> PartiumSandbox:
    partium_sandbox.add_user("ann", PASSWORD, "acme")
    return partium_sandbox


def post(password: str, username: str = "ann", address: str = "192.0.2.1") -> Any:
    client = Client(REMOTE_ADDR=address)
    response: Any = client.post("/partium/login/", {"username": username, "password": password})
    response.logged_in = SESSION_KEY in client.session
    return response


def test_the_eleventh_wrong_password_is_not_sent(ann: PartiumSandbox, db: None) -> None:
    assert [post(f"wrong {n}").status_code for n in range(10)] == [200] * 10
    asked = ann.count(endpoint="auth")
    response = post(PASSWORD)
    assert (response.status_code, response.logged_in) == (429, False)
    assert 0 < int(response.headers["Retry-After"]) <= 300
    page = response.content.decode()
    assert "Too many wrong passwords." in page
    assert "you can try again" in page
    assert ann.count(endpoint="auth") == asked
    assert post(PASSWORD, address="192.0.2.2").logged_in  # the owner, from elsewhere
    LoginAttempts.objects.update(expires_at=timezone.now())
    assert post(PASSWORD).logged_in


def test_right_passwords_and_outages_count_for_nothing(ann: PartiumSandbox, db: None, settings: Settings) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = 2
    assert all(post(PASSWORD).logged_in for _ in range(4))
    assert not LoginAttempts.objects.filter(count__gt=0).exists()


@pytest.mark.parametrize("refusing", [{"OIDC_CREATE_USER": False}, {"PARTIUM_ENCRYPTION_KEYS": []}])
def test_a_right_password_that_is_refused_here_counts_for_nothing(
    ann: PartiumSandbox, db: None, settings: Settings, refusing: dict[str, Any]
) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = 2
    for name, value in refusing.items():
        setattr(settings, name, value)
    responses = [post(PASSWORD) for _ in range(4)]
    assert not any(response.logged_in for response in responses)
    assert {response.status_code for response in responses} & {200, 429} == set()
    assert not LoginAttempts.objects.filter(count__gt=0).exists()


def test_one_address_that_tries_many_names_fills_no_table(ann: PartiumSandbox, db: None, settings: Settings) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = 1
    statuses = [post("x", f"name-{n}").status_code for n in range(15)]
    assert statuses == [200] * 10 + [429] * 5
    assert LoginAttempts.objects.count() == 1 + 2 * 10
    LoginAttempts.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    cleanup.clear(older_than=dt.timedelta(days=30))
    assert not LoginAttempts.objects.exists()


def test_many_addresses_that_try_one_name(ann: PartiumSandbox, db: None, settings: Settings) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = 1
    assert [post("x", address=f"192.0.2.{n}").status_code for n in range(7)] == [200] * 5 + [429] * 2


def test_addresses_of_ipv4_that_a_server_shows_as_ipv6_are_several(
    ann: PartiumSandbox, db: None, settings: Settings
) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = 1
    assert [post("x", address="::ffff:192.0.2.1").status_code for _ in range(2)] == [200, 429]
    assert post("x", "bob", address="::ffff:192.0.2.2").status_code == 200
    assert post(PASSWORD, address="::ffff:192.0.2.2").logged_in


@pytest.mark.django_db(transaction=True)
def test_sixty_guesses_at_once_are_not_more(ann: PartiumSandbox, settings: Settings) -> None:
    def guess(n: int) -> int:
        try:
            return int(post(f"wrong {n}").status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        statuses = list(threads.map(guess, range(60)))
    assert statuses.count(200) <= 10
    assert set(statuses) <= {200, 429, 503}  # 503: too many logins at once, which counts for nothing


@pytest.mark.parametrize(("attempts", "found"), [(0, ["partium_auth.W025"]), (10, [])])
def test_a_check_says_where_nothing_throttles(settings: Settings, attempts: int, found: list[str]) -> None:
    settings.PARTIUM_PASSWORD_ATTEMPTS = attempts
    assert [message.id for message in check_throttling(None)] == found
