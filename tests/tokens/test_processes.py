"""What several processes do to one grant, and what the death of one leaves behind."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from django.db import connection

from partium_auth.exceptions import LoginRequired
from partium_auth.models import Grant
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens import manager
from partium_auth.tokens.manager import TokenManager
from partium_auth.tokens.state import Now
from tests.tokens.conftest import age, ago, eventually, read
from tests.tokens.processes import Child

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]
MakeGrant = Callable[[], Grant]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a refresh for as long as it takes on a busy machine."""
    monkeypatch.setattr(manager, "BRIEF_SECONDS", 30.0)
    monkeypatch.setattr(manager, "PATIENCE_SECONDS", 60.0)


def let_the_lease_run_out(grant: Grant) -> None:
    """What 30 s do."""
    assert Grant.objects.filter(pk=grant.pk, lease_until__gt=Now()).update(lease_until=ago(1))


def test_eight_processes_of_ten_threads_make_one_call(
    password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Its compare-and-swap is guarded twice over, so without one guard this test passes; see
    # test_manager.test_a_reader_that_saw_no_lease_takes_none_from_its_holder and the one after it.
    grant = password_grant()
    age(grant, 0)
    with ExitStack() as stack:
        children = [Child(grant, partium_sandbox.url, threads=10) for _ in range(8)]
        for child in children:
            stack.enter_context(child)
        with partium_sandbox.hang("refresh") as hang:
            for child in children:
                child.go()
            hang.wait_until_met(timeout_seconds=120)
        results = [result for child in children for result in child.said("results")]
    assert results == [{"generation": 2}] * 80
    assert partium_sandbox.count(endpoint="refresh") == 1


def test_clocks_that_differ_by_40_seconds_cause_no_refresh_that_is_not_due(
    password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    """Machines agree on a token's age, whatever their clocks say; tokens live 30 s here."""
    partium_sandbox.settings(lifetime_seconds=30)
    grant = password_grant()
    for seconds_left, generation in ((29, 1), (0, 2), (29, 2)):
        before = time.time()
        with ExitStack() as stack:
            children = [
                stack.enter_context(Child(grant, partium_sandbox.url, threads=5, clock_seconds=clock_seconds))
                for clock_seconds in (-20.0, 0.0, 20.0)
            ]
            age(grant, seconds_left)  # starting them takes a while
            for child in children:
                child.go()
            results = [result for child in children for result in child.said("results")]
        assert results == [{"generation": generation}] * 15
        assert partium_sandbox.count(endpoint="refresh") == generation - 1
        if seconds_left == 0:
            grant.refresh_from_db()
            assert grant.issued_at is not None
            assert before - 2 < grant.issued_at < time.time() + 2


def test_a_holder_killed_before_it_sent_costs_the_rest_of_its_lease(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # A lease expires by itself.
    grant = password_grant()
    seen = age(grant, 120)
    with Child(grant, partium_sandbox.url, stop_at="leased") as child:
        child.go()
        child.said("at")
        child.wait_until_stopped()
        child.kill()
    assert read(grant).busy
    assert not read(grant).outcome_unknown
    assert Grant.objects.filter(pk=grant.pk, lease_until__lte=Now() + dt.timedelta(seconds=30)).exists()
    assert token_manager.obtain(seen).generation == 1  # it still serves, meanwhile
    let_the_lease_run_out(grant)
    assert token_manager.obtain(age(grant, 30)).generation == 2  # at once: nothing was sent, so nothing is in doubt
    assert partium_sandbox.count(endpoint="refresh") == 1


def kill_after_the_answer(grant: Grant, sandbox: PartiumSandbox) -> None:
    with Child(grant, sandbox.url, stop_at="answered") as child:
        child.go()
        child.said("at")
        child.wait_until_stopped()
        child.kill()
    assert sandbox.count(endpoint="refresh", processed=True) == 1
    let_the_lease_run_out(grant)
    assert read(grant).outcome_unknown
    assert read(grant).generation == 1


def test_a_lost_answer_is_asked_for_again_at_once_where_the_upstream_allows_grace(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    partium_sandbox.settings(grace_seconds=60)
    grant = password_grant()
    Grant.objects.filter(pk=grant.pk).update(reusable=True)
    age(grant, 120)
    kill_after_the_answer(grant, partium_sandbox)
    assert token_manager.obtain(age(grant, 30)).generation == 2
    assert partium_sandbox.count(endpoint="refresh") == 2
    assert token_manager.obtain(age(grant, 0)).generation == 3  # and the refresh token that came is a good one


def test_a_lost_answer_of_an_upstream_with_unknown_grace_costs_no_login(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    partium_sandbox.settings(grace_seconds=60)
    grant = password_grant()
    age(grant, 120)
    kill_after_the_answer(grant, partium_sandbox)
    assert token_manager.obtain(age(grant, 30)).generation == 1
    assert token_manager.obtain(age(grant, 0)).generation == 2


def test_a_lost_answer_of_a_strict_upstream_leaves_the_token_to_its_end_and_then_asks_to_log_in_once(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Otherwise the used refresh token is sent while the access token is still good, and the upstream revokes the whole family.
    grant = password_grant()
    age(grant, 120)
    kill_after_the_answer(grant, partium_sandbox)
    for seconds_left in (200, 100, 40, 20):
        assert token_manager.obtain(age(grant, seconds_left)).generation == 1
    eventually(lambda: not token_manager.refreshing)
    assert partium_sandbox.count(endpoint="refresh") == 1
    for _ in range(3):
        with pytest.raises(LoginRequired):
            token_manager.obtain(age(grant, 10))
    assert partium_sandbox.count(endpoint="refresh") == 2  # one last try: there was nothing left to lose


def test_a_holder_stopped_past_its_send_deadline_sends_nothing(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    age(grant, 120)
    with Child(grant, partium_sandbox.url, stop_at="marked", SEND_DEADLINE_SECONDS=3) as child:
        child.go()
        child.said("at")
        child.wait_until_stopped()
        deadline = time.monotonic() + 3.1
        eventually(lambda: time.monotonic() > deadline)
        child.go_on()
        assert child.result() == {"generation": 1}
        eventually(lambda: not read(grant).busy)
    assert partium_sandbox.count(endpoint="refresh") == 0
    assert not read(grant).outcome_unknown
    assert token_manager.obtain(age(grant, 30)).generation == 2  # and the next one need not wait for the lease's end


def test_a_holder_whose_lease_was_taken_over_sends_nothing(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    grant = password_grant()
    age(grant, 120)
    with Child(grant, partium_sandbox.url, stop_at="leased", SEND_DEADLINE_SECONDS=60) as child:
        child.go()
        child.said("at")
        child.wait_until_stopped()
        let_the_lease_run_out(grant)
        with partium_sandbox.hang("refresh") as hang:
            assert token_manager.obtain(age(grant, 120)).generation == 1
            hang.wait_until_met()
            child.go_on()
            assert child.result() == {"generation": 1}
        eventually(lambda: read(grant).generation == 2)
    assert partium_sandbox.count(endpoint="refresh") == 1


def take_over_from_a_paused_holder(
    token_manager: TokenManager, grant: Grant, sandbox: PartiumSandbox
) -> tuple[object, object]:
    """Let a holder pause after its request was carried out, another one refresh, and the first one go on."""
    age(grant, 10)
    with Child(grant, sandbox.url) as child:
        with sandbox.hang("refresh", after_processing=True, times=1) as hang:
            child.go()
            hang.wait_until_met()
            child.stop()
        let_the_lease_run_out(grant)
        try:
            other: object = token_manager.obtain(read(grant)).generation
        except LoginRequired:
            other = "LoginRequired"
        stored = Grant.objects.get(pk=grant.pk)
        child.go_on()
        result = child.result()
    found = Grant.objects.get(pk=grant.pk)
    assert (found.access_token, found.refresh_token) == (stored.access_token, stored.refresh_token)
    assert sandbox.count(endpoint="refresh") == 2
    return other, result.get("generation", result.get("error"))


def test_a_paused_holder_that_comes_back_disturbs_nothing_where_there_is_grace(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Otherwise the late answer replaces the newer tokens.
    partium_sandbox.settings(grace_seconds=60)
    grant = password_grant()
    assert take_over_from_a_paused_holder(token_manager, grant, partium_sandbox) == (2, 2)
    assert read(grant).generation == 2
    assert token_manager.obtain(age(grant, 0)).generation == 3


def test_a_paused_holder_that_comes_back_to_a_strict_upstream_means_one_clean_login(
    token_manager: TokenManager, password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # Otherwise the late answer, whose family is revoked, is stored, and people have to log in a second time.
    grant = password_grant()
    assert take_over_from_a_paused_holder(token_manager, grant, partium_sandbox) == ("LoginRequired", "LoginRequired")
    grant.refresh_from_db()
    assert (grant.generation, grant.refresh_token) == (1, None)


FORK = """
import os, sys, time, uuid, django
django.setup()
from django.conf import settings
from django.db import connections
from partium_auth.host import upstream
from partium_auth.models import Grant
from partium_auth.tokens import lease, manager, state
from partium_auth.tokens.manager import token_manager

settings.PARTIUM_API_URL, *grants = sys.argv[1:]
# The machine may be busy.
upstream.EXCHANGE_SECONDS = lease.LEASE_SECONDS = manager.PATIENCE_SECONDS = 60.0
first, second, third = [uuid.UUID(grant) for grant in grants]
for grant in (first, second):
    assert token_manager.obtain(state.read(grant)).generation == 1
while not all(state.read(grant).sent for grant in (first, second)):
    time.sleep(0.01)
Grant.objects.update(issued_at=0)
under_way = state.read(first)
connections.close_all()
worker = os.fork()
if worker == 0:
    # The threads that refresh the first two grants exist in the master only.
    refreshed = token_manager.obtain(state.read(third)).generation
    os._exit(0 if (refreshed, token_manager.obtain(under_way).generation) == (2, 2) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_workers_of_a_master_that_used_the_app_refresh(
    password_grant: MakeGrant, partium_sandbox: PartiumSandbox
) -> None:
    # If the child used the master's state, it would wait for two threads that it does not have.
    grants = [password_grant() for _ in range(3)]
    for grant in grants:
        age(grant, 120)
    database = str(connection.settings_dict["NAME"])
    with (
        partium_sandbox.hang("refresh") as hang,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORK, partium_sandbox.url, *[str(grant.pk) for grant in grants]],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_DATABASE_NAME": database},
            start_new_session=True,
        ) as master,
    ):
        try:
            hang.wait_until_met(len(grants), timeout_seconds=60)
            hang.release()
            assert master.wait(120) == 0
        finally:
            if master.poll() is None:
                os.killpg(master.pid, signal.SIGKILL)
    assert partium_sandbox.count(endpoint="refresh") == 3
