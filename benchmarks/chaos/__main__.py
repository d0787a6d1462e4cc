"""``make chaos``: one run, at most ten minutes, one row for each thing that breaks. ``docs/reliability.md`` explains the rows.

``--code`` names another checkout of the project, to see what an older version did.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.chaos.load import Answers, Load, all_at_once, get, log_in
from benchmarks.chaos.services import HERE, Postgres, Site, Upstream, temporary_folder

LIFETIME_SECONDS = 30.0
PEOPLE = 40
SHARING = 20
COLUMNS = (
    "",
    "requests",
    "failed",
    "control p50",
    "p99",
    "max",
    "page p99",
    "refreshes",
    "exchanges",
    "early",
    "reused",
    "lost",
)
_SET_UP = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from partium_auth.models import Organization
from partium_auth.services import add_key
Organization.objects.create(org_id="people", display_name="People", token_source="user")
shared = Organization.objects.create(org_id="shared", display_name="Shared", token_source="api_key")
add_key(shared, "key-of-shared-000000000000", label="one", actor=None, verify=False)
"""
_JOIN = """
import sys, django; django.setup()
from django.contrib.auth import get_user_model
from partium_auth.models import Membership, Organization
from django.contrib.sessions.models import Session
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
shared = Organization.objects.get(org_id="shared")
for number in range(int(sys.argv[1])):
    user = get_user_model().objects.create_user(f"sharing-{number}")
    Membership.objects.create(user=user, organization=shared)
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    print(session.session_key)
"""
_EXPIRE = """
import time, django; django.setup()
from partium_auth.models import Grant
Grant.objects.update(issued_at=time.time() - 1000)
"""


class Run:
    """One row: services of its own state, a site started anew, and what was counted."""

    def __init__(
        self, code: Path, folder: Path, postgres: Postgres, upstream: Upstream, database: dict[str, Any]
    ) -> None:
        self.postgres, self.upstream, self.code, self.folder = postgres, upstream, code, folder
        options = {"PORT": postgres.port, **database}
        self.environment = {
            **os.environ,
            "CHAOS_API_URL": upstream.url,
            "CHAOS_DATABASE": json.dumps(options),
            "DJANGO_SETTINGS_MODULE": "chaos.settings",
        }
        self.site = Site(code, folder, self.environment)
        self.before: dict[str, int] = {}
        self.people: list[str] = []
        self.sharing: list[str] = []

    def python(self, program: str, *arguments: str) -> str:
        path = f"{self.code}:{HERE / 'benchmarks'}"
        environment = {**self.environment, "PYTHONPATH": path}
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout

    def log_everybody_in(self) -> None:
        self.people = [log_in(self.site.port, f"person-{number}") for number in range(PEOPLE)]
        keys = self.python(_JOIN, str(SHARING)).split()
        self.sharing = [f"sessionid={key}" for key in keys]

    def worker_of_next(self) -> int:
        return random.choice(self.site.workers())


def quiet(run: Run, load: Load) -> None:
    time.sleep(30)


def valid(run: Run, load: Load) -> None:
    """The requests of the next row, with tokens that are good: what so many requests at once cost by themselves."""
    for _ in range(3):
        all_at_once(run.site.port, (run.people + run.sharing) * 2, "/token/", load.pages)
        time.sleep(3)


def herd(run: Run, load: Load) -> None:
    """Everybody's token has run out, and everybody asks at once; the upstream takes 0.6 s."""
    run.upstream.set(latency_seconds=0.6)
    for _ in range(3):
        run.python(_EXPIRE)
        started_at = time.monotonic()
        all_at_once(run.site.port, (run.people + run.sharing) * 2, "/token/", load.pages)
        _recover(run, load, started_at)
        time.sleep(3)
    run.upstream.set(latency_seconds=0.0)


def killed_during_first_exchange(run: Run, load: Load) -> None:
    """The worker that exchanges an organization's key is killed while the exchange is in flight."""
    run.upstream.set(hang_once=True)
    run.python(_EXPIRE)
    hung = run.upstream.report().get("hung", 0)
    end = time.monotonic() + 20
    while run.upstream.report().get("hung", 0) == hung and time.monotonic() < end:
        time.sleep(0.02)
    port = int(run.upstream.url.rpartition(":")[2])
    for pid in _holders(port, run.site.workers()):
        os.kill(pid, signal.SIGKILL)
    time.sleep(35)


def _holders(port: int, workers: list[int]) -> list[int]:
    """Which workers have a connection to the upstream."""
    wanted = f"0100007F:{port:04X}"
    inodes = {
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[2] == wanted
    }
    found = []
    for pid in workers:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            if target.removeprefix("socket:[").removesuffix("]") in inodes:
                found.append(pid)
                break
    return found


def killed_workers(run: Run, load: Load) -> None:
    for _ in range(8):
        time.sleep(3)
        os.kill(run.worker_of_next(), signal.SIGKILL)
    time.sleep(8)


def stopped_worker(run: Run, load: Load) -> None:
    """One worker stands still for 20 s, leases and all; the kernel still gives it connections, so some requests wait with it."""
    pid = run.worker_of_next()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(20)
    os.kill(pid, signal.SIGCONT)
    time.sleep(10)


def hanging(run: Run, load: Load) -> None:
    """The upstream takes requests and answers none for 45 s: longer than any token lives."""
    run.upstream.set(mode="hang")
    time.sleep(45)
    run.upstream.set(mode="normal")
    _recover(run, load)


def hanging_searches(run: Run, load: Load) -> None:
    """Tokens come as always, but no search is answered for 40 s; ten visitors a second search."""
    run.upstream.set(mode="hang-search")
    with ThreadPoolExecutor(400) as visitors:
        for number in range(400):
            visitors.submit(get, run.site.port, "/search/", run.people[number % PEOPLE])
            time.sleep(0.1)
    run.upstream.set(mode="normal")


def lying(run: Run, load: Load) -> None:
    """A gateway answers in the upstream's place: a page with 200, then a 403 of JSON."""
    for mode in ("html", "403json"):
        run.upstream.set(mode=mode)
        run.python(_EXPIRE)
        time.sleep(15)
    run.upstream.set(mode="normal")
    _recover(run, load)


def postgres_restarts(run: Run, load: Load) -> None:
    for _ in range(2):
        time.sleep(6)
        run.postgres.restart_at_once()
    time.sleep(12)


def pool_of_four(run: Run, load: Load) -> None:
    """Django's connection pool has four connections a worker; the tokens have run out; the upstream takes 0.5 s."""
    run.upstream.set(latency_seconds=0.5)
    for _ in range(3):
        run.python(_EXPIRE)
        all_at_once(run.site.port, run.people, "/token/", load.pages)
        time.sleep(4)
    run.upstream.set(latency_seconds=0.0)


def outage(run: Run, load: Load) -> None:
    """Nobody listens at the upstream for 80 s."""
    run.upstream.down(80)
    run.upstream.wait_until_up()
    _recover(run, load)


def _recover(run: Run, load: Load, started_at: float | None = None) -> None:
    """Ask for each person's page twice a second, one after another, until each was served; note how long that took at most."""
    started_at = started_at or time.monotonic()
    waiting = run.people + run.sharing
    while waiting and time.monotonic() - started_at < 60:
        round_ends_at = time.monotonic() + 0.5
        waiting = [cookie for cookie in waiting if get(run.site.port, "/token/", cookie) not in {"200", "401"}]
        if waiting:
            time.sleep(max(0.0, round_ends_at - time.monotonic()))
    load.recovered_seconds = max(load.recovered_seconds or 0.0, time.monotonic() - started_at)


ROWS: dict[str, tuple[str, Callable[[Run, Load], None]]] = {
    "quiet": ("quiet", quiet),
    "valid": ("everybody at once, tokens valid", valid),
    "herd": ("everybody at once, tokens expired", herd),
    "first-exchange": ("worker killed during a first exchange", killed_during_first_exchange),
    "kill": ("a worker killed every 3 s", killed_workers),
    "stop": ("a worker stopped for 20 s", stopped_worker),
    "hang": ("upstream hangs for 45 s", hanging),
    "search": ("searches hang for 40 s", hanging_searches),
    "lie": ("a gateway lies for 30 s", lying),
    "postgres": ("PostgreSQL restarted twice", postgres_restarts),
    "pool": ("a pool of 4 connections", pool_of_four),
    "outage": ("upstream down for 80 s", outage),
}


def measure(name: str, run: Run) -> list[str]:
    """Make one row of the table."""
    title, break_it = ROWS[name]
    run.log_everybody_in()
    load = Load(run.site.port, run.people + run.sharing)
    time.sleep(2)
    before = run.upstream.report()
    break_it(run, load)
    load.stop()
    after = run.upstream.report()
    counted = {key: after.get(key, 0) - before.get(key, 0) for key in after}
    time.sleep(1)
    statuses = all_at_once(run.site.port, run.people + run.sharing, "/token/", Answers())
    lost = sum(status == "401" for status in statuses)
    failed = sum(count for status, count in load.pages.statuses.items() if status != "200")
    row = [
        title,
        str(sum(load.pages.statuses.values())),
        str(failed),
        *(f"{load.control.percentile(share) * 1000:.0f} ms" for share in (0.5, 0.99, 1.0)),
        f"{load.pages.percentile(0.99) * 1000:.0f} ms",
        *(str(counted.get(key, 0)) for key in ("refresh", "exchange", "early", "reused")),
        str(lost),
    ]
    notes = [f"answers {dict(load.pages.statuses)}", f"undelivered {counted.get('undelivered', 0)}"]
    if load.pages.retry_after:
        notes.append(f"Retry-After {min(load.pages.retry_after)}–{max(load.pages.retry_after)} s")
    if load.recovered_seconds is not None:
        notes.append(f"everybody served {load.recovered_seconds:.1f} s after the return")
    return [*row, "; ".join(notes)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--code", type=Path, default=HERE, help="another checkout of the project (default: this one)")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS), help="some rows")
    parser.add_argument("--keep-log", type=Path, help="where to put the site's log")
    options = parser.parse_args()
    os.chdir(HERE)
    rows = []
    with temporary_folder() as folder:
        postgres = Postgres(folder)
        try:
            for name in options.only:
                upstream = Upstream(LIFETIME_SECONDS)
                database = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 4}}} if name == "pool" else {}
                run = Run(options.code.resolve(), folder, postgres, upstream, database)
                try:
                    run.python(
                        "import django; django.setup()\nfrom django.core.management import call_command\n"
                        "call_command('migrate', verbosity=0); call_command('flush', interactive=False, verbosity=0)"
                    )
                    run.python(_SET_UP)
                    rows.append(measure(name, run))
                finally:
                    run.site.stop()
                    upstream.stop()
                print(f"{rows[-1][0]}: {rows[-1][-1]}", flush=True)
        finally:
            postgres.stop()
            if options.keep_log and (folder / "site.log").exists():
                options.keep_log.write_bytes((folder / "site.log").read_bytes())
    print()
    widths = [max(len(row[n]) for row in [list(COLUMNS), *[r[:-1] for r in rows]]) for n in range(len(COLUMNS))]
    for row in [list(COLUMNS), *[r[:-1] for r in rows]]:
        print(
            "  ".join(
                value.ljust(width) if n == 0 else value.rjust(width)
                for n, (value, width) in enumerate(zip(row, widths, strict=True))
            )
        )


if __name__ == "__main__":
    main()
