"""Settings of the test suite. ``TEST_DATABASE_URL`` and ``TEST_CACHE_URL`` choose other services than SQLite and memory."""

import os
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import environ

BASE = Path(__file__).resolve().parent
env = environ.Env()

SECRET_KEY = "only for tests"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "mozilla_django_oidc",
    "partium_auth",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "partium_auth.middleware.PartiumMiddleware",
]
AUTHENTICATION_BACKENDS = [
    "partium_auth.backends.PartiumOIDCBackend",
    "partium_auth.backends.PartiumPasswordBackend",
    "django.contrib.auth.backends.ModelBackend",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE / "templates"],
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
LOGIN_URL = "/partium/login/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {"default": env.db_url("TEST_DATABASE_URL", default=f"sqlite:///{BASE / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, not memory: the tests of the token's life use several connections and processes.
    # One file per process, so that two test runs in one checkout do not meet; child processes are told the name.
    DATABASES["default"]["TEST"] = {
        "NAME": os.environ.get("TEST_SQLITE_FILE") or str(Path(gettempdir()) / f"partium_auth-{os.getpid()}.sqlite3")
    }
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
if TEST_DATABASE_NAME := os.environ.get("TEST_DATABASE_NAME"):
    # A child process of a test: the test's own database, which exists already.
    DATABASES["default"]["NAME"] = TEST_DATABASE_NAME

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if TEST_CACHE_URL := os.environ.get("TEST_CACHE_URL"):
    # For hosts that keep their sessions in a cache. Each worker has a database of Redis of its own, counted up from the URL's.
    server, _, number = TEST_CACHE_URL.rpartition("/")
    CACHES["default"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"{server}/{int(number) + WORKER}",
    }

PARTIUM_MAX_WAITING = 1000  # tests/tokens/test_waiting.py is about fewer
PARTIUM_ENCRYPTION_KEYS = ["test:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]

# Where Django reports errors to in tests; without it Django 6.1 warns that there is no default mailer.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
