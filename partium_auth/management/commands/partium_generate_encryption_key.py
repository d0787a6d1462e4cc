"""``manage.py partium_generate_encryption_key``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from partium_auth.sealed import encryption


class Command(BaseCommand):
    help = (
        "Print a new encryption key, kid:key, for PARTIUM_ENCRYPTION_KEYS. Needs neither a configured key nor a "
        "database. To replace a key: put the new one behind it and restart every process, move it to the front and "
        "restart again, run partium_reencrypt, and remove the old one when that says that nothing is left under it."
    )
    # It is what makes the first key, so it may not ask for one; nor for tables that are not there yet.
    requires_system_checks: list[str] = []  # noqa: RUF012  (Django's own declaration)
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(encryption.generate_key())
