"""``manage.py partium_reencrypt``: seal all secrets with the newest encryption key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from partium_auth.exceptions import EncryptionError
from partium_auth.management.arguments import at_least_one
from partium_auth.sealed import encryption
from partium_auth.services import encryption_keys


class Command(BaseCommand):
    help = (
        "Seal every stored secret with the first key of PARTIUM_ENCRYPTION_KEYS. The site may run meanwhile, and the command "
        "may be interrupted and started again. At the end it counts the secrets of each key; a key without secrets can be "
        "removed from the setting. Exit code 1 if secrets of another key remain."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--batch-size", type=at_least_one, default=encryption_keys.BATCH, help="rows per transaction"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count the secrets of each key")

    def handle(self, *args: Any, batch_size: int, dry_run: bool, verbosity: int, **options: Any) -> None:
        try:
            current = encryption.current_encryption_key_id()
            if not dry_run:
                result = encryption_keys.reseal(
                    actor=None, batch_size=batch_size, progress=self._progress if verbosity else None
                )
                self.stdout.write(f"{result.resealed} secrets sealed anew with {current}.")
                for place in result.failed:
                    self.stderr.write(f"does not open: {place}")
        except EncryptionError as error:
            raise CommandError(str(error)) from None
        left = 0
        for kid, count in sorted(encryption_keys.counts_by_key().items()):
            note = " (seals)" if kid == current else ""
            self.stdout.write(f"{kid or 'not sealed'}: {count}{note}")
            left += 0 if kid == current else count
        if left and not dry_run:
            raise CommandError(
                f"{left} secrets are still under other keys; keep those keys in PARTIUM_ENCRYPTION_KEYS."
            )

    def _progress(self, result: encryption_keys.Resealed) -> None:
        self.stdout.write(f"… {result.resealed} sealed anew")
