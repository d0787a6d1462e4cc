"""Settings of the site under test."""

from __future__ import annotations

import json
import os

SECRET_KEY = "only for measuring"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "chaos.urls"
WSGI_APPLICATION = None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "mozilla_django_oidc",
    "partium_auth",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "partium_auth.middleware.PartiumMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
AUTHENTICATION_BACKENDS = [
    "partium_auth.backends.PartiumPasswordBackend",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_REDIRECT_URL = "/control/"
PARTIUM_PASSWORD_ORGANIZATION = "people"
PARTIUM_API_URL = os.environ.get("CHAOS_API_URL", "http://127.0.0.1:1")
PARTIUM_ENCRYPTION_KEYS = ["chaos:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
globals().update(json.loads(os.environ.get("CHAOS_SETTINGS", "{}")))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "USER": "postgres",
        "NAME": "chaos",
        **json.loads(os.environ.get("CHAOS_DATABASE", "{}")),
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"partium_auth": {"handlers": ["console"], "level": "INFO"}},
}
