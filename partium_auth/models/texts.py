"""Which texts of people may be stored: canonical addresses, and names that do not look like others."""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

_UNSEEN_CATEGORIES = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_UNSEEN_LETTERS = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # fillers; no category tells them


_LOOKALIKE_ALPHABETS = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}  # as the names of characters begin


def misleads(text: str) -> bool:
    """Tell whether a text may look like another: it :func:`_has_unseen` or :func:`_mixes_alphabets`."""
    return _has_unseen(text) or _mixes_alphabets(text)


def validate_seen(text: str) -> None:
    """Raise ValidationError for a text that :func:`misleads`."""
    if _has_unseen(text):
        raise ValidationError(_("No line breaks, invisible characters or changes of direction."), code="invalid")
    if _mixes_alphabets(text):
        raise ValidationError(
            _("One word has letters of several alphabets that look alike. Type it, do not paste it."), code="invalid"
        )


def _has_unseen(text: str) -> bool:
    """Tell whether a text has characters that are invisible or change the direction."""
    return any(unicodedata.category(one) in _UNSEEN_CATEGORIES or one in _UNSEEN_LETTERS for one in text)


def _mixes_alphabets(text: str) -> bool:
    """Tell whether a word mixes alphabets whose letters look alike, as the Cyrillic а does in аcme."""
    for word in re.split(r"[\W_]+", text):
        names = (unicodedata.name(one, "") for one in word if one.isalpha())
        if len(_LOOKALIKE_ALPHABETS.intersection(name.partition(" ")[0] for name in names)) > 1:
            return True
    return False


def canonical_email(email: str) -> str:
    """Return an e-mail address in the one form in which it is stored and compared; empty where it has none.

    It has none if Unicode normalization (NFKC) would make another address of it: a full-width or Kelvin letter would become
    somebody else's.
    """
    address = email.strip().lower()
    is_own = all(unicodedata.normalize("NFKC", text) == text for text in (email.strip(), address))
    return address if is_own and not misleads(address) and " " not in address else ""
