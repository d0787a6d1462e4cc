"""What an operator should know about one identity provider: for ``partium_doctor`` and for the admin's check of a provider.

The admin shows the texts too, so they are translated.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from partium_auth.host import upstream
from partium_auth.models import IdentityProvider
from partium_auth.oidc import documents
from partium_auth.oidc.metadata import Metadata, interpret_metadata
from partium_auth.oidc.provider import Provider
from partium_auth.services.providers import others_with_issuer

CLOCK_TOLERANCE_SECONDS = 10
TIMEOUT_SECONDS = 5.0


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
    if metadata.jwks_uri and provider.signing_key is None:
        yield _signing_keys(provider, metadata.jwks_uri)
    yield from _algorithms(provider, document)
    yield from _pkce(document)
    yield from _scopes(provider, document)
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

    called = (metadata.token_endpoint, metadata.jwks_uri, metadata.userinfo_endpoint, metadata.revocation_endpoint)
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


def _signing_keys(provider: Provider, jwks_uri: str) -> Finding:
    keys = documents.fetch(jwks_uri, public_only=not provider.is_typed(jwks_uri)).get("keys")
    found = keys if isinstance(keys, list) else []
    count = sum(isinstance(key, dict) and key.get("use") in (None, "sig") for key in found)
    text = ngettext("It publishes %(count)d signing key.", "It publishes %(count)d signing keys.", count)
    if count:
        return Finding("ok", text % {"count": count})
    return Finding("error", text % {"count": 0}, _("Create a signing key at the provider."))


def _algorithms(provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    algorithms = document.get("id_token_signing_alg_values_supported")
    if isinstance(algorithms, list) and not any(name in algorithms for name in provider.signing_algorithms):
        yield Finding(
            "error",
            # ascii(): a document must not send control characters to a terminal.
            _("It signs ID tokens with %s, none of which is allowed here.") % ", ".join(map(ascii, algorithms)),
            _("Allow one of them in the provider's signing algorithms (OIDC_RP_SIGN_ALGO for the default provider)."),
        )


def _pkce(document: Mapping[str, Any]) -> Iterator[Finding]:
    methods = document.get("code_challenge_methods_supported")
    if document and not (isinstance(methods, list) and "S256" in methods):
        yield Finding(
            "warning",
            _("It does not say that it supports PKCE with S256."),
            _("Nothing has to be done here: PKCE is used anyway. Enable it at the provider if that is possible."),
        )


def _scopes(provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    offered, requested = document.get("scopes_supported"), provider.scopes.split()
    if not isinstance(offered, list):
        return
    if missing := [scope for scope in requested if scope not in offered]:
        yield Finding(
            "warning",
            _("It does not list these scopes: %s.") % ", ".join(missing),
            _("If logins fail, remove them from the scopes, or allow them at the provider."),
        )
    if "offline_access" in offered and "offline_access" not in requested:
        yield Finding(
            "warning",
            _("It has the scope offline_access, which is not requested; some give no refresh token without it."),
            _("Add offline_access to the scopes if people have to log in again when their first token expires."),
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
