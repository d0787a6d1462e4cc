"""``SealedField`` stores a secret sealed, and loads it as ``Sealed``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import FieldError
from django.db import models

from partium_auth.sealed import encryption
from partium_auth.sealed.plain import MASK
from partium_auth.sealed.values import Sealed, context, context_of, seal, sealed_with

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["MASK", "Sealed", "SealedField", "context", "context_of", "seal", "sealed_with"]


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
    """Stores a secret sealed. Accepts ``Sealed`` (made by :func:`seal`) or None; plain text is a ``TypeError``.

    ``isnull`` is the only look-up. It has no form field, and ``dumpdata`` writes the ciphertext.
    """

    description = "A sealed secret"

    def accept(self, value: Any) -> Any:
        """Return the value if it may be assigned. Raises TypeError for plain text."""
        if value is None or isinstance(value, Sealed):
            return value
        raise TypeError(f"{self.name} takes a sealed value (made by partium_auth.fields.seal) or None.")

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, self.attname, _SealedAttribute(self))

    def get_default(self) -> None:
        # A text field's default is an empty string, which would be plain text.
        return None

    def from_db_value(self, value: str | None, expression: Any, connection: BaseDatabaseWrapper) -> Sealed | None:
        return None if value is None else Sealed(value)

    def to_python(self, value: Any) -> Any:
        # Deserializers call this with what dumpdata wrote. Plain text raises only at the assignment: Django would quote
        # the value in the message of an exception raised here.
        return Sealed(value) if isinstance(value, str) and encryption.is_sealed(value) else value

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
        return self._reject(lookup_name)

    def get_transform(self, lookup_name: str) -> Any:
        return self._reject(lookup_name)

    def _reject(self, lookup_name: str) -> NoReturn:
        raise FieldError(f"{self.name} is sealed: isnull is its only look-up, {lookup_name} is not possible.")
