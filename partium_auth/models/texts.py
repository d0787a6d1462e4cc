"""Which texts of people may be stored: canonical addresses, and names without characters that nobody sees."""

from __future__ import annotations

import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

_UNSEEN_CATEGORIES = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_UNSEEN_LETTERS = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # fillers; no category tells them


def has_unseen(text: str) -> bool:
    """Tell whether a text has characters that are invisible or change the direction: two such texts look equal and are not."""
    return any(unicodedata.category(one) in _UNSEEN_CATEGORIES or one in _UNSEEN_LETTERS for one in text)


def validate_seen(text: str) -> None:
    """Raise ValidationError for a text with characters that :func:`has_unseen`."""
    if has_unseen(text):
        raise ValidationError(_("No line breaks, invisible characters or changes of direction."), code="invalid")


def canonical_email(email: str) -> str:
    """Return an e-mail address in the one form in which it is stored and compared; empty where it has none.

    It has none if Unicode normalization (NFKC) would make another address of it: a full-width or Kelvin letter would become
    somebody else's.
    """
    address = email.strip().lower()
    is_own = all(unicodedata.normalize("NFKC", text) == text for text in (email.strip(), address))
    return address if is_own and not has_unseen(address) and " " not in address else ""
