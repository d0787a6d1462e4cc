"""The signals that a site can listen to.

They name an API key, a grant or a provider by its id and never contain a token or a key. An exception in a receiver is logged
(logger ``django.dispatch``) and changes nothing else.
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

audit_event = Signal()
"""Something happened that is recorded, and was committed: a login, a change of a right, a key, an organization or a provider.
``sender=AuditEvent``, ``event: AuditEvent``."""

key_event = Signal()
"""As :data:`audit_event`, for events of API keys only."""

notice = Signal()
"""An organization's developers should know something. Sent once per change, after the commit. ``sender=AuditEvent``,
``kind: str`` (one of :data:`NOTICES`), ``organization: Organization | None`` (None: for the site's operators, because
organizations must not learn of each other), ``key_id: uuid.UUID | None``, ``person_id: str`` (primary key of a new developer;
otherwise empty)."""

NOTICES = ("developer_added", "key_added", "key_expires", "key_failing", "key_duplicate")
"""The kinds of :data:`notice`. ``key_expires`` needs ``manage.py partium_notices``, run daily."""

token_refreshed = Signal()
"""A grant has a new access token. ``sender=Grant``, ``grant_id: uuid.UUID``, ``kind: str`` (``oidc``, ``password`` or
``api_key``), ``upstream: str`` (``partium``, or ``oidc:`` and the provider's slug), ``organization: str`` (Partium's id
of the API key's organization; empty for a person's login), ``seconds: float`` (from taking the lease to the commit)."""

token_refresh_failed = Signal()
"""A refresh failed, or was called off. ``sender=Grant`` and the arguments of :data:`token_refreshed`, and ``reason: str``
(name of the exception's class), ``status: int | None`` (HTTP status; None: no readable response), ``rejected: bool`` (the
upstream rejected the credential itself: a login ends, an API key is not tried again for a minute)."""

login_refused = Signal()
"""A login was refused. ``sender``: the exception's class; ``provider: str`` (slug; empty: a Partium user name and password,
or an address that names no provider), ``check: str`` (the check that failed, as in the log line), ``reference: str`` (what
the visitor's page and the log line show)."""

upstream_called = Signal()
"""Partium or an identity provider was called. ``sender``: the class of the client, ``endpoint: str`` (one of
:data:`ENDPOINTS`), ``method: str``, ``url: str`` (scheme, host and path, without the query), ``status: int | None``
(None: no readable response), ``error: str`` (name of the exception's class where ``status`` is None, otherwise empty),
``seconds: float``, ``organization: str`` (Partium's id, where the call was made for one; otherwise empty),
``key_id: uuid.UUID | None`` (the API key that a call of the Find API is a use of).

Sent in the thread that made the call; a receiver delays the caller."""

ENDPOINTS = (
    "exchange",
    "refresh",
    "search",
    "page",
    "filters",
    "event",
    "request",
    "provider_metadata",
    "provider_token",
    "provider_userinfo",
    "provider_revocation",
    "provider_pushed_request",
)
"""The endpoints of :data:`upstream_called`. The first seven are Partium's; ``request`` is every other call that a site makes."""
