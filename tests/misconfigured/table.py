"""What is wrong with a site → which check, or which line of ``partium_doctor``, names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.db.migrations.recorder import MigrationRecorder

from partium_auth import services
from partium_auth.models import IdentityProvider, Organization
from partium_auth.sealed import encryption
from tests.misconfigured import site as sites
from tests.misconfigured.site import Site
from tests.oidc.conftest import add_provider
from tests.oidc.provider import Answer

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
OIDC_BACKEND = "partium_auth.backends.PartiumOIDCBackend"
PASSWORD_BACKEND = "partium_auth.backends.PartiumPasswordBackend"
SOURCE = Organization.TokenSource


class Row(NamedTuple):
    """One mistake.

    Args:
        what: is wrong.
        mistake: makes it.
        where: the id of a check, or the subject of a line of the doctor.
        text: what the check or line says, in part; it may name what to write instead.
    """

    what: str
    mistake: Callable[[Site], Any]
    where: str
    text: str


def _set(**values: Any) -> Callable[[Site], Any]:
    return lambda site: site.set(**values)


def _without_middleware(site: Site) -> None:
    site.set(MIDDLEWARE=[one for one in site.settings.MIDDLEWARE if "partium" not in one])


def _middleware_first(site: Site) -> None:
    site.set(MIDDLEWARE=["partium_auth.middleware.PartiumMiddleware", *site.settings.MIDDLEWARE[:-1]])


def _other_key_material(site: Site) -> None:
    key_id = site.settings.PARTIUM_ENCRYPTION_KEYS[0].partition(":")[0]
    site.set(PARTIUM_ENCRYPTION_KEYS=[f"{key_id}:{encryption.generate_key().partition(':')[2]}"])


def _people_with_their_own_logins(site: Site) -> None:
    site.without_our_logins()
    Organization.objects.update(token_source=SOURCE.USER)


def _only_organizations_providers(site: Site) -> None:
    site.without_provider()
    site.set(AUTHENTICATION_BACKENDS=[OIDC_BACKEND, MODEL_BACKEND])
    add_provider(site.provider, "acme-sso", organization=site.organization)


def _provider_row_without_backend(site: Site) -> None:
    site.without_our_logins()
    add_provider(site.provider, "acme-sso", organization=site.organization)


def _inactive_required_provider(site: Site) -> None:
    row = add_provider(site.provider, "acme-sso", organization=site.organization)
    Organization.objects.update(required_provider=row)
    IdentityProvider.objects.update(is_active=False)


def _second_organization(site: Site) -> None:
    site.without_our_logins()
    Organization.objects.create(org_id="globex", token_source=SOURCE.API_KEY)


def _nobody_active(site: Site) -> None:
    site.without_our_logins()
    site.person.user.is_active = False
    site.person.user.save()


def _without_secret(site: Site) -> None:
    del site.settings.OIDC_RP_CLIENT_SECRET
    site.provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"]}


def _unregistered(site: Site) -> None:
    site.provider.answers["/authorize"] = Answer(400, {"error": "invalid_redirect_uri"})
    site.provider.response_headers.clear()


def _without_key(site: Site) -> None:
    services.revoke_key(site.key, actor=None)


def _not_migrated(site: Site) -> None:
    site.monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda self: {})


def _circle(site: Site) -> None:
    site.without_our_logins()
    site.set(LOGIN_URL="/back/")


CHECKS = (
    Row(
        "no encryption key", _set(PARTIUM_ENCRYPTION_KEYS=[]), "E001", "Run: manage.py partium_generate_encryption_key"
    ),
    Row("a password for a key", _set(PARTIUM_ENCRYPTION_KEYS=["k:secret"]), "E001", "partium_generate_encryption_key"),
    Row("SECRET_KEY for a key", _set(SECRET_KEY="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="), "W002", "SECRET_KEY"),
    Row("a typing error", _set(PARTIUM_PASWORD_ORGANIZATION="acme"), "W003", "mean PARTIUM_PASSWORD_ORGANIZATION?"),
    Row("a number from os.environ", _set(PARTIUM_TIMEOUT="10"), "E004", "PARTIUM_TIMEOUT must be a number of seconds"),
    Row("a switch from os.environ", _set(PARTIUM_HEALTH="0"), "E004", "PARTIUM_HEALTH must be True or False"),
    Row("a path without its slash", _set(PARTIUM_AUTH_PATH="1/auth"), "E004", "PARTIUM_AUTH_PATH must be a path"),
    Row(
        "an address for a path",
        _set(PARTIUM_REFRESH_PATH="https://x.example/r"),
        "E004",
        "PARTIUM_REFRESH_PATH must be",
    ),
    Row(
        "one role, not a list", _set(PARTIUM_DEVELOPER_ROLES="admin"), "E004", "PARTIUM_DEVELOPER_ROLES must be a list"
    ),
    Row("claims by no function", _set(PARTIUM_CLAIMS="site.claims.read"), "E004", "PARTIUM_CLAIMS must be the path of"),
    Row("an SDK without https", _set(PARTIUM_FIND_SDK_URL="cdn.example/s.js"), "E004", "PARTIUM_FIND_SDK_URL must be"),
    Row("an unknown assumption", _set(PARTIUM_ASSUMPTIONS={"page": "/"}), "E004", "Did you mean 'page_path'?"),
    Row("scopes as a list", _set(OIDC_RP_SCOPES=["openid"]), "E004", "OIDC_RP_SCOPES must be a string"),
    Row("the version in the address", _set(PARTIUM_API_URL="https://api.partium.io/1"), "E005", "without the version"),
    Row("Partium by plain http", _set(PARTIUM_API_URL="http://api.partium.io"), "E005", "must be an https address"),
    Row("no middleware", _without_middleware, "W006", 'Add "partium_auth.middleware.PartiumMiddleware"'),
    Row("middleware too early", _middleware_first, "E007", 'Move "partium_auth.middleware.PartiumMiddleware" after'),
    Row("no URLs", _set(ROOT_URLCONF=sites.WithoutUrls), "E008", 'include("partium_auth.urls")'),
    Row(
        "the base library's backend",
        _set(AUTHENTICATION_BACKENDS=["mozilla_django_oidc.auth.OIDCAuthenticationBackend"]),
        "W009",
        f'Replace it by "{OIDC_BACKEND}"',
    ),
    Row(
        "the base library's URLs",
        _set(ROOT_URLCONF=sites.WithLibraryUrls),
        "W010",
        "The URL oidc_logout leads to a view",
    ),
    Row("a strict session cookie", _set(SESSION_COOKIE_SAMESITE="Strict"), "E015", "Use 'Lax'"),
    Row(
        "tables in two databases",
        _set(DATABASE_ROUTERS=["tests.misconfigured.site.PeopleElsewhere"]),
        "E016",
        "DATABASE_ROUTERS",
    ),
    Row("a provider, no backend", _set(AUTHENTICATION_BACKENDS=[MODEL_BACKEND]), "W017", f'Add "{OIDC_BACKEND}"'),
    Row("a provider without client id", _set(OIDC_RP_CLIENT_ID=""), "W018", "Set OIDC_RP_CLIENT_ID"),
    Row("refreshes inline", _set(PARTIUM_EXECUTOR="inline"), "W020", "Remove the setting"),
    Row(
        "sessions in cookies",
        _set(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"),
        "W021",
        "a session engine that stores on the server",
    ),
    Row("TLS unverified", _set(OIDC_VERIFY_SSL=False), "W022", "REQUESTS_CA_BUNDLE"),
    Row("the sandbox in production", _set(PARTIUM_API_URL="http://127.0.0.1:8900"), "W023", "https://api.partium.io"),
    Row(
        "a method that nothing calls",
        _set(AUTHENTICATION_BACKENDS=["tests.misconfigured.site.OverridesGetToken"]),
        "E025",
        "overrides get_token()",
    ),
    Row(
        "passwords without a throttle",
        _set(PARTIUM_PASSWORD_ATTEMPTS=0, AUTHENTICATION_BACKENDS=[PASSWORD_BACKEND]),
        "W025",
        "such as django-axes",
    ),
    Row("a setting of the base library", _set(OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS=60), "E026", "PARTIUM_REAUTHENTICATE"),
    Row("a login page without its slash", _set(LOGIN_URL="accounts/login/"), "E027", "LOGIN_URL (accounts/login/)"),
    Row("a home that names no URL", _set(LOGIN_REDIRECT_URL="home"), "E027", "LOGIN_REDIRECT_URL (home)"),
)

DOCTOR = (
    Row("no tables", _not_migrated, "database", "Run: manage.py migrate"),
    Row(
        "a lost encryption key",
        _set(PARTIUM_ENCRYPTION_KEYS=[encryption.generate_key()]),
        "encryption",
        "Add the key again",
    ),
    Row("another key of the same name", _other_key_material, "encryption", "Set the value that it had before"),
    Row("a wrong path", _set(PARTIUM_AUTH_PATH="/2/auth"), "partium", "Set PARTIUM_AUTH_PATH = '/1/auth'."),
    Row("Partium cannot be reached", _set(PARTIUM_API_URL="http://127.0.0.1:9"), "partium", "Check PARTIUM_API_URL"),
    Row(
        "page two is page one",
        _set(PARTIUM_ASSUMPTIONS={"page_path": "/1/find/search/{session_id}?offset={skip}"}),
        "pages",
        "PARTIUM_ASSUMPTIONS",
    ),
    Row(
        "no organization",
        lambda _: Organization.objects.update(is_active=False),
        "organizations",
        "Add one in the admin",
    ),
    Row("no API key", _without_key, "organizations", "No usable API key: acme"),
    Row("nobody can log in", lambda site: site.without_our_logins(), "providers", "has to log people in"),
    Row("an organization of nobody", _second_organization, "organizations", "Nobody can get into globex: no member"),
    Row("a member who was deactivated", _nobody_active, "organizations", "Nobody can get into acme"),
    Row(
        "tokens from logins, and none of ours",
        _people_with_their_own_logins,
        "organizations",
        "Nobody gets a token in acme",
    ),
    Row("a required provider that is off", _inactive_required_provider, "organizations", "Nobody may open acme"),
    Row(
        "passwords open an unknown organization",
        _set(PARTIUM_PASSWORD_ORGANIZATION="acne"),
        "people",
        "PARTIUM_PASSWORD_ORGANIZATION names 'acne'",
    ),
    Row(
        "passwords open one, without the backend",
        _set(PARTIUM_PASSWORD_ORGANIZATION="acme", AUTHENTICATION_BACKENDS=[OIDC_BACKEND]),
        "people",
        f'Add "{PASSWORD_BACKEND}"',
    ),
    Row("a provider's row without backend", _provider_row_without_backend, "people", f'Add "{OIDC_BACKEND}"'),
    Row("a login page that offers nothing", _only_organizations_providers, "people", "The login page offers nothing"),
    Row("login pages in a circle", _circle, "login", "redirects in a circle"),
    Row(
        "a login page that is missing", _set(LOGIN_URL="/accounts/login/"), "pages of the site", "LOGIN_URL (/accounts"
    ),
    Row("Django's default home", _set(LOGIN_REDIRECT_URL="/accounts/profile/"), "pages of the site", "no such page"),
    Row("no client secret", _without_secret, "provider default", "The client secret is missing"),
    Row(
        "another issuer", _set(OIDC_OP_ISSUER="http://127.0.0.1:9"), "provider default", "Compare issuer and endpoints"
    ),
    Row(
        "a wrong client secret",
        _set(OIDC_RP_CLIENT_SECRET="wrong"),
        "provider default",
        "rejects this site's registration",
    ),
    Row(
        "a redirect URI that is not registered", _unregistered, "provider default", "Register exactly this redirect URI"
    ),
    Row(
        "a provider called as the settings' one",
        lambda site: add_provider(site.provider, "default", is_active=False),
        "providers",
        "Rename or delete it",
    ),
)
