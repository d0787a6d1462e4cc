"""Keys come and go while four processes search: nobody notices, and a revoked key is not used again."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connection

from partium_auth.models import ApiKey, Organization
from partium_auth.services import keys
from partium_auth.testing.sandbox import PartiumSandbox, fingerprint

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
PROCESSES, ROTATIONS = 4, 50
PATIENCE_SECONDS = 60.0


class Searcher:
    def __init__(self, api_url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.services.searcher", "acme", api_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
            },
        )
        self.outcomes: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.outcomes.append(line.strip())
                self._more.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until it has made so many more searches."""
        with self._more:
            wanted = len(self.outcomes) + more
            assert self._more.wait_for(lambda: len(self.outcomes) >= wanted, PATIENCE_SECONDS), "it does not search"

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def acme(partium_sandbox: PartiumSandbox) -> Organization:
    partium_sandbox.settings(rate_limit_per_second=100_000)
    return Organization.objects.create(org_id="acme")


@pytest.fixture
def key(acme: Organization, partium_sandbox: PartiumSandbox) -> ApiKey:
    return keys.add_key(acme, partium_sandbox.add_key("acme"), label="first", actor=None)


@pytest.fixture
def searchers(
    key: ApiKey, acme: Organization, request: pytest.FixtureRequest, partium_sandbox: PartiumSandbox
) -> Iterator[list[Searcher]]:
    acme.token_source = request.param
    acme.save()
    running = [Searcher(partium_sandbox.url) for _ in range(PROCESSES)]
    for searcher in running:
        searcher.wait_for(3)
    yield running
    for searcher in running:
        searcher.stop()


def more(searchers: list[Searcher], searches: int) -> None:
    for searcher in searchers:
        searcher.wait_for(searches)


@pytest.mark.parametrize("searchers", ["api_key", "api_key_direct"], indirect=True)
def test_no_search_fails_and_no_revoked_key_is_used_while_keys_are_rotated(
    searchers: list[Searcher], key: ApiKey, partium_sandbox: PartiumSandbox
) -> None:
    serving, revoked = key, 0
    for n in range(ROTATIONS):
        value = partium_sandbox.add_key("acme")
        serving = keys.rotate_key(serving, value, actor=None, label=str(n), overlap=dt.timedelta(minutes=5))
        if n % 10 == 9:
            more(searchers, 2)
            gone = fingerprint(value)
            used = [call for call in partium_sandbox.calls() if call.credential == gone]
            assert len(used) > 1, "once to verify it, and then to serve"
            keys.revoke_key(serving, actor=None)  # the one before it is still retiring, and takes over
            more(searchers, 2)  # the second of these began after the revocation
            since = time.monotonic()
            more(searchers, 3)
            late = [call for call in partium_sandbox.calls() if call.credential == gone and call.started > since]
            assert late == []
            revoked += 1
            serving = keys.add_key(serving.organization, partium_sandbox.add_key("acme"), label="next", actor=None)
    outcomes = [outcome for searcher in searchers for outcome in searcher.outcomes]
    assert set(outcomes) == {"ready", "ok"}
    assert ApiKey.objects.count() == 1 + ROTATIONS + revoked
