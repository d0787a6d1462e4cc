"""The app's settings, typed, and read on every use, so that ``override_settings`` works.

Every ``PARTIUM_…`` setting is a property of :class:`Conf`; its docstring is the documentation. The base library's
``OIDC_…`` settings configure the provider named ``default`` and are read in ``partium_auth.oidc.providers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from partium_auth.assumptions import Assumptions

PREFIX = "PARTIUM_"


def _get(name: str, default: Any) -> Any:
    return getattr(settings, name, default)


def _wrong(name: str, expected: str) -> ImproperlyConfigured:
    # Do not quote the value: it may be a secret in the wrong setting.
    return ImproperlyConfigured(f"{name} must be {expected}.")


def _text(name: str, default: str, *, pattern: str = "(?s:.*)", expected: str = "a string") -> str:
    value = _get(name, default)
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
        raise _wrong(name, f"{expected}, such as {default!r}" if default else expected)
    return value


def _path(name: str, default: str) -> str:
    # Without the slash, the credential would go to another host: https://api.partium.io1/auth.
    return _text(name, default, pattern=r"/(?!/)\S+", expected="a path that begins with one slash")


def _optional_text(name: str, expected: str) -> str | None:
    return None if _get(name, None) is None else _text(name, "", expected=f"{expected}, or None")


def _flag(name: str, default: bool) -> bool:
    value = _get(name, default)
    if not isinstance(value, bool):
        raise _wrong(name, "True or False, without quotes")
    return value


def _seconds(name: str, default: float, *, low: float, high: float) -> float:
    value = _get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(name, f"a number of seconds from {low:g} to {high:g}, such as {default or low:g}")
    return float(value)


def _count(name: str, default: int, *, low: int, high: int) -> int:
    value = _get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(name, f"a whole number from {low} to {high}, such as {default or low}")
    return value


def _texts(name: str, default: Sequence[str]) -> tuple[str, ...]:
    value = _get(name, default)
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise _wrong(name, f"a list of strings, such as {list(default) or ['one', 'two']}")
    return tuple(value)


class Conf:
    """One property per setting, named without the prefix and in lower case."""

    @property
    def api_url(self) -> str:
        """``PARTIUM_API_URL``: the address of Partium's API; plain ``http`` only to this machine."""
        return _text("PARTIUM_API_URL", "https://api.partium.io").rstrip("/")

    @property
    def auth_path(self) -> str:
        """``PARTIUM_AUTH_PATH``: where credentials are exchanged for tokens. Partium's pages name ``/1/auth`` and ``/auth/``."""
        return _path("PARTIUM_AUTH_PATH", "/1/auth")

    @property
    def refresh_path(self) -> str:
        """``PARTIUM_REFRESH_PATH``: where tokens are refreshed."""
        return _path("PARTIUM_REFRESH_PATH", "/auth/refresh")

    @property
    def encryption_keys(self) -> tuple[str, ...]:
        """``PARTIUM_ENCRYPTION_KEYS``: ``["kid:key", …]``; the first one seals new secrets, all of them open stored ones.

        Required; never derived from ``SECRET_KEY``. ``manage.py partium_generate_encryption_key`` makes one.
        """
        return _texts("PARTIUM_ENCRYPTION_KEYS", ())

    @property
    def timeout_seconds(self) -> float:
        """``PARTIUM_TIMEOUT``: seconds that a search may take in total. Token requests always have 8 s."""
        return _seconds("PARTIUM_TIMEOUT", 10, low=1, high=120)

    @property
    def executor(self) -> Literal["thread", "inline"]:
        """``PARTIUM_EXECUTOR``: ``"thread"`` refreshes tokens in background threads, each with its own database
        connection; ``"inline"`` refreshes in the calling thread, for ``TestCase`` and for hosts without threads."""
        value = _get("PARTIUM_EXECUTOR", "thread")
        if value == "thread":
            return "thread"
        if value == "inline":
            return "inline"
        raise _wrong("PARTIUM_EXECUTOR", '"thread" or "inline"')

    @property
    def refresh_threads(self) -> int:
        """``PARTIUM_REFRESH_THREADS``: how many refreshes of one upstream run at once in a process.

        Refreshes per second are processes × threads ÷ the upstream's latency; see docs/scale.md.
        """
        return _count("PARTIUM_REFRESH_THREADS", 2, low=1, high=64)

    @property
    def max_waiting(self) -> int | None:
        """``PARTIUM_MAX_WAITING``: how many requests of one process may wait for Partium or an identity provider at once: for a
        token for up to 5 s, or for a login. None: three quarters of the threads that serve requests, and at least 2.

        The others are answered at once with 503, so that pages that need no token stay quick while Partium is slow. Requests
        that occupy no thread of the server (ASGI) count separately: 50 times as many of them may wait. A search counts after 2 s.
        """
        if _get("PARTIUM_MAX_WAITING", None) is None:
            return None
        return _count("PARTIUM_MAX_WAITING", 0, low=1, high=1000)

    @property
    def claims(self) -> Callable[..., Mapping[str, Any]] | None:
        """``PARTIUM_CLAIMS``: dotted path of a function that reads a provider's claims; empty: they are read as they come.

        ``read(claims, provider)`` returns a dictionary of claims in which organizations, roles, names and addresses are as this
        app expects them; ``partium_auth.contrib.claims`` has some, and says how to write one.
        """
        path = _text("PARTIUM_CLAIMS", "")
        try:
            found = import_string(path) if path else None
        except ImportError:
            found = path  # no function
        if found is not None and not callable(found):
            raise _wrong("PARTIUM_CLAIMS", "the path of a function, such as 'partium_auth.contrib.claims.keycloak'")
        return found

    @property
    def organizations_claim(self) -> str:
        """``PARTIUM_ORGANIZATIONS_CLAIM``: the claim with the ids of a person's organizations, a string or a list.

        A name, or a dotted path into nested claims such as ``resource_access.portal.organizations``.
        """
        return _text("PARTIUM_ORGANIZATIONS_CLAIM", "organizations")

    @property
    def roles_claim(self) -> str:
        """``PARTIUM_ROLES_CLAIM``: the claim that lists roles (``realm_access.roles``, ``roles``, ``groups``, …)."""
        return _text("PARTIUM_ROLES_CLAIM", "roles")

    @property
    def developer_roles(self) -> tuple[str, ...]:
        """``PARTIUM_DEVELOPER_ROLES``: roles that make a person a developer. ``developer`` in the claim counts for every
        organization in the claims, ``acme:developer`` for acme only."""
        return _texts("PARTIUM_DEVELOPER_ROLES", ("developer",))

    @property
    def staff_roles(self) -> tuple[str, ...]:
        """``PARTIUM_STAFF_ROLES``: roles that give ``is_staff``; without the role it is withdrawn. Empty: logins never change it."""
        return _texts("PARTIUM_STAFF_ROLES", ())

    @property
    def superuser_roles(self) -> tuple[str, ...]:
        """``PARTIUM_SUPERUSER_ROLES``: the same for ``is_superuser``."""
        return _texts("PARTIUM_SUPERUSER_ROLES", ())

    @property
    def link_by_verified_email(self) -> bool:
        """``PARTIUM_LINK_BY_VERIFIED_EMAIL``: a first login through a site-wide provider may be linked to the only account
        with the same e-mail address, if that is unprivileged and the provider says ``email_verified: true``."""
        return _flag("PARTIUM_LINK_BY_VERIFIED_EMAIL", False)

    @property
    def password_organization(self) -> str | None:
        """``PARTIUM_PASSWORD_ORGANIZATION``: id of the organization that everybody joins who logs in with Partium user name
        and password; None: such people need an invitation, or a membership added in the admin."""
        return _optional_text("PARTIUM_PASSWORD_ORGANIZATION", "the id of an organization, such as 'acme'")

    @property
    def reauthenticate_after_seconds(self) -> float | None:
        """``PARTIUM_REAUTHENTICATE_AFTER``: seconds after which a person has to log in again, because the claims of the login
        are too old; None: when the session ends."""
        if _get("PARTIUM_REAUTHENTICATE_AFTER", None) is None:
            return None
        return _seconds("PARTIUM_REAUTHENTICATE_AFTER", 0, low=60, high=365 * 86400)

    @property
    def fresh_login_minutes(self) -> int | None:
        """``PARTIUM_FRESH_LOGIN_MINUTES``: keys are added, rotated and revoked, and people invited, only within so many minutes
        after the person has proved who they are; None: as long as the login lasts."""
        if _get("PARTIUM_FRESH_LOGIN_MINUTES", None) is None:
            return None
        return _count("PARTIUM_FRESH_LOGIN_MINUTES", 0, low=5, high=1440)

    @property
    def password_attempts(self) -> int:
        """``PARTIUM_PASSWORD_ATTEMPTS``: wrong Partium passwords that one address may try for one account within 5 minutes.

        An account gets 5 times, and an address 10 times as many in all. The address is ``REMOTE_ADDR``: behind a proxy let a
        middleware set it, or all visitors are one address. 0: no limit, for sites with a throttle of their own.
        """
        return _count("PARTIUM_PASSWORD_ATTEMPTS", 10, low=0, high=10_000)

    @property
    def developers_manage_members(self) -> bool:
        """``PARTIUM_DEVELOPERS_MANAGE_MEMBERS``: developers may invite people to their organization and remove members."""
        return _flag("PARTIUM_DEVELOPERS_MANAGE_MEMBERS", False)

    @property
    def notices_by_email(self) -> bool:
        """``PARTIUM_NOTICES_BY_EMAIL``: e-mail each notice to the organization's developers, with Django's e-mail settings."""
        return _flag("PARTIUM_NOTICES_BY_EMAIL", False)

    @property
    def find_sdk_url(self) -> str:
        """``PARTIUM_FIND_SDK_URL``: where browsers load Partium's Find SDK from; empty: the page includes it itself."""
        expected = "an address that begins with https:// or a slash, or an empty string"
        return _text("PARTIUM_FIND_SDK_URL", "", pattern=r"((https?:/)?/\S+)?", expected=expected)

    @property
    def language(self) -> str | None:
        """``PARTIUM_LANGUAGE``: the language of searches; None: Django's active language."""
        return _optional_text("PARTIUM_LANGUAGE", "a language code, such as 'de'")

    @property
    def assumptions(self) -> Assumptions:
        """``PARTIUM_ASSUMPTIONS``: paths and names that Partium's public pages do not state, where yours differ, such as
        ``{"page_path": "/1/find/search/{session_id}?offset={skip}&limit={limit}"}``. docs/partium-api.md lists them."""
        from partium_auth.assumptions import Assumptions

        value = _get("PARTIUM_ASSUMPTIONS", {})
        if not isinstance(value, Mapping):
            raise _wrong("PARTIUM_ASSUMPTIONS", "a dictionary, such as {'relevance_field': 'relevancy'}")
        try:
            return Assumptions.changed(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"PARTIUM_ASSUMPTIONS: {error}") from None

    @property
    def health(self) -> bool:
        """``PARTIUM_HEALTH``: answer probes at ``partium_auth:health``, without a login; False: 404."""
        return _flag("PARTIUM_HEALTH", False)


conf = Conf()

SETTINGS: Mapping[str, str] = {
    PREFIX + name.upper(): attribute
    for attribute, name in (
        (attribute, attribute.removesuffix("_seconds"))
        for attribute, value in vars(Conf).items()
        if isinstance(value, property)
    )
}
"""Every setting's name → the attribute of :data:`conf` that reads it."""
