"""Key pairs for ``private_key_jwt``: made here, and replaced with an overlap."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.db import transaction
from django.utils import timezone
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from partium_auth import policy
from partium_auth.fields import seal
from partium_auth.models import AuditEvent, ClientKey, IdentityProvider
from partium_auth.models.audit_events import EventDetail
from partium_auth.models.database import database_alias
from partium_auth.oidc import client_keys, documents, providers
from partium_auth.oidc.metadata import assertion_algorithm
from partium_auth.sealed.plain import Plain
from partium_auth.services.audit import record

if TYPE_CHECKING:
    from partium_auth.policy import Actor

OVERLAP = dt.timedelta(days=1)
"""So long a new key is published before it signs, and the old one after it has signed. Providers cache key sets, for minutes to
hours; where a key is uploaded by hand, somebody has to do that meanwhile."""

_MAKE: Mapping[str, Callable[[], Any]] = {
    "ES256": lambda: ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True),
    "PS256": lambda: RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True),
    "RS256": lambda: RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True),
}


def create_client_key(row: IdentityProvider | None, *, actor: Actor, at_once: bool = False) -> ClientKey:
    """Make a key pair for ``private_key_jwt``. The first one signs at once, a later one after :data:`OVERLAP`.

    Args:
        row: the provider; None: that of the settings.
        actor: an operator; None: the system.
        at_once: the old keys may be known to others: use the new one at once, and publish no other any more.

    Raises:
        PermissionDenied: the actor is not an operator.
        UpstreamError: the discovery document is not known and could not be fetched.
        Refused: the provider takes none of the algorithms ES256, PS256 and RS256.
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    policy.require_operator(actor)
    provider = providers.from_settings() if row is None else providers.from_row(row)
    document = documents.get(provider.discovery_url) if provider.discovery_url else {}
    algorithm, now = assertion_algorithm(document), timezone.now()
    key = ClientKey(provider=row, bound_to=provider.bound_to, algorithm=algorithm, used_from=now)
    key.private_key = seal(key, "private_key", Plain(json.dumps(_MAKE[key.algorithm]())))
    with transaction.atomic(using=database_alias()):
        others = client_keys.of_provider(provider.bound_to).select_for_update()
        others.filter(published_until__lte=now).delete()
        if at_once:
            others.delete()
        elif others.exists():
            key.used_from += OVERLAP
            others.filter(used_from__gt=now).delete()  # not used yet
            others.filter(published_until=None).update(published_until=key.used_from + OVERLAP)
        key.save(using=database_alias())
        record(
            AuditEvent.Action.CLIENT_KEY_CREATED,
            actor=actor,
            detail=EventDetail.CLIENT_KEY,
            parameters={"provider": provider.slug, "key": str(key.pk)},
        )
    return key
