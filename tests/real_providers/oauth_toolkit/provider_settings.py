"""Settings of a provider made with django-oauth-toolkit; ``documented`` is the block of docs/providers.md."""

import os
from importlib import import_module

OAUTH2_PROVIDER = import_module("documented").OAUTH2_PROVIDER
SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "provider_urls"
USE_TZ = True
LOGIN_URL = "/login/"
SESSION_COOKIE_NAME = "provider"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["PROVIDER_DATABASE"],
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
LOGIN_PAGE = (
    "<form method='post'>{% csrf_token %}{{ form }}<input type='hidden' name='next' value='{{ next }}'>"
    "<button>Log in</button></form>"
)
LOADERS = [
    ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_PAGE}),
    "django.template.loaders.app_directories.Loader",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": LOADERS}}]
