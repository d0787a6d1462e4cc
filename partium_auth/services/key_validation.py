"""Validation of what people type for a key: its value, its label, its expiry."""

from __future__ import annotations

import datetime as dt

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from partium_auth.models import ApiKey
from partium_auth.models.keys import validate_storable
from partium_auth.models.texts import validate_seen
from partium_auth.sealed.plain import Plain

LONGEST_VALUE = 4096


def clean_value(value: Plain) -> Plain:
    """Return a pasted key without the space around it.

    Raises:
        ValidationError: empty, over 4096 characters, or with anything in it but visible ASCII characters, which is all that
            an ``Authorization`` header takes (RFC 6750 §2.1).
    """
    value = value.strip()
    if not value:
        raise ValidationError({"value": ValidationError(_("Paste the key that Partium issued."), code="required")})
    if len(value) > LONGEST_VALUE:
        raise ValidationError({"value": ValidationError(_("This is too long to be an API key."), code="invalid")})
    if any(not "!" <= character <= "~" for character in value.reveal()):
        message = _("There are spaces, line breaks or unusual characters in this key. Was more copied than the key?")
        raise ValidationError({"value": ValidationError(message, code="invalid")})
    return value


def clean_label(label: str, value: str | Plain = "") -> str:
    """Return a label that can be stored.

    Args:
        label: as it was typed.
        value: the key; a label that contains it is refused, since labels are shown.

    Raises:
        ValidationError: empty, over 100 characters, invisible characters, or the key itself.
    """
    value, clean = Plain.of(value), label.strip()
    if not clean:
        raise ValidationError({"label": ValidationError(_("Give the key a label."), code="required")})
    if len(clean) > 100:
        raise ValidationError({"label": ValidationError(_("At most 100 characters."), code="invalid")})
    try:
        validate_seen(clean)
    except ValidationError as error:
        raise ValidationError({"label": error}) from None
    if value and value.reveal() in clean:
        message = _("The key itself was pasted here too. A label is shown to everybody who sees the list.")
        raise ValidationError({"label": ValidationError(message, code="invalid")})
    return clean


def clean_label_of(key: ApiKey, label: str) -> str:
    """Return a new label of a stored key. Raises ValidationError as :func:`clean_label`, EncryptionError: the key does not open."""
    return clean_label(label, "" if key.secret is None else key.secret.plain())


def check_expiry(expires_at: dt.datetime | None, *, is_new: bool) -> None:
    """Raise ValidationError for an expiry that cannot be stored, and for one of a new key that is in the past."""
    if expires_at is None:
        return
    try:
        validate_storable(expires_at)
    except ValidationError as error:
        raise ValidationError({"expires_at": error}) from None
    if is_new and expires_at <= timezone.now():
        raise ValidationError({"expires_at": _("This is in the past.")})


def hint_of(value: Plain) -> str:
    """Return the last four characters of a key; nothing of a short one, because four would reveal too much of it."""
    return value.reveal()[-4:] if len(value) >= 16 else ""
