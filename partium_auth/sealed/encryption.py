"""Sealing: authenticated encryption of one secret, bound to the row and field that stores it.

A sealed value is ``v1.<kid>.<Fernet token>``, with the id of the encryption key as ``kid``. The encrypted payload starts
with the value's context (model, row, field), so a ciphertext that was copied to another row does not open there.
``cryptography`` is imported on first use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING

from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError
from partium_auth.sealed.plain import Plain

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

VERSION = "v1"
LONGEST_KEY_ID = 32
_KEY_ID = rf"([A-Za-z0-9_-]{{1,{LONGEST_KEY_ID}}})"
_SEALED = re.compile(rf"{VERSION}\.{_KEY_ID}\.([A-Za-z0-9_=-]+)")
_KEY = re.compile(rf"{_KEY_ID}:([A-Za-z0-9_=-]{{43,44}})")
_SEPARATOR = b"\x00"


def generate_key() -> str:
    """Return a new encryption key as ``kid:key``, for ``PARTIUM_ENCRYPTION_KEYS``."""
    from cryptography.fernet import Fernet

    return f"k{secrets.token_hex(4)}:{Fernet.generate_key().decode()}"


def seal(plaintext: str | Plain, context: str) -> str:
    """Seal a secret for one field of one row, with the first key of ``PARTIUM_ENCRYPTION_KEYS``.

    Args:
        plaintext: the secret.
        context: model, row and field that the secret is stored in, see :func:`partium_auth.sealed.values.context_of`.

    Raises:
        EncryptionError: no usable key is configured.
    """
    plaintext = Plain.of(plaintext)
    kid, fernet = next(iter(_keyring(conf.encryption_keys).items()))
    token = fernet.encrypt(context.encode() + _SEPARATOR + plaintext.reveal().encode())
    return f"{VERSION}.{kid}.{token.decode()}"


def unseal(sealed: str, context: str) -> str:
    """Open a sealed secret, with the context that it was sealed with.

    Raises:
        EncryptionError: the key is not configured, the value was altered, or it was sealed for another context.
    """
    from cryptography.fernet import InvalidToken

    match = _SEALED.fullmatch(sealed)
    if match is None:
        raise EncryptionError(f"The stored value of {context} is not a sealed value.")
    kid, token = match.groups()
    fernet = _keyring(conf.encryption_keys).get(kid)
    if fernet is None:
        raise EncryptionError(
            f"The stored value of {context} was sealed with the key {kid!r}, which is not in PARTIUM_ENCRYPTION_KEYS. "
            "Add that key again (after the first one), then run: manage.py partium_reencrypt."
        )
    try:
        payload = fernet.decrypt(token)
    except InvalidToken:
        raise EncryptionError(
            f"The stored value of {context} does not open with the key {kid!r}: the value was changed, "
            "or PARTIUM_ENCRYPTION_KEYS has another key under this name."
        ) from None
    sealed_context, _, plaintext = payload.partition(_SEPARATOR)
    if not hmac.compare_digest(sealed_context, context.encode()):
        raise EncryptionError(f"The stored value of {context} was sealed for another place and does not open here.")
    return plaintext.decode()


def is_sealed(value: str) -> bool:
    """Tell whether a string has the form of a sealed value, without opening it."""
    return _SEALED.fullmatch(value) is not None


def encryption_key_id(sealed: str) -> str:
    """Return the id of the key that a value was sealed with; an empty string if it is not a sealed value."""
    match = _SEALED.fullmatch(sealed)
    return match.group(1) if match else ""


def current_encryption_key_id() -> str:
    """Return the id of the key that :func:`seal` uses. Raises EncryptionError if no usable key is configured."""
    return next(iter(_keyring(conf.encryption_keys)))


def keyed_hash(key: bytes, purpose: str, value: str) -> str:
    """Return the HMAC-SHA-256 of a value, as 64 hexadecimal digits. Hashes of different purposes cannot be compared."""
    return hmac.new(key, purpose.encode() + _SEPARATOR + value.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=4)
def _keyring(keys: tuple[str, ...]) -> dict[str, Fernet]:
    from cryptography.fernet import Fernet

    if not keys:
        raise EncryptionError(
            "PARTIUM_ENCRYPTION_KEYS is empty, so no secret can be stored or read. "
            "Run: manage.py partium_generate_encryption_key, and put what it prints into the setting."
        )
    ring: dict[str, Fernet] = {}
    for position, entry in enumerate(keys, start=1):
        match = _KEY.fullmatch(entry)
        if match is None:
            raise EncryptionError(f'Entry {position} of PARTIUM_ENCRYPTION_KEYS is not of the form "kid:key".')
        kid, key = match.groups()
        if kid in ring:
            raise EncryptionError(f"PARTIUM_ENCRYPTION_KEYS names the key {kid!r} twice.")
        try:
            ring[kid] = Fernet(key + "=" * (-len(key) % 4))
        except ValueError:
            text = f"Entry {position} of PARTIUM_ENCRYPTION_KEYS does not hold 32 bytes in base64."
            raise EncryptionError(text) from None
    return ring
