"""``manage.py partium_notices``: notify developers of API keys that expire soon."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from partium_auth.services.notices import note_expiring_keys


class Command(BaseCommand):
    help = (
        "Notify once of each API key that expires within 30 days: by the signal partium_auth.signals.notice and, with "
        "PARTIUM_NOTICES_BY_EMAIL, by e-mail to the organization's developers. Run it once a day."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        count = note_expiring_keys()
        if count:
            self.stdout.write(f"Notified of {count} API key{'s' * (count != 1)} that will expire soon.")
