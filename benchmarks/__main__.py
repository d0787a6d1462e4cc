"""``python -m benchmarks``: what the app costs, measured on this machine. See ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import os
import platform


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each kind of request (default: 25)")
    parser.add_argument("--requests", type=int, default=400, help="requests per round (default: 400)")
    parser.add_argument("--sessions", type=int, default=100, help="different people's sessions (default: 100)")
    parser.add_argument(
        "--only", choices=["cpu", "throughput", "searches", "expiry", "rows", "admin"], help="one table"
    )
    parser.add_argument("--grants", type=int, default=0, help="measure many rows too: so many grants (1000000)")
    parser.add_argument("--organizations", type=int, default=0, help="measure the key admin too: so many (10000)")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

    import django

    django.setup()
    from django.db import connection

    from benchmarks import administration, cpu, expiry, rows, searches, throughput

    say = print
    say(f"Python {platform.python_version()}, Django {django.get_version()}, {os.cpu_count()} CPUs, {_processor()}")
    say(f"Database: {connection.vendor}\n")
    name = connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        if options.only in {None, "cpu"}:
            cpu.measure(options.rounds, options.requests, options.sessions, say)
            say("")
        if options.only in {None, "throughput"}:
            throughput.measure(3, say)
            say("")
        if options.only in {None, "searches"}:
            searches.measure(options.rounds, say)
            say("")
        if options.only in {None, "expiry"}:
            expiry.measure(say)
        if options.only == "rows" or (options.grants and options.only is None):
            say("")
            rows.measure(options.grants or 1_000_000, say)
        if options.organizations or options.only == "admin":
            say("")
            administration.measure(options.organizations or 10_000, say)
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
