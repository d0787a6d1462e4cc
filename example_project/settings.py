"""Settings of the example project, all of them from the environment (and from ``.env`` beside ``manage.py``).

``.env.example`` explains every variable. What is a secret has no default: a site that forgot one does not start.
"""

from pathlib import Path
from typing import Any

import environ
from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
# The environment overrides the file.
env.read_env(env.str("DJANGO_ENV_FILE", default=str(BASE_DIR / ".env")))


def text_or_none(name: str) -> str | None:
    """A variable's text; None where it is missing or empty."""
    value: str = env.str(name, default="")
    return value or None


# ----------------------------------------------------------------------------------------------------------- Django

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("DJANGO_SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    # First: its templates replace those of the apps below.
    "example_project",
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
    "example_project.middleware.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "partium_auth.middleware.PartiumMiddleware",
]

AUTHENTICATION_BACKENDS = [
    "partium_auth.backends.PartiumOIDCBackend",
    "partium_auth.backends.PartiumPasswordBackend",
    "django.contrib.auth.backends.ModelBackend",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

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

LOGIN_URL = "partium_auth:login"
LOGIN_REDIRECT_URL = "search"
LOGOUT_REDIRECT_URL = "partium_auth:login"

LANGUAGE_CODE = "en"
# Pages are in the one of these that the browser asks for.
LANGUAGES = [("en", _("English")), ("de", _("German"))]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(BASE_DIR / "build" / "static"))

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---------------------------------------------------------------------------------------------- Database and cache

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A token refresh writes on a connection of its own. WAL lets it write while pages are read; IMMEDIATE makes a
    # transaction wait for its turn at its start, where SQLite can wait.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

CACHES = {"default": env.cache_url("CACHE_URL", default="locmemcache://")}

# --------------------------------------------------------------------------------------------------------- Security

if not DEBUG:
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=True)
    SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", default=True)
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    if env.bool("BEHIND_PROXY", default=False):
        # Only behind a proxy that sets this header itself: a visitor who can send it would make http look like https.
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_AGE = env.int("SESSION_COOKIE_AGE", default=12 * 60 * 60)
# JavaScript reads the token of a form on the page, not the cookie.
CSRF_COOKIE_HTTPONLY = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# ---------------------------------------------------------------------------------------------------------- Partium

PARTIUM_API_URL = env.str("PARTIUM_API_URL", default="https://api.partium.io")
PARTIUM_AUTH_PATH = env.str("PARTIUM_AUTH_PATH", default="/1/auth")
PARTIUM_REFRESH_PATH = env.str("PARTIUM_REFRESH_PATH", default="/auth/refresh")
PARTIUM_ENCRYPTION_KEYS = env.list("PARTIUM_ENCRYPTION_KEYS", default=[])
PARTIUM_TIMEOUT = env.float("PARTIUM_TIMEOUT", default=10.0)
PARTIUM_EXECUTOR = env.str("PARTIUM_EXECUTOR", default="thread")
PARTIUM_REFRESH_THREADS = env.int("PARTIUM_REFRESH_THREADS", default=2)
PARTIUM_PASSWORD_ATTEMPTS = env.int("PARTIUM_PASSWORD_ATTEMPTS", default=10)
PARTIUM_MAX_WAITING = env.int("PARTIUM_MAX_WAITING", default=None)
PARTIUM_ORGANIZATIONS_CLAIM = env.str("PARTIUM_ORGANIZATIONS_CLAIM", default="organizations")
PARTIUM_CLAIMS = env.str("PARTIUM_CLAIMS", default="")
PARTIUM_ROLES_CLAIM = env.str("PARTIUM_ROLES_CLAIM", default="roles")
PARTIUM_DEVELOPER_ROLES = env.list("PARTIUM_DEVELOPER_ROLES", default=["developer"])
PARTIUM_STAFF_ROLES = env.list("PARTIUM_STAFF_ROLES", default=[])
PARTIUM_SUPERUSER_ROLES = env.list("PARTIUM_SUPERUSER_ROLES", default=[])
PARTIUM_LINK_BY_VERIFIED_EMAIL = env.bool("PARTIUM_LINK_BY_VERIFIED_EMAIL", default=False)
PARTIUM_PASSWORD_ORGANIZATION = text_or_none("PARTIUM_PASSWORD_ORGANIZATION")
PARTIUM_REAUTHENTICATE_AFTER = (
    env.float("PARTIUM_REAUTHENTICATE_AFTER") if text_or_none("PARTIUM_REAUTHENTICATE_AFTER") else None
)
PARTIUM_FRESH_LOGIN_MINUTES = (
    env.int("PARTIUM_FRESH_LOGIN_MINUTES") if text_or_none("PARTIUM_FRESH_LOGIN_MINUTES") else None
)
PARTIUM_DEVELOPERS_MANAGE_MEMBERS = env.bool("PARTIUM_DEVELOPERS_MANAGE_MEMBERS", default=False)
PARTIUM_NOTICES_BY_EMAIL = env.bool("PARTIUM_NOTICES_BY_EMAIL", default=False)
PARTIUM_FIND_SDK_URL = env.str("PARTIUM_FIND_SDK_URL", default="")
PARTIUM_LANGUAGE = text_or_none("PARTIUM_LANGUAGE")
PARTIUM_ASSUMPTIONS = env.json("PARTIUM_ASSUMPTIONS", default={})
PARTIUM_HEALTH = env.bool("PARTIUM_HEALTH", default=False)

# ----------------------------------------------------------------------- The identity provider (mozilla-django-oidc)

# To the base library an empty setting is not the same as a missing one.
_OIDC_SETTINGS: dict[str, Any] = {
    "OIDC_OP_NAME": env.str,
    "OIDC_OP_DISCOVERY_ENDPOINT": env.str,
    "OIDC_OP_ISSUER": env.str,
    "OIDC_OP_AUTHORIZATION_ENDPOINT": env.str,
    "OIDC_OP_TOKEN_ENDPOINT": env.str,
    "OIDC_OP_USER_ENDPOINT": env.str,
    "OIDC_OP_JWKS_ENDPOINT": env.str,
    "OIDC_OP_END_SESSION_ENDPOINT": env.str,
    "OIDC_OP_REVOCATION_ENDPOINT": env.str,
    "OIDC_OP_PUSHED_AUTHORIZATION_REQUEST_ENDPOINT": env.str,
    "OIDC_RP_CLIENT_AUTHENTICATION": env.str,
    "OIDC_RP_CLIENT_ID": env.str,
    "OIDC_RP_CLIENT_SECRET": env.str,
    "OIDC_RP_SCOPES": env.str,
    "OIDC_RP_SIGN_ALGO": env.list,
    "OIDC_RP_IDP_SIGN_KEY": env.str,
    "OIDC_TOKEN_USE_BASIC_AUTH": env.bool,
    "OIDC_AUTH_REQUEST_EXTRA_PARAMS": env.json,
    "OIDC_REFRESH_TOKENS_REUSABLE": env.bool,
}
for _name, _read in _OIDC_SETTINGS.items():
    if env.str(_name, default=""):
        globals()[_name] = _read(_name)

# ---------------------------------------------------------------------------------------------------------- Logging

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    # Django's own handler would log every line a second time.
    "loggers": {"django": {"handlers": []}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}
