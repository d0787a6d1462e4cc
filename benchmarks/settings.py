"""Settings of a small site to measure. ``DATABASE_URL`` and ``REDIS_URL`` choose the services."""

import os
import tempfile
from pathlib import Path

import environ

from benchmarks import others

env = environ.Env()

SECRET_KEY = "only for measuring"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.site"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "mozilla_django_oidc",
    "partium_auth",
    *others.APPS,
]
BARE_MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
PARTIUM_MIDDLEWARE = [*BARE_MIDDLEWARE, "partium_auth.middleware.PartiumMiddleware"]
# allauth does not start without its own.
MIDDLEWARE = [*PARTIUM_MIDDLEWARE, *(["allauth.account.middleware.AccountMiddleware"] if others.HAS_ALLAUTH else [])]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGGING_CONFIG = None

_SQLITE = f"sqlite:///{Path(tempfile.gettempdir()) / 'partium-benchmarks.sqlite3'}"
DATABASES = {"default": {**env.db_url("DATABASE_URL", default=_SQLITE), "CONN_MAX_AGE": None}}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
# What is measured is made anew each time, so it gets a database of its own, and nothing else's is touched.
DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}_bench"}
if name := os.environ.get("BENCHMARK_DATABASE"):
    DATABASES["default"]["NAME"] = name

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
PARTIUM_API_URL = os.environ.get("BENCHMARK_API_URL", "http://127.0.0.1:1")
PARTIUM_ENCRYPTION_KEYS = ["bench:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
