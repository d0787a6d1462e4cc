"""Clocks that differ, jump and step back, and upstreams that take their time: never a token that has expired."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from partium_auth.exceptions import TokenUnavailable
from partium_auth.models import Grant
from partium_auth.partium.token_response import TokenResponse
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import grants, send_credential
from partium_auth.tokens.database_clock import DatabaseClock
from partium_auth.tokens.manager import TokenManager
from tests.tokens.conftest import MovableClock, age, eventually, read

MakeGrant = Callable[[], Grant]
database = pytest.mark.django_db(transaction=True)


@database
def test_the_upstreams_clock_does_not_matter(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    for offset_seconds in (-3600, -10, 10, 3600):
        partium_sandbox.settings(clock_offset_seconds=offset_seconds, token_format="jwt")
        grant = password_grant()
        assert token_manager.obtain(read(grant)).generation == 1
        assert token_manager.obtain(age(grant, 0)).generation == 2


@database
def test_a_token_is_as_old_as_its_request_not_as_its_answer(
    clock: MovableClock, token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    seen = age(grant, 30)
    sent_at = clock()
    with partium_sandbox.hang("refresh") as hang:
        waiting = threading.Thread(target=token_manager.obtain, args=(seen,))
        waiting.start()
        hang.wait_until_met()
        clock.advance(7)
    waiting.join(30)
    eventually(lambda: read(grant).generation == 2)
    grant.refresh_from_db()
    assert grant.issued_at is not None
    assert grant.issued_at < sent_at + 3


@pytest.fixture
def slow(clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have every exchange take so many seconds."""
    exchange = send_credential.send_credential

    def take(seconds: float) -> None:
        def slowly(grant: Grant, before_send: Callable[[], None]) -> TokenResponse:
            tokens = exchange(grant, before_send)
            clock.advance(seconds)
            return tokens

        monkeypatch.setattr(send_credential, "send_credential", slowly)

    return take


@database
def test_an_answer_that_takes_longer_than_its_token_lives_is_not_served(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    slow: Callable[[float], None],
) -> None:
    slow(7)
    grant = password_grant()
    partium_sandbox.settings(lifetime_seconds=8)
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    assert partium_sandbox.count(endpoint="refresh") == 1


@database
def test_an_answer_that_takes_most_of_its_tokens_life_is_served_and_not_asked_for_again(
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
    slow: Callable[[float], None],
) -> None:
    slow(27.5)
    grant = password_grant()
    partium_sandbox.settings(lifetime_seconds=30)
    assert token_manager.obtain(age(grant, 0)).generation == 2
    assert partium_sandbox.count(endpoint="refresh") == 1


@database
def test_a_clock_that_is_set_back_by_hours_has_every_token_refreshed(
    clock: MovableClock, token_manager: TokenManager, password_grant: MakeGrant
) -> None:
    # A token from the future is of unknown age.
    grant = password_grant()
    clock.advance(-3600)
    assert token_manager.obtain(read(grant)).generation == 2
    assert token_manager.obtain(read(grant)).generation == 2


# --- the database's clock ------------------------------------------------------------------------------------------------


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    """This machine's clock."""
    clock = MovableClock()
    monkeypatch.setattr("partium_auth.tokens.database_clock.time", SimpleNamespace(time=clock))
    return clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(20, "20 s ahead of the database's"), (-20, "20 s behind the database's")]
)
def test_a_clock_that_is_off_is_made_up_for_and_named_in_one_warning(
    local: MovableClock, caplog: pytest.LogCaptureFixture, seconds: int, text: str
) -> None:
    clock = DatabaseClock()
    database_seconds = local()
    local.advance(seconds)
    for _ in range(3):
        clock.note(database_seconds, asked_at=local())
    assert clock() == pytest.approx(database_seconds, abs=1)
    assert clock.to_local(clock()) == pytest.approx(local(), abs=1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert text in line


def test_an_answer_of_unknown_age_does_not_set_the_clock(local: MovableClock) -> None:
    """The process was stopped between the question and the answer."""
    clock = DatabaseClock()
    asked_at = database_seconds = local()
    local.advance(30)
    clock.note(database_seconds, asked_at)
    assert clock() == pytest.approx(local(), abs=1)


@database
def test_a_login_is_stored_by_the_databases_clock(
    local: MovableClock, password_grant: MakeGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "database_clock", clock := DatabaseClock())
    local.advance(20)
    grant = password_grant()
    assert clock() == pytest.approx(local() - 20, abs=2)
    assert grant.authenticated_at == pytest.approx(clock(), abs=2)
    assert grant.issued_at == pytest.approx(clock() - 20, abs=2)  # django.utils.timezone has the right time here
