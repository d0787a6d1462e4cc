"""``manage.py partium_generate_encryption_key``: make a key for ``PARTIUM_ENCRYPTION_KEYS``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from partium_auth.sealed import encryption


class Command(BaseCommand):
    help = (
        "Print a new encryption key, kid:key, for PARTIUM_ENCRYPTION_KEYS. Works without a configured key and without a "
        "database. To replace a key: add the new one after it and restart every process; move the new one to the front and "
        "restart again; run partium_reencrypt; remove the old key when partium_reencrypt counts no secrets for it."
    )
    # This command makes the first key, so it must run before there is a key or a table.
    requires_system_checks: list[str] = []  # noqa: RUF012  (Django's own declaration)
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(encryption.generate_key())
