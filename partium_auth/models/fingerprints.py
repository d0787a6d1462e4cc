"""Keyed fingerprints: equal values have equal fingerprints; without the key nobody can compute or guess one.

The key is one sealed row, made on first use. Fingerprints stay the same when the encryption keys are changed.
"""

from __future__ import annotations

import secrets
import uuid

from django.db import IntegrityError, models, router, transaction

from partium_auth.fields import SealedField, seal
from partium_auth.sealed import encryption
from partium_auth.sealed.plain import Plain


class FingerprintKey(models.Model):
    """The key of all fingerprints; there is one row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Unique, with one possible value: if two processes make the first key at once, one of them fails and reads the other's.
    singleton = models.BooleanField(default=True, unique=True, editable=False)
    value = SealedField()

    def __str__(self) -> str:
        return "fingerprint key"


def fingerprint(purpose: str, value: str | Plain) -> str:
    """Return the keyed fingerprint of a value, 64 hexadecimal digits.

    Fingerprints of different purposes cannot be compared.

    Raises:
        EncryptionError: no usable key in ``PARTIUM_ENCRYPTION_KEYS``.
    """
    value = Plain.of(value)
    return encryption.keyed_hash(_key(), purpose, value.reveal())


def _key() -> bytes:
    using = router.db_for_write(FingerprintKey)
    row = FingerprintKey.objects.using(using).first()
    if row is None:
        row = FingerprintKey(id=uuid.uuid4())
        row.value = seal(row, "value", Plain(secrets.token_hex(32)))
        try:
            with transaction.atomic(using=using):
                row.save(force_insert=True, using=using)
        except IntegrityError:
            row = FingerprintKey.objects.using(using).get()
    return bytes.fromhex(row.value.reveal())
