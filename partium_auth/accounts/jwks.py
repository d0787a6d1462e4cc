"""The public keys that providers check this site's client assertions with (RFC 7517, Core §10.1)."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from partium_auth.exceptions import EncryptionError
from partium_auth.host.decorators import utf8_only
from partium_auth.oidc import client_keys, providers

CACHE_SECONDS = 300


@login_not_required
@utf8_only
@require_safe
def jwks(request: HttpRequest, provider: str) -> HttpResponse:
    """Answer with this site's public keys for one provider. Anybody may read and cache them."""
    try:
        keys = client_keys.published(providers.get(provider).bound_to)
    except LookupError:
        raise Http404 from None
    except (EncryptionError, ImproperlyConfigured):
        return HttpResponse(status=503, headers={"Cache-Control": "no-store"})
    return JsonResponse({"keys": keys}, headers={"Cache-Control": f"public, max-age={CACHE_SECONDS}"})
