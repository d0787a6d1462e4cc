"""The demo's site: create the tables and the demo's data, then serve. Run by ``example_project.demo``."""

from __future__ import annotations

import os
import sys

import django
from django.core.management import call_command

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    django.setup()
    call_command("migrate", interactive=False)
    call_command("seed_demo")
    call_command("runserver", sys.argv[1], use_reloader=False)
