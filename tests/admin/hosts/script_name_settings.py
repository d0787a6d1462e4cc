from tests.settings import *  # noqa: F403

FORCE_SCRIPT_NAME = "/portal"
ROOT_URLCONF = "tests.admin.urls"
PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
