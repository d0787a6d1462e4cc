"""A site with django-axes, in a process of its own: its signal receivers would stay connected in the tests' process.

``python -m tests.accounts.axes_site <database file> <Partium URL>`` prints the statuses of five logins as JSON.
"""

from __future__ import annotations

import json
import sys

import django
from django.conf import settings
from django.core.management import call_command

from tests import settings as base


def main(database: str, partium_url: str) -> None:
    values = {name: getattr(base, name) for name in dir(base) if name.isupper()}
    values |= {
        "INSTALLED_APPS": [*base.INSTALLED_APPS, "axes"],
        "AUTHENTICATION_BACKENDS": ["axes.backends.AxesStandaloneBackend", *base.AUTHENTICATION_BACKENDS],
        "MIDDLEWARE": [*base.MIDDLEWARE, "axes.middleware.AxesMiddleware"],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        "PARTIUM_API_URL": partium_url,
        "AXES_FAILURE_LIMIT": 3,
        "AXES_LOCKOUT_PARAMETERS": ["username"],
    }
    settings.configure(**values)
    django.setup()
    call_command("migrate", verbosity=0)

    from django.contrib.auth import SESSION_KEY
    from django.test import Client

    outcomes: list[tuple[int, bool]] = []
    for password in ("wrong", "wrong", "wrong", "correct", "correct"):
        client = Client()
        username = "bob" if len(outcomes) == 4 else "ann"
        response = client.post("/partium/login/", {"username": username, "password": password})
        outcomes.append((response.status_code, SESSION_KEY in client.session))
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
