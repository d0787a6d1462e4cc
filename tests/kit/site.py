"""A site whose tests use the kit: django-axes first, and a user model with required columns. No migrations: tables are created."""

from tests.settings import *  # noqa: F403
from tests.settings import AUTHENTICATION_BACKENDS as OURS
from tests.settings import DATABASES
from tests.settings import INSTALLED_APPS as APPS
from tests.settings import MIDDLEWARE as ALL

INSTALLED_APPS = ["tests.kit.staff", "axes", *APPS]
AUTH_USER_MODEL = "staff.Employee"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", *OURS]
MIDDLEWARE = [*ALL, "axes.middleware.AxesMiddleware"]
ROOT_URLCONF = "tests.kit.urls"
AXES_ENABLED = True
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": ":memory:"}
