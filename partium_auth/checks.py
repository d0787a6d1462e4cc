"""System checks: what is wrong with a site's settings, and what to do about it.

Servers run no checks, so whatever must not run wrongly (no encryption key, plain http to another machine) also raises
where it is used first.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.urls import NoReverseMatch, Resolver404, get_resolver, get_script_prefix, resolve, reverse

from partium_auth.accounts.enabled import is_oidc_login_enabled
from partium_auth.conf import PREFIX, SETTINGS, conf
from partium_auth.exceptions import EncryptionError
from partium_auth.models.database import database_alias
from partium_auth.oidc import providers
from partium_auth.oidc.metadata import is_secure
from partium_auth.sealed import encryption

MIDDLEWARE = "partium_auth.middleware.PartiumMiddleware"
AUTHENTICATION_MIDDLEWARE = "django.contrib.auth.middleware.AuthenticationMiddleware"
LEGACY_URL_NAMES = ("oidc_authentication_init", "oidc_authentication_callback", "oidc_logout")


@register(Tags.security)
def check_encryption_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001 no usable encryption key; W002 one that is also ``SECRET_KEY``."""
    try:
        encryption.current_encryption_key_id()
    except (EncryptionError, ImproperlyConfigured) as error:
        text = str(error)
        hint = "Run: manage.py partium_generate_encryption_key, and set PARTIUM_ENCRYPTION_KEYS to a list of what it prints."
        return [Error(text, hint=None if "partium_generate_encryption_key" in text else hint, id="partium_auth.E001")]
    values = [entry.partition(":")[2] for entry in conf.encryption_keys]
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if any(value in str(secret) for value in values for secret in secrets):
        return [
            Warning(
                "A key in PARTIUM_ENCRYPTION_KEYS is also in SECRET_KEY: one leak would expose both.",
                hint="Replace it: manage.py partium_generate_encryption_key --help says how.",
                id="partium_auth.W002",
            )
        ]
    return []


@register()
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W003 an unknown ``PARTIUM_…`` name; E004 a value of the wrong type or range; E005 an address that may not be used."""
    found: list[CheckMessage] = []
    for name in sorted(n for n in dir(settings) if n.startswith(PREFIX) and n not in SETTINGS):
        similar = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"Did you mean {similar[0]}?" if similar else "The settings are listed in partium_auth/conf.py."
        found.append(Warning(f"There is no setting {name}.", hint=hint, id="partium_auth.W003"))
    for name, attribute in SETTINGS.items():
        try:
            getattr(conf, attribute)
        except ImproperlyConfigured as error:
            found.append(Error(str(error), hint=f"Correct {name} in the settings.", id="partium_auth.E004"))
    if not any(message.id == "partium_auth.E004" and "API_URL" in message.msg for message in found):
        found += _check_api_url()
    return found


def _check_api_url() -> list[CheckMessage]:
    if re.search(r"[^/]/\d+$", conf.api_url):
        return [
            Error(
                "PARTIUM_API_URL has to be without the version, which the paths begin with.",
                hint='Set PARTIUM_API_URL = "https://api.partium.io".',
                id="partium_auth.E005",
            )
        ]
    if is_secure(conf.api_url):
        return []
    return [
        Error(
            "PARTIUM_API_URL must be an https address without credentials; plain http is allowed to this machine only.",
            hint='Set PARTIUM_API_URL = "https://api.partium.io".',
            id="partium_auth.E005",
        )
    ]


@register()
def check_installation(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W006 no middleware; E007 middleware in the wrong order; W009 parts of the base library; E015 strict cookies."""
    found: list[CheckMessage] = []
    middleware = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        found.append(
            Warning(
                "PartiumMiddleware is not in MIDDLEWARE, so there is no request.partium.",
                hint=f'Add "{MIDDLEWARE}" after AuthenticationMiddleware.',
                id="partium_auth.W006",
            )
        )
    elif AUTHENTICATION_MIDDLEWARE in middleware and middleware.index(MIDDLEWARE) < middleware.index(
        AUTHENTICATION_MIDDLEWARE
    ):
        found.append(
            Error(
                "PartiumMiddleware stands before AuthenticationMiddleware, and so does not know who is logged in.",
                hint=f'Move "{MIDDLEWARE}" behind "{AUTHENTICATION_MIDDLEWARE}".',
                id="partium_auth.E007",
            )
        )
    if settings.SESSION_COOKIE_SAMESITE == "Strict":
        found.append(
            Error(
                "With SESSION_COOKIE_SAMESITE = 'Strict' browsers send no session when a provider sends people back, so "
                "every login is refused.",
                hint="Use 'Lax', Django's default.",
                id="partium_auth.E015",
            )
        )
    replaced = {
        "mozilla_django_oidc.auth.OIDCAuthenticationBackend": "partium_auth.backends.PartiumOIDCBackend",
        "mozilla_django_oidc.middleware.SessionRefresh": MIDDLEWARE,
    }
    found.extend(
        Warning(
            f"{old} is still in the settings, and lets through what partium_auth closes.",
            hint=f'Replace it by "{replaced[old]}".',
            id="partium_auth.W009",
        )
        for old in (*settings.AUTHENTICATION_BACKENDS, *middleware)
        if old in replaced
    )
    return found


@register()
def check_provider(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W017 the settings' provider without the backend that logs people in; W018 without a client id."""
    if providers.is_configured():
        if is_oidc_login_enabled():
            return []
        return [
            Warning(
                "OIDC_RP_CLIENT_ID is set, but nothing in AUTHENTICATION_BACKENDS logs people in at that provider.",
                hint='Add "partium_auth.backends.PartiumOIDCBackend".',
                id="partium_auth.W017",
            )
        ]
    named = [name for name in ("OIDC_OP_DISCOVERY_ENDPOINT", "OIDC_OP_ISSUER") if getattr(settings, name, "")]
    return [
        Warning(
            f"{name} is set, but OIDC_RP_CLIENT_ID is not: nobody can log in at that provider.",
            hint="Set OIDC_RP_CLIENT_ID and OIDC_RP_CLIENT_SECRET to what the provider gave you.",
            id="partium_auth.W018",
        )
        for name in named[:1]
    ]


@register(Tags.urls)
def check_urls(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E008 the app's URLs are not included; W010 views of the base library that are still routed."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found: list[CheckMessage] = []
    try:
        reverse("partium_auth:login")
    except NoReverseMatch:
        found.append(
            Error(
                "partium_auth's URLs are not included.",
                hint='Add path("partium/", include("partium_auth.urls")) to the urlpatterns.',
                id="partium_auth.E008",
            )
        )
    for name in LEGACY_URL_NAMES:
        if name not in get_resolver().reverse_dict:
            continue
        try:
            view = resolve(reverse(name).removeprefix(get_script_prefix().rstrip("/"))).func
        except (NoReverseMatch, Resolver404):
            continue
        module = getattr(getattr(view, "view_class", view), "__module__", "")
        if module.startswith("mozilla_django_oidc."):
            found.append(
                Warning(
                    f"The URL {name} leads to a view of mozilla_django_oidc, which checks less than partium_auth's.",
                    hint='Include "partium_auth.legacy_urls" instead of "mozilla_django_oidc.urls".',
                    id="partium_auth.W010",
                )
            )
    return found


@register()
def check_routers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E016 the app's tables and the site's users are in different databases."""
    users = router.db_for_write(get_user_model())
    found = {router.db_for_write(model) for model in apps.get_app_config("partium_auth").get_models()}
    if found == {users}:
        return []
    return [
        Error(
            f"The user model is in the database {users!r}, partium_auth in {', '.join(map(repr, sorted(found)))}: "
            "foreign keys do not reach from one database into another.",
            hint="Let DATABASE_ROUTERS send partium_auth's models where those of the user model go.",
            id="partium_auth.E016",
        )
    ]


@register(Tags.database)
def check_sqlite(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W013 SQLite whose transactions do not begin by writing; W014 SQLite that every request keeps to itself."""
    alias = database_alias()
    if alias not in (databases or ()) or connections[alias].vendor != "sqlite":
        return []
    found: list[CheckMessage] = []
    if connections[alias].settings_dict.get("ATOMIC_REQUESTS"):
        found.append(
            Warning(
                "ATOMIC_REQUESTS on SQLite: everybody who writes waits while a view waits for Partium, and a POST of a login "
                "whose access token has expired may be answered with 503 once.",
                hint="Put transaction.non_atomic_requests on views that use request.partium, or use PostgreSQL.",
                id="partium_auth.W014",
            )
        )
    options = connections[alias].settings_dict.get("OPTIONS", {})
    if str(options.get("transaction_mode", "")).upper() in {"IMMEDIATE", "EXCLUSIVE"}:
        return found
    return [
        *found,
        Warning(
            "SQLite's transactions begin by reading here, and may then fail with 'database is locked' beside a renewal.",
            hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"} '
            f"for the database {alias!r}.",
            id="partium_auth.W013",
        ),
    ]


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W020 inline renewals; W021 sessions in cookies; W022 unverified TLS; W023 Partium on this machine."""
    found: list[CheckMessage] = []
    if getattr(settings, "PARTIUM_EXECUTOR", "thread") == "inline":
        found.append(
            Warning(
                'PARTIUM_EXECUTOR is "inline": requests wait for renewals, and a roll-back can lose a rotated token.',
                hint="Remove the setting, unless the host cannot have threads.",
                id="partium_auth.W020",
            )
        )
    if settings.SESSION_ENGINE == "django.contrib.sessions.backends.signed_cookies":
        found.append(
            Warning(
                "Sessions are kept in cookies, so a log-out at the identity provider cannot delete them.",
                hint="Use a session engine that stores on the server; until then the next token read ends the session.",
                id="partium_auth.W021",
            )
        )
    if getattr(settings, "OIDC_VERIFY_SSL", True) is not True:
        found.append(
            Warning(
                "OIDC_VERIFY_SSL is off; partium_auth verifies TLS all the same.",
                hint="Remove the setting, and point REQUESTS_CA_BUNDLE to the certificate of a private authority.",
                id="partium_auth.W022",
            )
        )
    if str(getattr(settings, "PARTIUM_API_URL", "")).lower().startswith("http:"):
        found.append(
            Warning(
                "PARTIUM_API_URL is plain http on this machine: the sandbox, or a proxy that adds TLS?",
                hint='For Partium itself: PARTIUM_API_URL = "https://api.partium.io".',
                id="partium_auth.W023",
            )
        )
    return found
