"""What may be used once: the ``state`` of a login, and a logout token."""

from __future__ import annotations

import datetime as dt
import hashlib
from contextlib import nullcontext

from django.db import IntegrityError, connections, transaction

from partium_auth.models import UsedOnce
from partium_auth.models.database import database_alias


def use_once(value: str, until: dt.datetime) -> bool:
    """Use a value up, in all processes; return whether it had not been used before.

    ``until`` is when it could not be used any more anyway.
    """
    digest = hashlib.sha256(value.encode()).hexdigest()
    alias = database_alias()
    # PostgreSQL continues a transaction after a failed statement only from a savepoint.
    savepoint = transaction.atomic(using=alias) if connections[alias].in_atomic_block else nullcontext()
    try:
        with savepoint:
            UsedOnce(digest=digest, expires_at=until).save(force_insert=True, using=alias)
    except IntegrityError:
        return False
    return True
