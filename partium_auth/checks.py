"""System checks: what is wrong with a site's settings, and what to do about it.

Servers run no checks, so whatever is dangerous (no encryption key, plain http to another machine) also raises where it
is first used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, get_resolver, get_script_prefix, resolve, reverse
from django.utils.module_loading import import_string

from partium_auth.accounts.enabled_logins import is_oidc_login_enabled
from partium_auth.conf import PREFIX, SETTINGS, conf
from partium_auth.exceptions import EncryptionError
from partium_auth.host.waiting import FEWEST
from partium_auth.models.database import database_alias
from partium_auth.oidc import providers
from partium_auth.oidc.metadata import is_secure
from partium_auth.sealed import encryption

Configs = Sequence[AppConfig] | None

MIDDLEWARE = "partium_auth.middleware.PartiumMiddleware"
AUTHENTICATION_MIDDLEWARE = "django.contrib.auth.middleware.AuthenticationMiddleware"
REPLACEMENTS = {
    "mozilla_django_oidc.auth.OIDCAuthenticationBackend": "partium_auth.backends.PartiumOIDCBackend",
    "mozilla_django_oidc.middleware.SessionRefresh": MIDDLEWARE,
}
"""Parts of the base library that must not stay in the settings, and what replaces each."""
PSYCOPG_POOL_SIZE = 4
"""How many connections psycopg_pool has if its options name no size."""
UNCALLED_METHODS = (
    *("get_token", "raise_token_response_error", "get_userinfo", "verify_token", "get_payload_data", "_verify_jws"),
    *("retrieve_matching_jwk", "store_tokens", "get_or_create_user", "describe_user_by_claims"),
)
"""Methods of the base library's backend that nothing calls any more: the protocol is done before the backend is asked."""
UNREAD_SETTINGS: Mapping[str, tuple[Any, str]] = {
    "OIDC_CALLBACK_CLASS": (None, "Override a hook of the backend, or receive Django's user_logged_in signal."),
    "OIDC_AUTHENTICATE_CLASS": (None, "Set OIDC_AUTH_REQUEST_EXTRA_PARAMS, or link to partium_auth:oidc_login."),
    "OIDC_PROXY": (None, "Set the environment variable HTTPS_PROXY, and remove the setting."),
    "OIDC_TIMEOUT": (None, "Remove it: every call has a total deadline."),
    "OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS": (
        None,
        "Set PARTIUM_REAUTHENTICATE_AFTER, and remove it; partium_auth.middleware.RecentLoginMiddleware checks every page.",
    ),
    "OIDC_EXEMPT_URLS": (None, "Remove it: no page is redirected but those that ask for a token or an organization."),
    "OIDC_MAX_STATES": (None, "Remove it: every tab keeps its own started login."),
    "OIDC_STATE_SIZE": (None, "Remove it: the size is fixed."),
    "OIDC_NONCE_SIZE": (None, "Remove it: the size is fixed."),
    "OIDC_PKCE_CODE_VERIFIER_SIZE": (None, "Remove it: the size is fixed."),
    "OIDC_PKCE_CODE_CHALLENGE_METHOD": ("S256", "Remove it: PKCE with S256 is always used."),
    "OIDC_USE_PKCE": (True, "Remove it: PKCE with S256 is always used."),
    "OIDC_USE_NONCE": (True, "Remove it: a nonce is always used."),
    "OIDC_ALLOW_UNSECURED_JWT": (False, "Remove it: an ID token without a signature is always refused."),
    "ALLOW_LOGOUT_GET_METHOD": (False, "Log out by a form with POST, and remove it."),
}
"""Settings of the base library that are not read: the value that says what happens anyway, and what to do about any other."""
LEGACY_URL_NAMES = ("oidc_authentication_init", "oidc_authentication_callback", "oidc_logout")


def _error(number: str, text: str, hint: str | None) -> Error:
    return Error(text, hint=hint, id=f"partium_auth.{number}")


def _warning(number: str, text: str, hint: str) -> Warning:
    return Warning(text, hint=hint, id=f"partium_auth.{number}")


@register(Tags.security)
def check_encryption_keys(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E001 no usable encryption key; W002 an encryption key that is also ``SECRET_KEY``."""
    try:
        encryption.current_encryption_key_id()
    except (EncryptionError, ImproperlyConfigured) as error:
        text = str(error)
        hint = "Run: manage.py partium_generate_encryption_key, and set PARTIUM_ENCRYPTION_KEYS to a list of what it prints."
        yield _error("E001", text, None if "partium_generate_encryption_key" in text else hint)
        return
    keys = [entry.partition(":")[2] for entry in conf.encryption_keys]
    if any(key in str(secret) for key in keys for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)):
        yield _warning(
            "W002",
            "A key in PARTIUM_ENCRYPTION_KEYS is also in SECRET_KEY: one leak would expose both.",
            "Replace it: manage.py partium_generate_encryption_key --help says how.",
        )


@register()
def check_setting_names(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W003 an unknown ``PARTIUM_…`` name."""
    for name in sorted(n for n in dir(settings) if n.startswith(PREFIX) and n not in SETTINGS):
        similar = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"Did you mean {similar[0]}?" if similar else "The settings are listed in partium_auth/conf.py."
        yield _warning("W003", f"There is no setting {name}.", hint)


@register()
def check_setting_values(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E004 a setting of the wrong type or range."""
    for name, attribute in SETTINGS.items():
        try:
            getattr(conf, attribute)
        except ImproperlyConfigured as error:
            yield _error("E004", str(error), f"Correct {name} in the settings, or remove it.")
    if providers.is_configured():
        try:
            providers.from_settings()
        except ImproperlyConfigured as error:
            yield _error("E004", str(error), "Correct it in the settings, or remove it.")


@register()
def check_api_url(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E005 an address of Partium that may not be used."""
    hint = 'Set PARTIUM_API_URL = "https://api.partium.io".'
    try:
        url = conf.api_url
    except ImproperlyConfigured:
        return  # E004
    if re.search(r"[^/]/\d+$", url):
        yield _error("E005", "PARTIUM_API_URL has to be without the version: the paths begin with it.", hint)
    elif not is_secure(url):
        yield _error(
            "E005",
            "PARTIUM_API_URL must be an https address without credentials; plain http is allowed to this machine only.",
            hint,
        )


@register()
def check_middleware(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W006 ``MIDDLEWARE`` without ``PartiumMiddleware``; E007 ``PartiumMiddleware`` before ``AuthenticationMiddleware``."""
    order = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in order:
        yield _warning(
            "W006",
            "PartiumMiddleware is not in MIDDLEWARE, so there is no request.partium.",
            f'Add "{MIDDLEWARE}" after AuthenticationMiddleware.',
        )
    elif AUTHENTICATION_MIDDLEWARE in order and order.index(MIDDLEWARE) < order.index(AUTHENTICATION_MIDDLEWARE):
        yield _error(
            "E007",
            "PartiumMiddleware is before AuthenticationMiddleware, so it does not know who is logged in.",
            f'Move "{MIDDLEWARE}" after "{AUTHENTICATION_MIDDLEWARE}".',
        )


@register()
def check_session_cookie(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E015 a session cookie that browsers do not send when a provider redirects to this site."""
    if settings.SESSION_COOKIE_SAMESITE == "Strict":
        yield _error(
            "E015",
            "With SESSION_COOKIE_SAMESITE = 'Strict' browsers send no session when a provider sends people back, so every "
            "login is refused.",
            "Use 'Lax', Django's default.",
        )


@register()
def check_base_library(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W009 a backend or middleware of the base library in the settings."""
    for old in (*settings.AUTHENTICATION_BACKENDS, *settings.MIDDLEWARE):
        if new := REPLACEMENTS.get(old):
            text = f"{old} is still in the settings; it checks less than partium_auth does."
            yield _warning("W009", text, f'Replace it by "{new}".')


@register()
def check_overridden_methods(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E025 a backend of the site overrides a method that is no longer called."""
    ours = import_string(REPLACEMENTS["mozilla_django_oidc.auth.OIDCAuthenticationBackend"])
    for path in settings.AUTHENTICATION_BACKENDS:
        try:
            backend = import_string(path)
        except ImportError:
            continue  # the login says so
        if not (isinstance(backend, type) and issubclass(backend, ours)):
            continue
        own = [cls for cls in backend.__mro__ if not issubclass(ours, cls)]
        for name in UNCALLED_METHODS:
            if any(name in vars(cls) for cls in own):
                yield _error(
                    "E025",
                    f"{path} overrides {name}(), which is no longer called.",
                    "Remove it. Claims can be read differently with PARTIUM_CLAIMS, accounts with the hooks verify_claims, "
                    "filter_users_by_claims, create_user, update_user and get_username.",
                )


@register()
def check_base_library_settings(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E026 a setting of the base library that is not read, and that asks for something else than what happens anyway."""
    if not is_oidc_login_enabled():
        return  # they may be another package's
    for name, (anyway, hint) in UNREAD_SETTINGS.items():
        if getattr(settings, name, anyway) not in (anyway, None):
            yield _error("E026", f"{name} is set, and has no effect.", hint)


@register(Tags.urls)
def check_base_library_urls(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W010 views of the base library that are still routed."""
    names = LEGACY_URL_NAMES if getattr(settings, "ROOT_URLCONF", None) else ()
    for name in names:
        if name not in get_resolver().reverse_dict:
            continue
        try:
            view = resolve(reverse(name).removeprefix(get_script_prefix().rstrip("/"))).func
        except (NoReverseMatch, Resolver404):
            continue
        if getattr(view, "view_class", view).__module__.startswith("mozilla_django_oidc."):
            yield _warning(
                "W010",
                f"The URL {name} leads to a view of mozilla_django_oidc, which checks less than partium_auth's.",
                'Include "partium_auth.legacy_urls" instead of "mozilla_django_oidc.urls".',
            )


@register(Tags.urls)
def check_urls(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E008 the app's URLs are not included."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    try:
        reverse("partium_auth:login")
    except NoReverseMatch:
        yield _error(
            "E008",
            "partium_auth's URLs are not included.",
            'Add path("partium/", include("partium_auth.urls")) to the urlpatterns.',
        )


@register(Tags.urls)
def check_targets(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E027 a setting that names a page names none."""
    for name in ("LOGIN_URL", "LOGIN_REDIRECT_URL", "LOGOUT_REDIRECT_URL"):
        target = getattr(settings, name)
        try:
            found = not target or resolve_url(target).startswith(("/", "https://", "http://"))
        except NoReverseMatch:
            found = False
        if not found:
            yield _error(
                "E027",
                f"{name} ({target}) is no name of a URL, and no path that begins with a slash.",
                f'Write {name} = "partium_auth:login".' if name == "LOGIN_URL" else f'Write {name} = "/", for example.',
            )


@register()
def check_provider(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W017 the settings' provider without the backend that logs people in; W018 the settings' provider without a client id."""
    if providers.is_configured():
        if not is_oidc_login_enabled():
            yield _warning(
                "W017",
                "OIDC_RP_CLIENT_ID is set, but no backend in AUTHENTICATION_BACKENDS logs people in at that provider.",
                'Add "partium_auth.backends.PartiumOIDCBackend".',
            )
        return
    for name in ("OIDC_OP_DISCOVERY_ENDPOINT", "OIDC_OP_ISSUER"):
        if getattr(settings, name, ""):
            yield _warning(
                "W018",
                f"{name} is set, but OIDC_RP_CLIENT_ID is not: nobody can log in at that provider.",
                "Set OIDC_RP_CLIENT_ID and OIDC_RP_CLIENT_SECRET to what the provider gave you.",
            )
            return


@register(Tags.security)
def check_throttling(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W025 nothing limits how often a Partium password can be tried."""
    backends = settings.AUTHENTICATION_BACKENDS
    has_password_login = "partium_auth.backends.PartiumPasswordBackend" in backends
    has_own = any(backend.startswith("axes.") for backend in backends)
    if has_password_login and not has_own and getattr(settings, "PARTIUM_PASSWORD_ATTEMPTS", 1) == 0:
        yield _warning(
            "W025",
            "PARTIUM_PASSWORD_ATTEMPTS is 0 and no backend throttles: passwords can be guessed as quickly as Partium answers.",
            "Remove the setting, or add a throttle such as django-axes.",
        )


@register()
def check_routers(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """E016 the app's tables and the site's users are in different databases."""
    users = router.db_for_write(get_user_model())
    ours = {router.db_for_write(model) for model in apps.get_app_config("partium_auth").get_models()}
    if ours != {users}:
        yield _error(
            "E016",
            f"The user model is in the database {users!r}, partium_auth in {', '.join(map(repr, sorted(ours)))}: a foreign "
            "key cannot point into another database.",
            "Let DATABASE_ROUTERS send partium_auth's models to the user model's database.",
        )


@register(Tags.database)
def check_sqlite(app_configs: Configs, databases: Sequence[str] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W013 SQLite whose transactions begin with a read lock; W014 SQLite that every request locks."""
    alias = database_alias()
    if alias not in (databases or ()) or connections[alias].vendor != "sqlite":
        return
    database = connections[alias].settings_dict
    if database.get("ATOMIC_REQUESTS"):
        yield _warning(
            "W014",
            "ATOMIC_REQUESTS on SQLite: while a view waits for Partium, nobody else can write, and a POST whose access token "
            "has expired may be answered with 503 once.",
            "Put transaction.non_atomic_requests on views that use request.partium, or use PostgreSQL.",
        )
    if str(database.get("OPTIONS", {}).get("transaction_mode", "")).upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        yield _warning(
            "W013",
            "SQLite's transactions begin with a read lock here, so beside a token refresh they may fail with "
            "'database is locked'.",
            'Set OPTIONS = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"} '
            f"for the database {alias!r}.",
        )


@register()
def check_connection_pool(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W024 Django's connection pool is so small that callers who wait for a token keep the refresh from its connection."""
    alias = database_alias()
    pool = connections[alias].settings_dict.get("OPTIONS", {}).get("pool") if alias in settings.DATABASES else None
    if not pool:
        return
    try:
        needed = (conf.max_waiting or FEWEST) + conf.refresh_threads + 2
    except ImproperlyConfigured:
        return  # E004
    options = pool if isinstance(pool, dict) else {}
    size = options.get("max_size") or options.get("min_size", PSYCOPG_POOL_SIZE)
    if size < needed:
        yield _warning(
            "W024",
            f"The connection pool of the database {alias!r} has {size} connections. Requests that wait for a token can occupy "
            "all of them, and the refresh that they wait for needs one, too.",
            f'Set OPTIONS = {{"pool": {{"max_size": {needed}}}}} or more for the database {alias!r}: PARTIUM_MAX_WAITING + '
            "PARTIUM_REFRESH_THREADS + 2, or the number of the server's threads + PARTIUM_REFRESH_THREADS if that is more.",
        )


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Configs, **kwargs: Any) -> Iterator[CheckMessage]:
    """W020 tokens refreshed in requests; W021 sessions in cookies; W022 TLS that is not to be verified; W023 Partium over plain http."""
    if getattr(settings, "PARTIUM_EXECUTOR", "thread") == "inline":
        yield _warning(
            "W020",
            'PARTIUM_EXECUTOR is "inline": requests wait for token refreshes, and a rollback can lose a rotated token.',
            "Remove the setting, unless the host cannot have threads.",
        )
    if settings.SESSION_ENGINE == "django.contrib.sessions.backends.signed_cookies":
        yield _warning(
            "W021",
            "Sessions are stored in cookies, so a log-out at the identity provider cannot delete them.",
            "Use a session engine that stores on the server; until then the next token read ends the session.",
        )
    if getattr(settings, "OIDC_VERIFY_SSL", True) is not True:
        yield _warning(
            "W022",
            "OIDC_VERIFY_SSL is off, and has no effect: partium_auth always verifies TLS.",
            "Remove the setting. For a private authority, set REQUESTS_CA_BUNDLE to the file with its certificate.",
        )
    if str(getattr(settings, "PARTIUM_API_URL", "")).lower().startswith("http:"):
        yield _warning(
            "W023",
            "PARTIUM_API_URL is plain http on this machine: the sandbox, or a proxy that adds TLS?",
            'For Partium itself: PARTIUM_API_URL = "https://api.partium.io".',
        )
