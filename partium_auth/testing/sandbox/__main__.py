"""``python -m partium_auth.testing.sandbox``: a sandbox in the foreground."""

from __future__ import annotations

import argparse
import errno
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from .partium_sandbox import PartiumSandbox
from .seed import DEFAULT_SEED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m partium_auth.testing.sandbox",
        description="Partium's HTTP API on this machine, for demos and tests. Stops on SIGTERM and Ctrl-C.",
    )
    add = parser.add_argument
    add("--port", type=int, default=8900, help="0 takes a free one (default: %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--public-url", help="how browsers reach the sandbox, if not as its callers do")
    add("--seed-file", type=Path, help="JSON in the form of partium_auth.testing.sandbox.seed.DEFAULT_SEED")
    add("--oidc-issuer", action="append", default=[], metavar="URL", help="accept this provider's tokens; repeatable")
    add("--oidc-organizations", default="", metavar="ID,ID", help="what those tokens open without the claim")
    add("--oidc-claim", default="organizations", metavar="NAME", help="claim with a user's organizations")
    add("--oidc-audience", metavar="AUD", help="audience that those tokens must have (default: any)")
    add("--lifetime", type=float, metavar="SECONDS", help="of access tokens (default: 600)")
    add("--refresh-lifetime", type=float, metavar="SECONDS", help="of refresh tokens (default: 30 days)")
    add("--token-format", choices=("opaque", "jwt"), help="of access tokens (default: opaque)")
    add("--no-rotation", action="store_true", help="refresh tokens stay valid when used")
    add("--grace", type=float, metavar="SECONDS", help="accept the previous refresh token that long (default: 0)")
    add("--rate-limit", type=float, metavar="PER_SECOND", help="Find calls per organization (default: 150)")
    add("--verbose", action="store_true", help="one line per request on standard error")
    return parser


def _seed(options: argparse.Namespace) -> dict[str, Any]:
    """The seed of the file, or the default one, with what the options say."""
    seed = dict(DEFAULT_SEED)
    if options.seed_file is not None:
        seed = json.loads(options.seed_file.read_text(encoding="utf-8"))
        if not isinstance(seed, dict):
            raise ValueError("the seed is not a JSON object")
    given = {
        "lifetime_seconds": options.lifetime,
        "refresh_lifetime_seconds": options.refresh_lifetime,
        "token_format": options.token_format,
        "rotate": False if options.no_rotation else None,
        "grace_seconds": options.grace,
        "rate_limit_per_second": options.rate_limit,
    }
    seed["settings"] = seed.get("settings", {}) | {name: value for name, value in given.items() if value is not None}
    organizations = [name.strip() for name in options.oidc_organizations.split(",") if name.strip()]
    seed["issuers"] = list(seed.get("issuers", ())) + [
        {
            "url": url,
            "organizations": organizations,
            "organizations_claim": options.oidc_claim,
            "audience": options.oidc_audience,
        }
        for url in options.oidc_issuer
    ]
    return seed


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop.

    Returns:
        the exit code: 0 after SIGTERM or SIGINT, 1 where it could not start.
    """
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        sandbox = PartiumSandbox.start(
            options.port,
            host=options.host,
            seed=_seed(options),
            public_url=options.public_url,
            verbose=options.verbose,
        )
    except (OSError, OverflowError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            reason = f"port {options.port} of {options.host} is taken; choose another one with --port."
        print(f"The Partium sandbox did not start: {reason}", file=sys.stderr)  # noqa: T201
        return 1
    with sandbox:
        names = ", ".join(one["org_id"] for one in sandbox.describe()["organizations"])
        print(f"Partium sandbox ready at {sandbox.url} (organizations: {names})", flush=True)  # noqa: T201
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
