"""How this site proves itself with a key pair: client assertions (RFC 7523, Core §9) and the public keys that check them."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import jwt
from django.db.models import Q, QuerySet
from django.utils import timezone

from partium_auth.models import ClientKey
from partium_auth.models.database import database_alias
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import Provider

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME_SECONDS = 120
"""Of an assertion. Clocks may differ by 60 s, as with ID tokens."""

_PUBLIC = ("kty", "crv", "x", "y", "n", "e")


def assertion(provider: Provider, audience: str) -> str:
    """Return a signed assertion that this site is the provider's client, to be used once.

    Args:
        audience: the provider's issuer, or its token endpoint.

    Raises:
        Refused: there is no key pair (check ``client_authentication``).
        EncryptionError: it does not open.
    """
    key = current(provider)
    now = int(time.time())
    claims = {"iss": provider.client_id, "sub": provider.client_id, "aud": audience, "iat": now}
    claims |= {"exp": now + LIFETIME_SECONDS, "jti": secrets.token_urlsafe(24)}
    return jwt.encode(claims, _opened(key).key, key.algorithm, headers={"kid": str(key.pk)})


def current(provider: Provider) -> ClientKey:
    """Return the key pair that signs now. Raises Refused: there is none."""
    key = of_provider(provider.bound_to).filter(used_from__lte=timezone.now()).order_by("-used_from").first()
    if key is None:
        raise Refused(
            "client_authentication",
            "there is no key pair for private_key_jwt: create one on the provider's page in the admin, or with "
            f"manage.py partium_client_key {provider.slug}.",
        )
    return key


def published(bound_to: str) -> list[dict[str, Any]]:
    """Return the public keys of a provider as JWKs. Raises EncryptionError: one does not open."""
    keys = of_provider(bound_to).filter(Q(published_until=None) | Q(published_until__gt=timezone.now()))
    return [public_jwk(key) for key in keys.order_by("used_from")]


def public_jwk(key: ClientKey) -> dict[str, Any]:
    """Return the public half of a key pair as a JWK (RFC 7517). Raises EncryptionError: it does not open."""
    public = {name: value for name, value in json.loads(key.private_key.reveal()).items() if name in _PUBLIC}
    return {**public, "kid": str(key.pk), "use": "sig", "alg": key.algorithm}


def of_provider(bound_to: str) -> QuerySet[ClientKey]:
    """Return all key pairs of a provider, by its ``bound_to``; that of the settings has an empty one."""
    return ClientKey.objects.using(database_alias()).filter(bound_to=bound_to)


def _opened(key: ClientKey) -> jwt.PyJWK:
    return jwt.PyJWK.from_json(key.private_key.reveal(), algorithm=key.algorithm)
