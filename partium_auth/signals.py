"""What a site can listen to. A handler is told of a key by its id, never by its value; one that raises is logged and stops nothing."""

from django.dispatch import Signal

key_rejected = Signal()
"""Partium did not accept an API key in use. ``sender=ApiKey``, ``key_id: uuid.UUID``, ``status: int`` (401 or 403)."""

key_exchanged = Signal()
"""An API key was, or could not be, exchanged for an access token. ``sender=ApiKey``, ``key_id: uuid.UUID``, ``ok: bool``."""

duplicate_key = Signal()
"""The same API key is kept for more than one organization. ``sender=ApiKey``, ``key_id: uuid.UUID`` (of the one just
added), ``organizations: list[str]`` (Partium's ids of all of them). Operators should look; nobody is locked out."""

key_event = Signal()
"""Something was added to the history of an organization's keys, and is committed. ``sender=ApiKeyEvent``,
``event: ApiKeyEvent``."""
