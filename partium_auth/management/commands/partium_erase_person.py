"""``manage.py partium_erase_person``: erase a person's names and addresses in events and ended invitations."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from partium_auth.services import erase_person


class Command(BaseCommand):
    help = (
        "Erase a person's names and addresses in events and in invitations that have ended. The events stay, and one event "
        "records the erasure. The account stays; deleting an account erases by itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", metavar="USER", help="the user name of the person")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        model = get_user_model()
        try:
            person = model._default_manager.get_by_natural_key(user)
        except model.DoesNotExist:
            raise CommandError("There is no such person.") from None
        erased = erase_person(person, actor=None)
        self.stdout.write(
            f"Erased the names and addresses of this person in {erased} "
            f"{'event or invitation' if erased == 1 else 'events or invitations'}."
        )
