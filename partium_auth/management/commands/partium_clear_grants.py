"""``manage.py partium_clear_grants``: delete grants that nobody can use any more."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from partium_auth.management.arguments import at_least_one
from partium_auth.tokens import cleanup

DEFAULT_DAYS = 30


class Command(BaseCommand):
    help = (
        "Delete grants that nobody can use any more: revoked ones, rejected ones that have expired, ones without a session, "
        "and logins that were not refreshed for a long time. Delete expired records of used logout tokens and login states. "
        "Works in small batches. Run it once a day, at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            metavar="DAYS",
            type=at_least_one,
            default=DEFAULT_DAYS,
            help=f"remove logins not refreshed for so many days; must be more than a session lives (default: {DEFAULT_DAYS})",
        )
        parser.add_argument("--batch-size", type=at_least_one, default=1000, help="rows per statement (default: 1000)")
        parser.add_argument("--dry-run", action="store_true", help="only count, remove nothing")

    def handle(self, *args: Any, older_than: int, batch_size: int, dry_run: bool, **options: Any) -> None:
        cleared = cleanup.clear(older_than=dt.timedelta(days=older_than), batch_size=batch_size, dry_run=dry_run)
        self.stdout.write(
            f"{'Would remove' if dry_run else 'Removed'}: "
            f"{cleared.revoked} revoked grants, {cleared.rejected} rejected, {cleared.unused} unused, "
            f"{cleared.without_session} without a session; {cleared.used_tokens} expired logout tokens and login states."
        )
