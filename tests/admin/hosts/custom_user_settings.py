from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as APPS

INSTALLED_APPS = ["tests.admin.hosts.people", *APPS]
AUTH_USER_MODEL = "people.Person"
ROOT_URLCONF = "tests.admin.urls"
PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
