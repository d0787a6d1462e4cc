"""A process of its own that searches for an organization until its standard input ends.

``python -m tests.services.searcher <organization> <url of the sandbox>`` prints ``ready``, then a line for every search:
``ok``, or the name of the exception.
"""

from __future__ import annotations

import select
import sys


def main() -> None:
    import django

    django.setup()
    from django.conf import settings

    import partium_auth

    organization, settings.PARTIUM_API_URL = sys.argv[1:]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        try:
            partium_auth.for_organization(organization).search(text="fan", limit=1)
            outcome = "ok"
        except Exception as error:  # noqa: BLE001  # every one of them is a failed search
            outcome = f"{type(error).__name__}: {error}"
        sys.stdout.write(f"{outcome}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
