"""``Sealed``, the type of a secret: it holds the ciphertext, and prints as a mask."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

from partium_auth.exceptions import EncryptionError
from partium_auth.sealed import encryption
from partium_auth.sealed.plain import MASK, Plain

if TYPE_CHECKING:
    from django.db import models


class Sealed:
    """A sealed secret. Its ``str`` and ``repr`` are masks; only :meth:`reveal` returns the secret."""

    __slots__ = ("_context", "_text")

    def __init__(self, text: str, context: str | None = None) -> None:
        self._text = text
        self._context = context

    @property
    def text(self) -> str:
        """The ciphertext as stored."""
        return self._text

    @property
    def encryption_key_id(self) -> str:
        """The id of the encryption key that it was sealed with."""
        return encryption.encryption_key_id(self._text)

    def bound_to(self, context: str) -> Sealed:
        """Return the same ciphertext, to be opened with this context."""
        return self if self._context == context else Sealed(self._text, context)

    def reveal(self) -> str:
        """Return the secret itself.

        Raises:
            EncryptionError: it does not open (wrong key, changed, or copied from another row), or its row is unknown.
        """
        if self._context is None:
            raise EncryptionError("This sealed value was loaded without its row. Read it from a model instance.")
        return encryption.unseal(self._text, self._context)

    def plain(self) -> Plain:
        """Return the secret, to pass it on. Raises as :meth:`reveal`."""
        return Plain(self.reveal())

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"<Sealed {MASK}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def seal(row: models.Model, field: str, plaintext: str | Plain) -> Sealed:
    """Seal a secret for one field of one row.

    Args:
        row: the instance, saved or not, with a primary key.
        field: name of a :class:`SealedField` of the model.

    Raises:
        EncryptionError: no usable key is configured.
    """
    plaintext, context = Plain.of(plaintext), context_of(row, field)
    return Sealed(encryption.seal(plaintext, context), context)


def context_of(row: models.Model, field: str) -> str:
    """Return the context that a row's field is sealed with, such as ``partium_auth.grant:<uuid>:session_key``.

    A model's ``sealed_with`` names other fields of the row that belong to the context of a field: after a change of one of
    them, the secret does not open any more.
    """
    if row.pk is None:
        raise EncryptionError("A secret can be sealed only for a row that has a primary key.")
    return context(row._meta.label_lower, row.pk, field, (getattr(row, name) for name in sealed_with(row, field)))


def sealed_with(row: models.Model | type[models.Model], field: str) -> tuple[str, ...]:
    """Return the names of the other fields whose values belong to the context of a field."""
    names: tuple[str, ...] = getattr(row, "sealed_with", {}).get(field, ())
    return names


def context(label: str, pk: object, field: str, bound: Iterable[object] = ()) -> str:
    """Return the context of a field, with a digest of the values that it is bound to, if there are any."""
    values = [str(value) for value in bound]
    digest = f":{sha256(json.dumps(values).encode()).hexdigest()[:32]}" if values else ""
    return f"{label}:{pk}:{field}{digest}"
