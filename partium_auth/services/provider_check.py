"""What an operator should know about one identity provider: for ``partium_doctor`` and for the admin's check of a provider.

The admin shows the texts too, so they are translated.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from partium_auth.host import upstream
from partium_auth.models import Grant, IdentityProvider
from partium_auth.oidc import client_keys, documents
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import SENDS_SECRET, Metadata, interpret_metadata
from partium_auth.oidc.provider import ASYMMETRIC_ALGORITHMS, PRIVATE_KEY_JWT, Provider
from partium_auth.oidc.signatures import matching_keys
from partium_auth.services.providers import others_with_issuer

CLOCK_TOLERANCE_SECONDS = 10
TIMEOUT_SECONDS = 5.0
LAST_LOGINS = 20


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Args:
        level: ``ok``, ``warning`` or ``error``.
        text: what was found.
        advice: what to do about it; empty only where ``level`` is ``ok``.
        subject: what was examined, such as ``encryption`` or ``provider acme``; ``partium_doctor`` fills it in.
    """

    level: Literal["ok", "warning", "error"]
    text: str
    advice: str = ""
    subject: str = ""


def check_provider(provider: Provider) -> Iterator[Finding]:
    """Fetch a provider's discovery document and keys, and compare them with what is configured here.

    Raises:
        PartiumError: a reason why nobody can log in through this provider.
    """
    document: Mapping[str, Any] = {}
    if provider.discovery_url:
        document = documents.fetch(provider.discovery_url)
        yield from _clock(provider.discovery_url)
    metadata = interpret_metadata(provider, document)
    yield Finding("ok", _("The issuer is %s.") % metadata.issuer)
    keys: list[Any] = []
    if metadata.jwks_uri and provider.signing_key is None:
        url = metadata.jwks_uri
        found = documents.fetch(url, public_only=not provider.is_typed(url)).get("keys")
        keys = found if isinstance(found, list) else []
        yield _signing_keys(keys)
    yield from _requirements(provider, document, metadata)
    if metadata.client_authentication == PRIVATE_KEY_JWT:
        yield from _client_key(provider, document)
    yield from _algorithms(provider, document, keys)
    yield from _scopes(provider, document)
    yield from _refresh_tokens(provider, document)
    yield from _logout(metadata)
    yield from _addresses(provider, metadata)


def check_issuer(row: IdentityProvider) -> Iterator[Finding]:
    """Name everything else that identifies people by the issuer of an organization's own provider."""
    if row.organization_id is None:
        return
    for name, owner in others_with_issuer(row):
        if owner is None:
            yield Finding(
                "error",
                _(
                    "It belongs to an organization and has the same issuer as something site-wide (%s): whoever controls it "
                    "opens the accounts of the people who log in there, privileged ones too."
                )
                % name,
                _("Make one of the two inactive."),
            )
        elif owner != row.organization_id:
            yield Finding(
                "warning",
                _(
                    "The provider %s of another organization has the same issuer: a person who logs in through both has "
                    "one account, with the memberships of the last login only."
                )
                % name,
                _("If that is not intended, use one site-wide provider, with memberships from claims."),
            )


def _addresses(provider: Provider, metadata: Metadata) -> Iterator[Finding]:
    from partium_auth.http.connection import proxy_of

    called = (
        *(metadata.token_endpoint, metadata.jwks_uri, metadata.userinfo_endpoint, metadata.revocation_endpoint),
        metadata.pushed_authorization_request_endpoint if metadata.pushes else "",
    )
    hosts = {urlsplit(url).hostname or "" for url in called if url and not provider.is_typed(url) and proxy_of(url)}
    if hosts:
        yield Finding(
            "warning",
            _(
                "Its discovery document names hosts that are called through a proxy: %s. The proxy resolves their names, so "
                "nobody checks here that their addresses are public."
            )
            % ", ".join(map(ascii, sorted(hosts))),
            _("Let the proxy refuse private addresses, or configure the endpoints here."),
        )


def _clock(url: str) -> Iterator[Finding]:
    started_at = time.time()
    response = upstream.transport().send("GET", url, total_seconds=TIMEOUT_SECONDS)
    our_time = (started_at + time.time()) / 2
    try:
        their_time = email.utils.parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    difference = round(their_time - our_time)
    if abs(difference) > CLOCK_TOLERANCE_SECONDS:
        yield Finding(
            "warning",
            _("Its clock differs from this machine's by %d s; ID tokens are rejected from 60 s on.") % difference,
            _("Let both follow an NTP server."),
        )


def _signing_keys(keys: Sequence[Any]) -> Finding:
    count = sum(isinstance(key, dict) and key.get("use") in (None, "sig") for key in keys)
    text = ngettext("It publishes %(count)d signing key.", "It publishes %(count)d signing keys.", count)
    if count:
        return Finding("ok", text % {"count": count})
    return Finding("error", text % {"count": 0}, _("Create a signing key at the provider."))


def _algorithms(provider: Provider, document: Mapping[str, Any], keys: Sequence[Any]) -> Iterator[Finding]:
    algorithms = document.get("id_token_signing_alg_values_supported")
    if isinstance(algorithms, list) and not any(name in algorithms for name in provider.signing_algorithms):
        # Spring Authorization Server lists RS256 whatever it signs with.
        is_asymmetric = any(name in algorithms for name in ASYMMETRIC_ALGORITHMS)
        is_usable = is_asymmetric and any(matching_keys(keys, name, None) for name in provider.signing_algorithms)
        yield Finding(
            "warning" if is_usable else "error",
            # ascii(): a document must not send control characters to a terminal.
            _("It says that it signs ID tokens with %s, none of which is allowed here.")
            % ", ".join(map(ascii, algorithms)),
            _("Allow one of them in the provider's signing algorithms (OIDC_RP_SIGN_ALGO for the default provider)."),
        )


def _requirements(provider: Provider, document: Mapping[str, Any], metadata: Metadata) -> Iterator[Finding]:
    """Compare what the provider requires with what this app can do."""
    if document.get("require_signed_request_object") is True:
        yield Finding(
            "error",
            _("It requires what this app does not do: %s.") % "require_signed_request_object",
            _("Switch the requirement off for this client at the provider."),
        )
    advice = _("Allow the authorization code flow at the provider.")
    for name, needed in (("response_types_supported", "code"), ("grant_types_supported", "authorization_code")):
        offered = document.get(name)
        if isinstance(offered, list) and offered and needed not in offered:
            yield _not_offered(name, offered, needed, advice)
    offered, ours = metadata.authentication_methods, metadata.client_authentication
    is_public = ours == "none"
    if offered and ours not in offered and (provider.client_secret or not is_public):
        advice = _(
            "Choose a client authentication that the provider offers (OIDC_RP_CLIENT_AUTHENTICATION for the default provider)."
        )
        yield _not_offered("token_endpoint_auth_methods_supported", offered, ours, advice)
    if not provider.client_secret and (ours in SENDS_SECRET or (is_public and offered and ours not in offered)):
        yield Finding(
            "error",
            _("The client secret is missing."),
            _(
                "Enter it (OIDC_RP_CLIENT_SECRET for the default provider), or make this a public client at the provider."
            ),
        )


def _not_offered(name: str, offered: Sequence[Any], needed: str, advice: str) -> Finding:
    text = _("Its %(name)s are %(offered)s; this site needs %(ours)s.")
    # ascii(): a document must not send control characters to a terminal.
    return Finding("error", text % {"name": name, "offered": ", ".join(map(ascii, offered)), "ours": needed}, advice)


def _client_key(provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the key pair for ``private_key_jwt`` with what the provider takes."""
    advice = _("Create a key pair: on the provider's page in the admin, or with manage.py partium_client_key.")
    try:
        key = client_keys.current(provider)
    except Refused:
        yield Finding("error", _("There is no key pair for private_key_jwt."), advice)
        return
    stated = document.get("token_endpoint_auth_signing_alg_values_supported")
    if isinstance(stated, list) and stated and key.algorithm not in stated:
        yield Finding(
            "error",
            _("It takes client assertions signed with %(offered)s; the key pair here is for %(ours)s.")
            % {"offered": ", ".join(map(ascii, stated)), "ours": key.algorithm},
            advice,
        )


def _scopes(provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    offered, requested = document.get("scopes_supported"), provider.scopes.split()
    if not isinstance(offered, list):
        return
    # "organization:*" is Keycloak's scope "organization" with a parameter.
    if missing := [scope for scope in requested if scope not in offered and scope.partition(":")[0] not in offered]:
        yield Finding(
            "warning",
            _("It does not list these scopes: %s.") % ", ".join(missing),
            _("If logins fail, remove them from the scopes, or allow them at the provider."),
        )


def _refresh_tokens(provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Say what is to be done where the last logins brought no refresh token. What has worked needs no advice."""
    last = Grant.objects.filter(provider=provider.slug, kind=Grant.Kind.OIDC, revoked_at=None).order_by("-created_at")
    seen = list(last.values_list("pk", flat=True)[:LAST_LOGINS])
    if not seen or Grant.objects.filter(pk__in=seen, refresh_token__isnull=False).exists():
        return
    offered, requested = document.get("scopes_supported"), provider.scopes.split()
    is_offered = isinstance(offered, list) and "offline_access" in offered
    is_keycloak = "/realms/" in provider.issuer
    if "offline_access" in requested:
        advice = _(
            'Set the extra parameter "prompt": "consent"; many providers give none for offline_access without it.'
        )
    elif is_offered and not is_keycloak:
        advice = _("Add offline_access to the scopes, and allow the grant type refresh_token for this client.")
    else:
        advice = _("Allow the grant type refresh_token for this client at the provider.")
    yield Finding(
        "warning",
        _("It gives no refresh token: none of the last %d logins has one, so people are sent there again and again.")
        % len(seen),
        advice,
    )


def _logout(metadata: Metadata) -> Iterator[Finding]:
    advice = _(
        "If it has one that its discovery document does not name, configure the URL (%s for the default provider). "
        "Otherwise nothing can be done here."
    )
    if not metadata.end_session_endpoint:
        yield Finding(
            "warning",
            _("It has no end_session_endpoint: logging out here leaves the person logged in there."),
            advice % "OIDC_OP_END_SESSION_ENDPOINT",
        )
    if not metadata.revocation_endpoint:
        yield Finding(
            "warning",
            _("It has no revocation_endpoint: refresh tokens stay valid after a log-out, until they expire."),
            advice % "OIDC_OP_REVOCATION_ENDPOINT",
        )
