"""``make demo``: run the example site, an identity provider and a Partium sandbox until Ctrl-C.

Everything that the demo writes is in ``.demo``: the logs, the database, the provider's signing key, and ``env`` with the
secrets of the site.

Environment: ``DEMO_PORT`` (8000), ``DEMO_IDP_PORT`` (9000), ``DEMO_SANDBOX_PORT`` (8900), ``DEMO_TOKEN_MINUTES`` (10,
the lifetime of access tokens; 1 to watch a refresh), ``DEMO_DIRECTORY`` (``.demo``), and ``DATABASE_URL`` (SQLite in that
directory).
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from cryptography.fernet import Fernet

from example_project.demo_provider import (
    AUDIENCE,
    CLAIMS_PARAMETER,
    ORGANIZATIONS_CLAIM,
    ROLES_CLAIM,
    read_people,
)
from partium_auth.testing.sandbox import ACME, ACME_PASSWORD, ACME_USERNAME
from partium_auth.testing.sandbox.seed import DEFAULT_SEED

ROOT = Path(__file__).resolve().parent.parent
CALLBACK_PATH = "/partium/callback/default/"
DEFAULT_PORTS = {"DEMO_PORT": 8000, "DEMO_IDP_PORT": 9000, "DEMO_SANDBOX_PORT": 8900}
START_SECONDS = 120.0
STOP_SECONDS = 5.0
TAIL_LINES = 20


class DemoError(Exception):
    """The demo cannot go on; the message is for the person at the terminal."""


@dataclass(frozen=True)
class Service:
    """A process of the demo.

    Args:
        name: for people.
        command: what to run.
        url: answers with less than 500 as soon as the service is up.
        log: the file for its output.
    """

    name: str
    command: tuple[str, ...]
    url: str
    log: Path


def run(services: Sequence[Service], environment: Mapping[str, str], welcome: str) -> None:
    """Start the services, print ``welcome`` when all of them answer, and stop them at SIGINT or SIGTERM.

    The services stay in the process group of the terminal: it sends Ctrl-C, and a hang-up, to them as well.

    Raises:
        DemoError: a service ended, or did not answer within ``START_SECONDS``. The others have been stopped.
    """
    stop_signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stop_signals.append(number))
    running: dict[Service, subprocess.Popen[bytes]] = {}
    waiting = list(services)
    deadline = time.monotonic() + START_SECONDS
    try:
        for service in services:
            running[service] = _start(service, environment)
        while True:
            ended = [service for service, process in running.items() if process.poll() is not None]
            if stop_signals:  # checked after poll(): Ctrl-C ends the services, too
                return
            if ended:
                raise DemoError(_report(ended[0], f"ended with exit code {running[ended[0]].returncode}"))
            if waiting:
                waiting = [service for service in waiting if not _answers(service.url)]
                if not waiting:
                    print(welcome, flush=True)
                elif time.monotonic() > deadline:
                    raise DemoError(_report(waiting[0], f"does not answer at {waiting[0].url}"))
            time.sleep(0.2)
    finally:
        _stop(running.values())


def _start(service: Service, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with service.log.open("wb") as log:
        return subprocess.Popen(
            service.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, allow_redirects=False, timeout=2).status_code < 500
    except requests.RequestException:
        return False


def _report(service: Service, what: str) -> str:
    lines = service.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "\n    ".join([f"The {service.name} {what}. The end of its log, {service.log}:", *lines])


def choose_ports(environment: Mapping[str, str]) -> dict[str, int]:
    """Return the port of every variable in ``DEFAULT_PORTS``.

    Raises:
        DemoError: a port cannot be used; the message has a command that chooses others.
    """
    ports = {variable: int(environment.get(variable) or default) for variable, default in DEFAULT_PORTS.items()}
    unusable = []
    with ExitStack() as held:
        for variable, port in ports.items():
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                unusable.append(variable)
    if unusable:
        raise DemoError(
            f"Ports that cannot be used: {', '.join(f'{ports[variable]} ({variable})' for variable in unusable)}. "
            "Does a demo run already? Choose others, for example:\n\n"
            f"    {' '.join(f'{variable}={ports[variable] + 1}' for variable in unusable)} make demo"
        )
    return ports


def write_secrets(env_file: Path) -> None:
    """Write the secrets of the site, once: the database holds what they have sealed."""
    if not env_file.exists():
        env_file.touch(mode=0o600)
        env_file.write_text(
            f"DJANGO_SECRET_KEY={secrets.token_urlsafe(50)}\n"
            f"PARTIUM_ENCRYPTION_KEYS=demo:{Fernet.generate_key().decode()}\n"
        )


def sandbox_seed(provider_url: str, *, token_minutes: int) -> dict[str, Any]:
    """Return what the sandbox starts with: its usual organizations, and the demo's provider connected to Partium."""
    issuer = {"url": provider_url, "organizations_claim": ORGANIZATIONS_CLAIM, "audience": AUDIENCE}
    return {**DEFAULT_SEED, "issuers": [issuer], "settings": {"lifetime_seconds": token_minutes * 60}}


def _module(name: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *map(str, arguments))


def _services(ports: Mapping[str, int], directory: Path, token_minutes: int) -> tuple[list[Service], dict[str, str]]:
    """Return the demo's processes and their environment; writes what the sandbox starts with."""
    site_port, provider_port, sandbox_port = (ports[variable] for variable in DEFAULT_PORTS)
    provider_url, sandbox_url = f"http://127.0.0.1:{provider_port}", f"http://127.0.0.1:{sandbox_port}"
    discovery_url = f"{provider_url}/.well-known/openid-configuration"
    provider = _module("example_project.demo_provider", "--port", provider_port, "--directory", directory / "provider")
    provider += ("--access-token-minutes", str(token_minutes))
    for host in ("127.0.0.1", "localhost"):
        provider += ("--callback-url", f"http://{host}:{site_port}{CALLBACK_PATH}")
    site = _module("example_project.demo_site", site_port)
    seed_file = directory / "sandbox.json"
    seed_file.write_text(json.dumps(sandbox_seed(provider_url, token_minutes=token_minutes)))
    sandbox = _module("partium_auth.testing.sandbox", "--port", sandbox_port, "--seed-file", seed_file, "--verbose")
    services = [
        Service("provider", provider, discovery_url, directory / "provider.log"),
        Service("sandbox", sandbox, sandbox_url, directory / "sandbox.log"),
        Service("site", site, f"http://127.0.0.1:{site_port}/", directory / "site.log"),
    ]
    environment = {
        "DATABASE_URL": f"sqlite:///{quote(str(directory / 'db.sqlite3'))}",
        **os.environ,
        "DJANGO_ENV_FILE": str(directory / "env"),
        "DEBUG": "1",
        "PARTIUM_API_URL": sandbox_url,
        "PARTIUM_ORGANIZATIONS_CLAIM": ORGANIZATIONS_CLAIM,
        "PARTIUM_ROLES_CLAIM": ROLES_CLAIM,
        "PARTIUM_PASSWORD_ORGANIZATION": ACME,
        "OIDC_OP_NAME": "Demo identity provider",
        "OIDC_OP_DISCOVERY_ENDPOINT": discovery_url,
        "OIDC_RP_CLIENT_ID": "example-site",
        "OIDC_RP_CLIENT_SECRET": secrets.token_urlsafe(32),
        "OIDC_RP_SCOPES": "openid email profile",
        "OIDC_AUTH_REQUEST_EXTRA_PARAMS": json.dumps({"claims": CLAIMS_PARAMETER}),
        "PYTHONUNBUFFERED": "1",  # logs are read while the demo runs
    }
    return services, environment


def _welcome(ports: Mapping[str, int], directory: Path) -> str:
    site, sandbox = (f"http://127.0.0.1:{ports[variable]}" for variable in ("DEMO_PORT", "DEMO_SANDBOX_PORT"))
    demo = read_people()
    people = "\n".join(f"    {one.username:<7}{one.email:<22}{one.description}" for one in demo.people)
    return f"""
The demo is running.

  The site            {site}/
  Its API keys        {site}/keys/     for developers
  Its stock admin     {site}/admin/    for “{demo.operator_username}”, the superuser
  Partium sandbox     {sandbox}/_sandbox/calls    what the site has asked of Partium

  Sign in as (everybody's password is “{demo.password}”):
{people}

  Or with a Partium account: {ACME_USERNAME}, password “{ACME_PASSWORD}”

  Logs are in {directory}. Stop with Ctrl-C."""


def main() -> int:
    """Run the demo until it is stopped. Returns the exit code."""
    os.environ["no_proxy"] = "127.0.0.1,localhost"  # everything is on this machine
    directory = ROOT / os.environ.get("DEMO_DIRECTORY", ".demo")
    token_minutes = int(os.environ.get("DEMO_TOKEN_MINUTES") or 10)
    try:
        ports = choose_ports(os.environ)
        print("Starting the demo …", flush=True)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_secrets(directory / "env")
        services, environment = _services(ports, directory, token_minutes)
        run(services, environment, _welcome(ports, directory))
    except DemoError as error:
        print(f"\n{error}")
        return 1
    print("\nStopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
