"""OpenID Connect Front-Channel Logout 1.0: the provider loads a page of ours in a frame when a person logs out there."""

from __future__ import annotations

import logging

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import require_GET

from partium_auth.exceptions import EncryptionError
from partium_auth.host.decorators import utf8_only
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.oidc import providers
from partium_auth.tokens import grants

logger = logging.getLogger("partium_auth.login")


@login_not_required
@utf8_only
@require_GET
@xframe_options_exempt
def frontchannel_logout(request: HttpRequest, provider: str) -> HttpResponse:
    """End the session that ``iss`` and ``sid`` name (§3); both are required: browsers send no cookie into another site's frame.

    200 also where there is no such session; 400 where one of the two is missing or of another provider.
    """
    issuer, sid = request.GET.get("iss", ""), request.GET.get("sid", "")
    try:
        is_known = issuer in providers.get(provider).issuers
    except (LookupError, EncryptionError, ImproperlyConfigured):
        is_known = False
    if not is_known or not sid or "\0" in sid:
        logger.warning("Log-out refused: provider=%s check=%s", provider, "sid" if is_known else "iss")
        return _answer(400)
    logins = Grant.objects.using(database_alias()).filter(kind=Grant.Kind.OIDC, provider=provider)
    ended = grants.revoke(grants.of_sessions_at_provider(logins, {sid}), delete_sessions=True)
    logger.info("Log-out by the provider: provider=%s sessions=%d", provider, ended)
    return _answer(200)


def _answer(status: int) -> HttpResponse:
    return HttpResponse(status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
