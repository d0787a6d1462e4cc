"""The ID token that a refresh brings (Core §12.2): the newest hint for a log-out, and what the provider says of the person today."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.dispatch import Signal

from partium_auth.exceptions import PartiumError
from partium_auth.fields import seal
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.sealed.plain import Plain

if TYPE_CHECKING:
    from partium_auth.partium.token_response import TokenResponse

logger = logging.getLogger("partium_auth.tokens")

claims_refreshed = Signal()
"""``identity: Identity``, ``provider: Provider``, ``claims: dict``, verified and of the same person, and the grant's
``from_userinfo``. Only for this app."""


def keep(grant: Grant, tokens: TokenResponse, generation: int) -> None:
    """Verify the ID token of a refresh that is stored, keep it as the newest hint, and apply its claims.

    One that cannot be verified (it may be encrypted) or stored is logged and changes nothing: the refresh itself has succeeded.

    Args:
        grant: whose refresh token was sent, with its identity.
        generation: of the grant with these tokens; a later refresh knows more.
    """
    if grant.kind != Grant.Kind.OIDC or not tokens.id_token or grant.identity is None:
        return
    from partium_auth.oidc import providers
    from partium_auth.oidc.id_token import verify_refreshed_id_token
    from partium_auth.oidc.metadata import metadata_of

    who = grant.identity.issuer, grant.identity.subject
    try:
        op = providers.get(grant.provider)
        claims = verify_refreshed_id_token(
            op, metadata_of(op), tokens.id_token, who=who, access_token=tokens.access_token
        )
        rows = Grant.objects.using(database_alias()).filter(pk=grant.pk, generation=generation, revoked_at=None)
        is_newest = rows.update(id_token=seal(grant, "id_token", Plain(tokens.id_token)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the refresh is stored and must not be reported as failed
        why = error if isinstance(error, PartiumError | LookupError) else type(error).__name__
        logger.warning("The ID token of a refresh at %s is not used: %s", grant.provider, why)
        return
    if is_newest:
        claims_refreshed.send_robust(
            sender=Grant, identity=grant.identity, provider=op, claims=claims, from_userinfo=grant.from_userinfo
        )
