"""The questions that ``manage.py partium_doctor`` asks about a running site, and what to do about each bad answer.

System checks only read the settings. The doctor also asks the database, Partium and the identity providers. It recognizes an
endpoint of Partium by how that rejects a request without credentials. For one search it uses a stored key, as a site does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch
from django.utils import timezone, translation

from partium_auth import clients
from partium_auth.accounts.code_flow import redirect_uri_of
from partium_auth.accounts.enabled_logins import is_oidc_login_enabled, is_password_login_enabled
from partium_auth.accounts.registration import check_urls
from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError, PartiumError, UpstreamError
from partium_auth.host import upstream
from partium_auth.management import reachability
from partium_auth.models import ApiKey, IdentityProvider, Outage
from partium_auth.models.database import are_migrations_applied, database_alias
from partium_auth.oidc import providers
from partium_auth.oidc.provider import WELL_KNOWN, Provider
from partium_auth.sealed import encryption
from partium_auth.services import encryption_keys
from partium_auth.services.provider_check import TIMEOUT_SECONDS, Finding, check_issuer, check_provider
from partium_auth.services.provider_probe import probe_provider

AUTH_PATHS = ("/1/auth", "/auth/")
REFRESH_PATHS = ("/auth/refresh", "/1/auth/refresh")
"""The paths that Partium's own pages name, which contradict each other."""

NO_CREDENTIALS_STATUSES = {400, 401, 422}
"""What an endpoint that takes credentials answers to a request without any."""

LOCALHOST = "localhost"
MAX_REDIRECTS = 20
"""Browsers follow as many."""

ADVICE: Mapping[type[Exception], str] = {
    EncryptionError: "Correct PARTIUM_ENCRYPTION_KEYS.",
    PartiumError: "Check PARTIUM_API_URL, and whether this machine can reach it.",
    ImproperlyConfigured: "Correct this setting.",
    DisallowedHost: "Add the host to ALLOWED_HOSTS.",
    NoReverseMatch: "Correct LOGIN_URL or LOGIN_REDIRECT_URL.",  # as the system check partium_auth.E027 says
    AnyDatabaseError: "Check DATABASES.",
}
"""What to do about an exception that kept a question from being answered; the first that fits counts."""


def examine(*, probe: bool = False, base_url: str = "") -> Iterator[Finding]:
    """Ask every question, one finding at a time. An exception becomes a finding, and the next question is asked.

    Args:
        probe: also send requests with this site's registration to the providers.
        base_url: where people reach the site, such as ``https://parts.example.com``; default: the first of ``ALLOWED_HOSTS``.
    """
    database = replace(_database(), subject="database")
    yield database
    if database.level == "error":
        return
    yield from _answer("encryption", _encryption_keys)
    yield from _answer("partium", _partium_paths)
    yield from _answer("outages", _outages)
    yield from _answer("organizations", reachability.check_organizations)
    yield from _answer("pages", _pages)
    yield from _answer("providers", _ways_to_log_in)
    yield from _answer("people", reachability.check_login_page)
    yield from _answer("login", _login_page)
    yield from _answer("pages of the site", reachability.check_targets)
    yield from _answer("providers", _provider_names)
    if not base_url and _host() == LOCALHOST and is_oidc_login_enabled() and providers.site_wide():
        text = "ALLOWED_HOSTS does not name this site's host, so the URLs to register begin with https://localhost."
        yield Finding("ok", text, "Run: manage.py partium_doctor --base-url https://…", subject="address")
    if providers.is_configured():
        default = partial(_provider, providers.DEFAULT, providers.from_settings, probe, base_url)
        yield from _answer(f"provider {providers.DEFAULT}", default)
    for row in IdentityProvider.objects.filter(is_active=True).order_by("slug"):
        yield from _answer(
            f"provider {row.slug}", partial(_provider, row.slug, partial(providers.from_row, row), probe, base_url)
        )
        yield from _answer(f"provider {row.slug}", partial(check_issuer, row))


def _answer(subject: str, ask: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        for finding in ask():
            yield replace(finding, subject=subject)
    except tuple(ADVICE) as error:
        yield replace(_failure(error), subject=subject)


def _failure(error: Exception) -> Finding:
    advice = next(advice for kind, advice in ADVICE.items() if isinstance(error, kind))
    return Finding("error", str(error) or type(error).__name__, advice)


def _database() -> Finding:
    """Answer: does the database work, and does it have this version's tables?"""
    connection = connections[database_alias()]
    try:
        if not are_migrations_applied():
            text = "The tables of partium_auth are missing, or are those of an older version."
            return Finding("error", text, "Run: manage.py migrate")
    except AnyDatabaseError as error:
        return _failure(error)
    return Finding("ok", f"{connection.vendor} answers, and all tables are there.")


def _encryption_keys() -> Iterator[Finding]:
    """Answer: can every stored secret be opened, and is every configured key needed?"""
    current = encryption.current_encryption_key_id()
    configured = [entry.partition(":")[0] for entry in conf.encryption_keys]
    counts = encryption_keys.counts_by_key()
    yield Finding("ok", f"New secrets are sealed with the key {current!r}.")
    for key_id, count in sorted(counts.items()):
        if not key_id:
            yield Finding(
                "error",
                f"{count} stored values are not sealed.",
                "They were changed outside the app; replace them.",
            )
        elif key_id not in configured:
            yield Finding(
                "error",
                f"{count} stored secrets are sealed with the key {key_id!r}, which is not in PARTIUM_ENCRYPTION_KEYS.",
                "Add the key again, after the first one. If it is lost, see “Changing the encryption key” in the "
                "administration guide.",
            )
        elif key_id != current:
            yield Finding(
                "warning",
                f"{count} stored secrets are sealed with the older key {key_id!r}.",
                "Run: manage.py partium_reencrypt",
            )
        if key_id in configured and not encryption_keys.opens(key_id):
            yield Finding(
                "error",
                f"The key {key_id!r} in PARTIUM_ENCRYPTION_KEYS does not open what was sealed with a key of this name.",
                "Set the value that it had before. If that is lost, see “Changing the encryption key” in the "
                "administration guide.",
            )
    for key_id in configured:
        if key_id != current and not counts[key_id]:
            yield Finding(
                "warning",
                f"The key {key_id!r} opens nothing in the database.",
                "If it is an old key, remove it once no older backup needs it. If it is new, move it to the front.",
            )


def _outages() -> Iterator[Finding]:
    """Answer: which upstream fails, as the site's processes see it?"""
    for outage in Outage.objects.using(database_alias()).order_by("since"):
        since = timezone.localtime(outage.since) if settings.USE_TZ else outage.since
        yield Finding(
            "warning",
            f"{outage.upstream} has failed since {since:%Y-%m-%d %H:%M:%S}, {outage.failures} times in a row. Tokens that are "
            "still valid are served, and nobody is logged out.",
            "Look for 'fails since' in the log (partium_auth.tokens), which has the reason. The site tries again by itself.",
        )


def _partium_paths() -> Iterator[Finding]:
    """Answer: does Partium answer where the settings say?"""
    yield _partium_path("PARTIUM_AUTH_PATH", conf.auth_path, AUTH_PATHS, None)
    yield _partium_path("PARTIUM_REFRESH_PATH", conf.refresh_path, REFRESH_PATHS, {"refresh_token": ""})


def _partium_path(setting: str, configured: str, known: tuple[str, ...], body: Mapping[str, str] | None) -> Finding:
    def status_of(path: str) -> int:
        return upstream.transport().send("POST", conf.api_url + path, json=body, total_seconds=TIMEOUT_SECONDS).status

    status = status_of(configured)
    if status in NO_CREDENTIALS_STATUSES:
        text = f"{setting} {configured!r} is there: it rejects a request without credentials."
        return Finding("ok", text)
    working = [path for path in known if path != configured and status_of(path) in NO_CREDENTIALS_STATUSES]
    return Finding(
        "error",
        f"{setting} {configured!r} answers {status} to a request without credentials.",
        f"Set {setting} = {working[0]!r}." if working else "Check PARTIUM_API_URL, and whether Partium is up.",
    )


def _pages() -> Iterator[Finding]:
    """Answer: do further pages of a search come where PARTIUM_ASSUMPTIONS says? Searches with one organization's key."""
    key = ApiKey.objects.usable().filter(organization__is_active=True).select_related("organization").first()
    if key is None:
        return
    client = clients.for_organization(key.organization)
    first = client.search(text="a", limit=1, projection=["results.id"])
    if not first.parts or not first.session_id:
        yield Finding("ok", "Further pages were not tried: a search for “a” finds nothing.")
        return
    path = client.assumptions.page_path
    try:
        second = client.page(first.session_id, skip=1, limit=1)
    except UpstreamError as error:
        text = f"The second page of a search does not come from {path!r}: {error}"
    else:
        if [part.id for part in second.parts[:1]] != [part.id for part in first.parts]:
            yield Finding("ok", f"The second page of a search is another one than the first: {path!r} is right.")
            return
        text = f"The second page of a search is the first one again: Partium does not read the parameters of {path!r}."
    yield Finding("error", text, 'Correct it: PARTIUM_ASSUMPTIONS = {"page_path": "…"}.')


def _ways_to_log_in() -> Iterator[Finding]:
    """Answer: who logs people in where there is no identity provider?"""
    if providers.is_configured() or IdentityProvider.objects.filter(is_active=True).exists():
        return
    if is_password_login_enabled():
        text = "There is no identity provider: people log in with Partium user name and password."
        yield Finding("ok", text)
        return
    yield Finding(
        "warning",
        "There is no identity provider and no Partium password login: the page of LOGIN_URL "
        f"({settings.LOGIN_URL}) has to log people in.",
        "If that is not intended, set OIDC_OP_DISCOVERY_ENDPOINT, or add PartiumPasswordBackend to AUTHENTICATION_BACKENDS.",
    )


def _login_page() -> Iterator[Finding]:
    """Answer: does LOGIN_URL lead to a page, or to redirects without end?

    ``partium_auth:login`` redirects to ``LOGIN_URL`` where the app itself can log nobody in.
    """
    from django.test import Client  # it calls the site's middleware and views without a server

    url, host = resolve_url(settings.LOGIN_URL), _host()
    client = Client(raise_request_exception=False, SERVER_NAME=host)
    for _redirect in range(MAX_REDIRECTS):
        if urlsplit(url).netloc not in {"", host}:
            return  # another site's page
        with translation.override(translation.get_language()):  # a request leaves its language behind
            response = client.get(url, secure=True)
        if not response.has_header("Location"):
            return
        url = urljoin(url, response["Location"])
    yield Finding(
        "error",
        f"LOGIN_URL ({settings.LOGIN_URL}) redirects in a circle: nobody can log in.",
        "Let LOGIN_URL name a page that logs people in itself, or set up a way to log in through partium_auth:login: "
        "OIDC_OP_DISCOVERY_ENDPOINT, or PartiumPasswordBackend in AUTHENTICATION_BACKENDS.",
    )


def _host() -> str:
    return next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), LOCALHOST)


def _provider_names() -> Iterator[Finding]:
    """Answer: can the provider of the settings be told from those in the database?"""
    if providers.is_configured() and IdentityProvider.objects.filter(slug=providers.DEFAULT).exists():
        yield Finding(
            "error",
            f"A provider in the database is called {providers.DEFAULT!r}, as is the one of the settings: the row's "
            "organization and its activity apply to both.",
            "Rename or delete it; or remove OIDC_RP_CLIENT_ID from the settings.",
        )


def _provider(slug: str, load: Callable[[], Provider], probe: bool, base_url: str) -> Iterator[Finding]:
    """Answer: can people log in through this identity provider, and which URLs are registered there?"""
    from django.test import RequestFactory

    base = urlsplit(base_url or f"https://{_host()}")
    request = RequestFactory(HTTP_HOST=base.netloc).get("/", secure=base.scheme == "https")
    try:
        provider = load()
        yield from check_provider(provider)
        yield from check_urls(request, slug)
        if probe:
            yield from probe_provider(provider, redirect_uri_of(request, slug))
    except (PartiumError, ImproperlyConfigured) as error:
        advice = "Compare issuer and endpoints with the provider's own pages."
        discovery_url = str(getattr(settings, "OIDC_OP_DISCOVERY_ENDPOINT", WELL_KNOWN))
        if slug == providers.DEFAULT and WELL_KNOWN not in discovery_url:
            advice = f"OIDC_OP_DISCOVERY_ENDPOINT is usually the issuer, followed by {WELL_KNOWN}."
        yield Finding("error", str(error), advice)
