"""The site to measure, for gunicorn: with the app's middleware, or without it where ``BENCHMARK_BARE`` is set."""

import os

import django

django.setup()

from benchmarks import settings  # noqa: E402
from benchmarks.people import handler  # noqa: E402

application = handler(settings.BARE_MIDDLEWARE if os.environ.get("BENCHMARK_BARE") else settings.PARTIUM_MIDDLEWARE)
