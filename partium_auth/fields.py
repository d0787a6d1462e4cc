"""A secret is a type, not a string: ``SealedField`` stores it sealed and loads it as ``Sealed``, which shows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import FieldError
from django.db import models
from django.views.decorators.debug import sensitive_variables

from partium_auth import crypto
from partium_auth.exceptions import EncryptionError

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

MASK = "••••••••"


class Sealed:
    """A sealed secret. Its ``str`` and ``repr`` are masks; :meth:`reveal` is the one way to the value."""

    __slots__ = ("_context", "_text")

    def __init__(self, text: str, context: str | None = None) -> None:
        self._text = text
        self._context = context

    @property
    def text(self) -> str:
        """The ciphertext, as it is stored."""
        return self._text

    @property
    def key_id(self) -> str:
        """Which encryption key it was sealed with."""
        return crypto.key_id(self._text)

    def bound_to(self, context: str) -> Sealed:
        """Return the same ciphertext, to be opened as the value of this place."""
        return self if self._context == context else Sealed(self._text, context)

    def reveal(self) -> str:
        """Return the secret itself.

        Raises:
            EncryptionError: it does not open: wrong key, altered, from another row; or nobody knows which row it is of.
        """
        if self._context is None:
            raise EncryptionError("This sealed value was loaded without its row: read it from a model instance.")
        return crypto.unseal(self._text, self._context)

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"<Sealed {MASK}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@sensitive_variables("plaintext")
def seal(row: models.Model, field: str, plaintext: str) -> Sealed:
    """Seal a secret for one field of one row.

    Args:
        row: the instance, saved or not; its primary key must be set.
        field: name of a :class:`SealedField` of the model.
        plaintext: the secret.

    Raises:
        EncryptionError: no usable key is configured.
    """
    context = context_of(row, field)
    return Sealed(crypto.seal(plaintext, context), context)


def context_of(row: models.Model, field: str) -> str:
    """Return the context a row's field is sealed for, such as ``partium_auth.apikey:<uuid>:secret``."""
    if row.pk is None:
        raise EncryptionError("A secret can be sealed only for a row that has a primary key.")
    return f"{row._meta.label_lower}:{row.pk}:{field}"


class _SealedAttribute:
    def __init__(self, field: SealedField) -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        if name not in instance.__dict__:
            instance.refresh_from_db(fields=[name])
        value = instance.__dict__[name]
        return value.bound_to(context_of(instance, name)) if isinstance(value, Sealed) else value

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.accept(value)


class SealedField(models.TextField):  # type: ignore[type-arg]  # its values are Sealed, which the stubs cannot say
    """Stores a secret sealed. Takes ``Sealed`` (made by :func:`seal`) or None; plain text is a ``TypeError``.

    Every look-up but ``isnull`` is refused, no form field is made of it, and ``dumpdata`` writes the ciphertext.
    """

    description = "A sealed secret"

    def accept(self, value: Any) -> Any:
        """Return the value if it may be assigned. Raises TypeError on plain text."""
        if value is None or isinstance(value, Sealed):
            return value
        raise TypeError(f"{self.name} takes a sealed value, made by partium_auth.fields.seal(), or None.")

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, self.attname, _SealedAttribute(self))

    def get_default(self) -> None:
        # Not the empty string that a text field starts with: that would be plain text.
        return None

    def from_db_value(self, value: str | None, expression: Any, connection: BaseDatabaseWrapper) -> Sealed | None:
        return None if value is None else Sealed(value)

    def to_python(self, value: Any) -> Any:
        # Deserializers call this with what dumpdata wrote. Plain text is let through to the assignment, which refuses it:
        # an exception raised here would be quoted together with the value.
        return Sealed(value) if isinstance(value, str) and crypto.is_sealed(value) else value

    def get_prep_value(self, value: Any) -> Any:
        value = self.accept(value)
        return value.text if isinstance(value, Sealed) else None

    def value_to_string(self, obj: models.Model) -> Any:
        value = self.value_from_object(obj)
        return value.text if isinstance(value, Sealed) else value

    def formfield(self, **kwargs: Any) -> None:
        return None

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name == "isnull":
            return super().get_lookup(lookup_name)
        return self._refuse(lookup_name)

    def get_transform(self, lookup_name: str) -> Any:
        return self._refuse(lookup_name)

    def _refuse(self, lookup_name: str) -> NoReturn:
        raise FieldError(f"{self.name} is sealed: only isnull can be asked of it, not {lookup_name}.")
