"""OpenID Connect Back-Channel Logout 1.0: the provider reports, server to server, that a person has logged out there."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from partium_auth.accounts.used_once import use_once
from partium_auth.exceptions import EncryptionError, UpstreamError
from partium_auth.host.decorators import utf8_only
from partium_auth.host.posted_secrets import secret_post_parameters
from partium_auth.models import Grant, UsedOnce
from partium_auth.models.database import database_alias
from partium_auth.models.identities import identity_digest
from partium_auth.oidc import providers
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.logout_token import usable_until, verify_logout_token
from partium_auth.oidc.metadata import metadata_of
from partium_auth.oidc.provider import Provider
from partium_auth.sealed.plain import Plain
from partium_auth.tokens import grants

logger = logging.getLogger("partium_auth.login")


@secret_post_parameters("logout_token")
@csrf_exempt
@login_not_required
@utf8_only
@require_POST
def backchannel_logout(request: HttpRequest, provider: str) -> HttpResponse:
    """End the sessions that a logout token (``logout_token`` in the form) names, and only those.

    200 when they are ended, also if there were none; 400 when the token is refused; 503 when it could not be verified
    now. Never cached, never a body (§2.8).
    """
    try:
        op = providers.get(provider)
        metadata = metadata_of(op)
        token = Plain.of(request.POST.get("logout_token", ""))
        algorithm, claims = verify_logout_token(op, metadata, token.reveal())
        ended = _end(op, algorithm, claims)
    except (Refused, LookupError) as e:
        check, detail = (e.check, e.detail) if isinstance(e, Refused) else ("provider", str(e))
        logger.warning("Log-out refused: provider=%s check=%s %s", provider, check, detail)
        return _answer(400)
    except (UpstreamError, EncryptionError, ImproperlyConfigured) as e:
        logger.error("Log-out not done: provider=%s %s", provider, e)
        return _answer(503)
    logger.info("Log-out by the provider: provider=%s sessions=%d", provider, ended)
    return _answer(200)


def _end(provider: Provider, algorithm: str, claims: dict[str, Any]) -> int:
    """Mark a logout token as used and end its sessions, in one transaction; return how many. Raises Refused: used before."""
    now = timezone.now()
    UsedOnce.objects.filter(expires_at__lt=now).delete()
    until = dt.datetime.fromtimestamp(usable_until(claims), dt.UTC if settings.USE_TZ else None)
    with transaction.atomic(using=database_alias()):
        if not use_once(f"{claims['iss']}\0{claims['jti']}", until):
            raise Refused("jti", "used before.")
        return grants.revoke(_signed_alike(_named(provider, claims), algorithm), delete_sessions=True)


def _named(provider: Provider, claims: dict[str, Any]) -> QuerySet[Grant]:
    """The grants of the session ``sid`` (and of ``sub``, if it is there), or, where the token names none, all of ``sub`` (§2.4)."""
    found = Grant.objects.using(database_alias()).filter(kind=Grant.Kind.OIDC, provider=provider.slug)
    if "sub" in claims:
        found = found.filter(identity__digest=identity_digest(claims["iss"], claims["sub"]))
    if "sid" in claims:
        # A session whose sid the provider did not send at login ("") may be the one: end it too, if it is this person's.
        wanted = {claims["sid"], ""} if "sub" in claims else {claims["sid"]}
        found = grants.of_sessions_at_provider(found, wanted)
    return found


def _signed_alike(found: QuerySet[Grant], algorithm: str) -> QuerySet[Grant]:
    """Leave out the logins whose ID token has another algorithm: one client has one for both (Back-Channel Logout §2.4).

    Raises Refused where no login is left; logins that have ended count, too. A login whose ID token is not known counts.
    """
    seen = dict(found.values_list("pk", "signed_with"))
    alike = [pk for pk, of_login in seen.items() if of_login in {algorithm, ""}]
    if seen and not alike:
        raise Refused("alg", f"{algorithm!r}; the ID tokens of these logins have {sorted(set(seen.values()))}.")
    return Grant.objects.using(database_alias()).filter(pk__in=alike)


def _answer(status: int) -> HttpResponse:
    return HttpResponse(status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
