"""Looking a site over while it runs: what the system checks cannot see without asking others.

No credential is sent anywhere: Partium's paths are told apart by how they refuse a call without one.
What is found at an identity provider is shown in the admin too, and therefore translated; the rest is for a terminal.
"""

from __future__ import annotations

import dataclasses
import email.utils
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from partium_auth.accounts.enabled import is_password_login_enabled
from partium_auth.conf import conf
from partium_auth.exceptions import PartiumError
from partium_auth.host import upstream
from partium_auth.models import ApiKey, IdentityProvider, Organization
from partium_auth.models.database import database_alias
from partium_auth.oidc import documents, providers
from partium_auth.oidc.metadata import interpret_metadata
from partium_auth.oidc.provider import WELL_KNOWN, Provider
from partium_auth.sealed import encryption
from partium_auth.services import encryption_keys
from partium_auth.services.providers import others_with_issuer

Level = Literal["ok", "warning", "error"]
AUTH_PATHS = ("/1/auth", "/auth/")
REFRESH_PATHS = ("/auth/refresh", "/1/auth/refresh")
_DISCOVERY = "OIDC_OP_DISCOVERY_ENDPOINT"
_CLOCK_TOLERANCE_SECONDS = 10.0
_LOOK_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: ``ok``, ``warning`` or ``error``.
        subject: what, such as ``encryption`` or ``provider acme``.
        text: what was found.
        advice: what to do about it; empty where nothing.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, one finding at a time; what fails becomes a finding, not an exception."""
    try:
        if _lacks_migrations():
            text = "The tables of partium_auth are missing, or those of an older version."
            yield Finding("error", "database", text, "Run: manage.py migrate")
            return
    except AnyDatabaseError as error:
        yield Finding("error", "database", str(error) or type(error).__name__, "Check DATABASES.")
        return
    for look in (_encryption, _database, _partium, _organizations, _providers):
        try:
            yield from look()
        except (PartiumError, ImproperlyConfigured, AnyDatabaseError) as error:
            yield Finding("error", look.__name__.strip("_"), str(error) or type(error).__name__)


def _lacks_migrations() -> bool:
    executor = MigrationExecutor(connections[database_alias()])
    ours = [node for node in executor.loader.graph.leaf_nodes() if node[0] == Organization._meta.app_label]
    return bool(executor.migration_plan(ours))


def _encryption() -> Iterator[Finding]:
    counts = encryption_keys.counts_by_key()
    kids = [entry.partition(":")[0] for entry in conf.encryption_keys]
    current = encryption.current_encryption_key_id()
    yield Finding("ok", "encryption", f"New secrets are sealed with the key {current!r}.")
    for kid, count in sorted(counts.items()):
        if kid not in kids:
            yield Finding(
                "error",
                "encryption",
                f"{count} stored secrets are sealed with the key {kid!r}, which is not in PARTIUM_ENCRYPTION_KEYS."
                if kid
                else f"{count} stored values are not sealed.",
                "Add the key again, behind the first one. If it is lost, see “Changing the encryption key” in the administration guide."
                if kid
                else "They were altered outside the app; replace them.",
            )
        elif kid != current:
            yield Finding(
                "warning",
                "encryption",
                f"{count} stored secrets are sealed with the older key {kid!r}.",
                "Run: manage.py partium_reencrypt",
            )
    for kid in kids:
        if kid != current and not counts[kid]:
            yield Finding(
                "warning",
                "encryption",
                f"The key {kid!r} opens nothing in the database.",
                "If it is an old key, remove it once no older backup needs it. If it is a new one, move it to the front next.",
            )


def _database() -> Iterator[Finding]:
    connection = connections[database_alias()]
    Organization.objects.using(database_alias()).exists()
    yield Finding("ok", "database", f"{connection.vendor} answers.")


# --- Partium ---------------------------------------------------------------------------------------------------------


def _partium() -> Iterator[Finding]:
    yield from _path("PARTIUM_AUTH_PATH", conf.auth_path, AUTH_PATHS, None)
    yield from _path("PARTIUM_REFRESH_PATH", conf.refresh_path, REFRESH_PATHS, {"refresh_token": ""})


def _path(setting: str, configured: str, known: tuple[str, ...], body: Mapping[str, str] | None) -> Iterator[Finding]:
    def status_of(path: str) -> int:
        response = upstream.transport().send("POST", conf.api_url + path, json=body, total_seconds=_LOOK_SECONDS)
        return int(response.status)

    status = status_of(configured)
    if status in {400, 401, 422}:
        yield Finding("ok", "partium", f"{setting} {configured!r} is there: it refuses a call without credentials.")
        return
    working = [path for path in known if path != configured and status_of(path) in {400, 401, 422}]
    yield Finding(
        "error",
        "partium",
        f"{setting} {configured!r} answers {status} to a call without credentials.",
        f"Set {setting} = {working[0]!r}." if working else "Check PARTIUM_API_URL, and whether Partium is up.",
    )


def _organizations() -> Iterator[Finding]:
    if not Organization.objects.filter(is_active=True).exists():
        yield Finding(
            "warning",
            "organizations",
            "There is no organization, so nobody can search.",
            "Add one in the admin, with the id that Partium gave it.",
        )
        return
    by_key = Organization.objects.filter(is_active=True).exclude(token_source=Organization.TokenSource.USER)
    usable = ApiKey.objects.usable().values("organization_id")
    lacking = list(by_key.exclude(pk__in=usable).values_list("org_id", flat=True)[:20])
    if lacking:
        yield Finding(
            "warning",
            "organizations",
            f"No usable API key: {', '.join(lacking)}.",
            "Their developers can add one in the key admin.",
        )
    else:
        yield Finding(
            "ok", "organizations", f"Organizations that use API keys: {by_key.count()}; each has a usable one."
        )


# --- identity providers ------------------------------------------------------------------------------------------------


def _providers() -> Iterator[Finding]:
    found: list[tuple[str, Callable[[], Provider]]] = []
    if providers.is_configured():
        found.append((providers.DEFAULT, providers.from_settings))
        if IdentityProvider.objects.filter(slug=providers.DEFAULT).exists():
            yield Finding(
                "error",
                "providers",
                f"A provider in the database is called {providers.DEFAULT!r}, as the one of the settings is: its organization, "
                "and whether it is active, are taken for that one's.",
                "Rename or delete it; or remove OIDC_RP_CLIENT_ID from the settings.",
            )
    rows = IdentityProvider.objects.filter(is_active=True).order_by("slug")
    found.extend((row.slug, partial(providers.from_row, row)) for row in rows)
    if not found:
        yield _without_providers()
    for slug, load in found:
        try:
            yield from examine_provider(load())
        except (PartiumError, ImproperlyConfigured) as error:
            advice = "Compare issuer and endpoints with the provider's own pages."
            if slug == providers.DEFAULT and WELL_KNOWN not in getattr(settings, _DISCOVERY, WELL_KNOWN):
                advice = f"{_DISCOVERY} is most often the issuer, followed by {WELL_KNOWN}."
            yield Finding("error", f"provider {slug}", str(error), advice)

    for row in rows.exclude(organization=None).defer("client_secret"):
        yield from _shared_issuer(row)


def _without_providers() -> Finding:
    if is_password_login_enabled():
        text = "There is no identity provider: people log in with Partium user name and password."
        return Finding("ok", "providers", text)
    return Finding(
        "warning",
        "providers",
        f"There is no identity provider and no Partium password login: LOGIN_URL ({settings.LOGIN_URL}) has to log people in.",
        "If that is not meant: OIDC_OP_DISCOVERY_ENDPOINT, or PartiumPasswordBackend in AUTHENTICATION_BACKENDS.",
    )


def _shared_issuer(row: IdentityProvider) -> Iterator[Finding]:
    subject = f"provider {row.slug}"
    for name, owner in others_with_issuer(row):
        if owner is None:
            yield Finding(
                "error",
                subject,
                f"It belongs to an organization and has the issuer of something site-wide ({name}): it opens the accounts "
                "of the people who log in there, privileged ones too.",
                "Make one of the two inactive.",
            )
        elif owner != row.organization_id:
            yield Finding(
                "warning",
                subject,
                f"The provider {name} of another organization has the same issuer: whoever logs in through both has one "
                "account, and of memberships by login only that of the last.",
                "If that is not meant, let them log in through one site-wide provider, with memberships by claims.",
            )


def examine_provider(provider: Provider) -> Iterator[Finding]:
    """Ask one provider for its discovery document and keys, and compare them with what is configured.

    Raises:
        PartiumError: what makes logging in impossible.
    """
    subject = f"provider {provider.slug}"
    document: Mapping[str, Any] = {}
    if provider.discovery_url:
        document = documents.fetch(provider.discovery_url)
        yield from _clock(subject, provider.discovery_url)
    metadata = interpret_metadata(provider, document)
    yield Finding("ok", subject, _("The issuer is %s.") % metadata.issuer)
    if metadata.jwks_uri and provider.signing_key is None:
        keys = documents.fetch(metadata.jwks_uri).get("keys")
        usable = (
            [k for k in keys if isinstance(k, dict) and k.get("use") in (None, "sig")] if isinstance(keys, list) else []
        )
        level: Level = "ok" if usable else "error"
        text = ngettext("It publishes %(count)d signing key.", "It publishes %(count)d signing keys.", len(usable))
        yield Finding(level, subject, text % {"count": len(usable)})
    yield from _habits(subject, provider, document)
    if not metadata.end_session_endpoint:
        text = _("It has no end_session_endpoint: logging out here leaves the person logged in there.")
        yield Finding("warning", subject, text)
    if not metadata.revocation_endpoint:
        yield Finding(
            "warning",
            subject,
            _("It has no revocation_endpoint: refresh tokens live on after a log-out, until they expire."),
            _("If it has one all the same, set it by hand (OIDC_OP_REVOCATION_ENDPOINT for the default provider)."),
        )


def _habits(subject: str, provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    # Written as ascii() does: what a provider says could do anything to a terminal.
    algorithms = document.get("id_token_signing_alg_values_supported")
    if isinstance(algorithms, list) and not any(name in algorithms for name in provider.signing_algorithms):
        yield Finding(
            "error",
            subject,
            _("It signs ID tokens with %s, none of which is allowed here.") % ", ".join(map(ascii, algorithms)),
            _("Allow one of them in the provider's signing algorithms (OIDC_RP_SIGN_ALGO for the default provider)."),
        )
    methods = document.get("code_challenge_methods_supported")
    if document and not (isinstance(methods, list) and "S256" in methods):
        yield Finding(
            "warning", subject, _("It does not say that it supports PKCE with S256."), _("It is sent all the same.")
        )
    scopes = document.get("scopes_supported")
    missing = [s for s in provider.scopes.split() if isinstance(scopes, list) and s not in scopes]
    if missing:
        text = _("It does not list these scopes: %s.") % ", ".join(missing)
        yield Finding("warning", subject, text, _("Check the scopes."))
    if isinstance(scopes, list) and "offline_access" in scopes and "offline_access" not in provider.scopes.split():
        yield Finding(
            "warning",
            subject,
            _("It has the scope offline_access, which is not asked for; some give no refresh token without it."),
            _("Add offline_access to the scopes if people have to log in again when their first token expires."),
        )


def _clock(subject: str, url: str) -> Iterator[Finding]:
    started_at = time.time()
    response = upstream.transport().send("GET", url, total_seconds=_LOOK_SECONDS)
    here = (started_at + time.time()) / 2
    try:
        there = email.utils.parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    difference = round(there - here)
    if abs(difference) > _CLOCK_TOLERANCE_SECONDS:
        yield Finding(
            "warning",
            subject,
            _("Its clock differs from this machine's by %d s; ID tokens are refused from 60 s on.") % difference,
            _("Let both follow an NTP server."),
        )
