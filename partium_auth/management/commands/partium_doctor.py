"""``manage.py partium_doctor``: does everything that this site needs work, and what has to be changed?"""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, no_translations

from partium_auth.management import doctor


class Command(BaseCommand):
    """Prints a line for each finding. Exit code 1 if one of them is an error."""

    help = (
        "Examine database, encryption keys, Partium's paths, organizations, login page and identity providers, and say "
        "what to change. Makes one search with a stored key. Exit code 0: everything works; 1: something does not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object per line")
        parser.add_argument(
            "--base-url",
            default="",
            help="where people reach this site, for the URLs to register at a provider; default: the first of ALLOWED_HOSTS",
        )
        parser.add_argument(
            "--probe",
            action="store_true",
            help="also send each provider a made-up code with this site's client secret, and an authorization request with "
            "prompt=none: tells a wrong client, secret or redirect URI without anybody logging in",
        )

    @no_translations
    def handle(self, *args: Any, **options: Any) -> None:
        styles = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        errors = 0
        for finding in doctor.examine(probe=options["probe"], base_url=options["base_url"]):
            errors += finding.level == "error"
            if options["json"]:
                self.stdout.write(json.dumps(dataclasses.asdict(finding)))
                continue
            self.stdout.write(f"{styles[finding.level](f'{finding.level:8}')} {finding.subject}: {finding.text}")
            if finding.advice:
                self.stdout.write(f"         → {finding.advice}")
        if errors:
            raise CommandError(f"Errors: {errors}.", returncode=1)
