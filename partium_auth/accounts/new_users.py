"""Creating a user at a first login, with any user model, and updating the name at later ones."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model

from partium_auth.models.identities import identity_digest
from partium_auth.models.texts import canonical_email, misleads

_LONGEST_EMAIL = 254
_USERNAME = re.compile(r"[\w.@+-]{1,150}")
_NOBODYS_DOMAIN = "users.invalid"  # RFC 2606


def new_user(username: str, email: str = "") -> Any:
    """Return a new user without a password, made by the manager of the site's user model.

    Args:
        username: what its ``USERNAME_FIELD`` gets.
        email: left out where the model has no such field, or has it for the user name.
    """
    model = get_user_model()
    manager: Any = model._default_manager
    name = model.get_email_field_name()
    takes_email = any(field.name == name for field in model._meta.get_fields()) and not are_usernames_emails()
    if not takes_email:
        return manager.create_user(username, password=None)
    email = email if len(email) <= _LONGEST_EMAIL and canonical_email(email) else ""
    column = model._meta.get_field(name)
    if email or not getattr(column, "unique", False):
        return manager.create_user(username, password=None, **{name: email})
    # Several people without an address, in a column whose values are unique.
    user = manager.create_user(username, password=None, **{name: f"p-{uuid.uuid4().hex}@{_NOBODYS_DOMAIN}"})
    if column.null:
        setattr(user, name, None)
        user.save(update_fields=[name])
    return user


def new_username(issuer: str, subject: str, wanted: str) -> str:
    """Return a user name for a new account: the wanted one if it is free and a user name, else one made of the identity.

    Where the site's user names are e-mail addresses, the latter is in a domain that nobody has.
    """
    model = get_user_model()
    by_email = are_usernames_emails()
    # Not what create_user() would normalize to another name, and no letters that look like others: operators go by the name.
    is_name = (
        wanted.isascii() and 0 < len(wanted) <= _LONGEST_EMAIL and (by_email or _USERNAME.fullmatch(wanted) is not None)
    )
    if is_name and not model._default_manager.filter(**{f"{model.USERNAME_FIELD}__iexact": wanted}).exists():
        return wanted
    made = f"p-{identity_digest(issuer, subject)[:30]}"
    return f"{made}@{_NOBODYS_DOMAIN}" if by_email else made


def readable_username(name: str) -> str:
    """Return a name from elsewhere, that nobody has verified as an address, in the form of the site's user names.

    Where these are e-mail addresses, it becomes one in a domain that nobody has: ``ann@example.com`` is
    ``ann=example.com@users.invalid``, so that operators can read and find it. Empty where the name cannot be part of an address.
    """
    if not are_usernames_emails():
        return name
    return f"{name.replace('@', '=')}@{_NOBODYS_DOMAIN}" if _USERNAME.fullmatch(name) else ""


def are_usernames_emails() -> bool:
    """Tell whether the site's user model has e-mail addresses for user names."""
    model = get_user_model()
    return bool(model.get_email_field_name() == model.USERNAME_FIELD)


def set_names(user: Any, claims: Mapping[str, Any]) -> list[str]:
    """Set a person's first and last name from the claims, where the user model has these fields; return the fields that changed.

    Where a provider sends a whole ``name`` only, its first word becomes the first name and the rest the last name, so that
    ``get_full_name()`` returns the whole name again. A name that this site splits differently is not changed.
    """
    names = {"first_name": claims.get("given_name"), "last_name": claims.get("family_name")}
    whole = claims.get("name")
    if not any(names.values()) and isinstance(whole, str) and whole.strip():
        words = whole.split()
        if words == f"{getattr(user, 'first_name', '')} {getattr(user, 'last_name', '')}".split():
            return []
        names = {"first_name": words[0], "last_name": " ".join(words[1:])}
    changed = []
    for column in user._meta.concrete_fields:
        value = names.get(column.name)
        if isinstance(value, str) and not misleads(value) and getattr(user, column.name) != value[: column.max_length]:
            setattr(user, column.name, value[: column.max_length])
            changed.append(column.name)
    return changed


def set_email(user: Any, email: str) -> list[str]:
    """Set a person's address to the one that the provider vouches for, unless another account has it; return the fields that changed."""
    model = get_user_model()
    name = model.get_email_field_name()
    old = getattr(user, name, None)  # None: the model has no address
    if old is None or not canonical_email(email) or len(email) > _LONGEST_EMAIL or old.lower() == email.lower():
        return []
    if model._default_manager.filter(**{f"{name}__iexact": email}).exclude(pk=user.pk).exists():
        return []
    setattr(user, name, email)
    return [name]
