"""``manage.py partium_clear_events``: delete old events, and erase the addresses of invitations that ended long ago."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from partium_auth.management.arguments import at_least_one
from partium_auth.services import clear_events


class Command(BaseCommand):
    help = (
        "Delete events that are older than so many days, and erase the addresses of invitations that were accepted or expired "
        "before. Records in an event how many. Run it once a day."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than", metavar="DAYS", type=at_least_one, required=True, help="how many days an event is kept"
        )

    def handle(self, *args: Any, older_than: int, **options: Any) -> None:
        events, invitations = clear_events(older_than_days=older_than, actor=None)
        self.stdout.write(
            f"Deleted {events} event{'s' * (events != 1)}, "
            f"erased the addresses of {invitations} ended invitation{'s' * (invitations != 1)}."
        )
