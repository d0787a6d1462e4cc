"""The signals that a site can listen to.

They name an API key by its id and never contain its value. An exception in a receiver is logged and changes nothing else.
"""

from django.dispatch import Signal

key_rejected = Signal()
"""Partium rejected an API key in use. ``sender=ApiKey``, ``key_id: uuid.UUID``, ``status: int`` (401 or 403)."""

key_exchanged = Signal()
"""An API key was exchanged for an access token (``ok``), or could not be. ``sender=ApiKey``, ``key_id: uuid.UUID``,
``ok: bool``."""

duplicate_key = Signal()
"""The same API key is stored for more than one organization. ``sender=ApiKey``, ``key_id: uuid.UUID`` (of the one just
added), ``organizations: list[str]`` (Partium's ids of all of them). All of them can still use it."""

key_event = Signal()
"""An event was added to the history of an organization's keys and committed. ``sender=ApiKeyEvent``,
``event: ApiKeyEvent``."""
