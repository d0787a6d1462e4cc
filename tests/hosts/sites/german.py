"""German, with thousands separated in every number; templates of its own."""

from pathlib import Path

from tests.hosts.sites.plain import *  # noqa: F403
from tests.hosts.sites.plain import TEMPLATES

LANGUAGE_CODE = "de"
USE_THOUSAND_SEPARATOR = True
TEMPLATES[0]["DIRS"] = [Path(__file__).parents[1] / "templates", *TEMPLATES[0]["DIRS"]]
