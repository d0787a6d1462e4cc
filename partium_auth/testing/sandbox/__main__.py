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
    add("--seed-file", type=Path, help="JSON in the form of partium_auth.testing.sandbox.seed.DEFAULT_SEED")
    add("--set", action="append", default=[], type=_setting, metavar="NAME=VALUE", help="a setting; repeatable")
    add("--verbose", action="store_true", help="one line per request on standard error")
    return parser


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _seed(options: argparse.Namespace) -> dict[str, Any]:
    """The seed of the file, or the default one, with the settings of the options."""
    seed = dict(DEFAULT_SEED)
    if options.seed_file is not None:
        seed = json.loads(options.seed_file.read_text(encoding="utf-8"))
        if not isinstance(seed, dict):
            raise ValueError("the seed is not a JSON object")
    return seed | {"settings": seed.get("settings", {}) | dict(options.set)}


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
        sandbox = PartiumSandbox.start(options.port, host=options.host, seed=_seed(options), verbose=options.verbose)
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
