"""Who exists in the sandbox, and which credentials it has given out.

Every public method takes the one lock, so of two refreshes with the same token exactly one succeeds. Credentials are
kept as fingerprints only.
"""

from __future__ import annotations

import copy
import hashlib
import math
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .settings import Settings

Permission = Literal["find", "catalog"]
"""The API that a key was made for; Find's opens the Analytics API, too."""
CredentialKind = Literal["password", "api_key", "refresh", "access_token", "unknown", "none"]


def fingerprint(credential: str) -> str:
    """The name under which the sandbox knows a credential: the first 16 hex digits of its SHA-256.

    Args:
        credential: an API key, access token or refresh token; for a password login ``username:password``.
    """
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Rejected(Exception):
    """A credential is unknown, expired or revoked; the message says which."""


@dataclass(frozen=True)
class Organization:
    """One organization of a catalog (Partium's Catalog API, organizations)."""

    org_id: str
    display_name: str
    default_language: str


@dataclass(frozen=True)
class User:
    """A person who logs in with Partium user name and password, and what they may search."""

    username: str
    fingerprint: str
    organizations: tuple[str, ...]


@dataclass
class ApiKey:
    """An API key: it belongs to exactly one organization."""

    fingerprint: str
    organization: str
    name: str
    permission: Permission = "find"
    revoked: bool = False


@dataclass(frozen=True)
class Issued:
    """New tokens, and what they open."""

    access_token: str
    refresh_token: str | None
    lifetime_seconds: float
    organizations: tuple[str, ...]


@dataclass
class _Family:
    """All tokens that came from one password or key. Reuse of a refresh token revokes the whole family."""

    owner: User | ApiKey
    organizations: tuple[str, ...]
    generation: int = 0
    revoked: bool = False


@dataclass
class _Token:
    family: _Family
    expires_at: float
    generation: int
    revoked: bool = False
    rotated_at: float | None = None


_SAVED = {"settings", "_frozen_at", "_organizations", "_users", "_keys", "_access", "_refresh"}


class State:
    """Organizations, users, API keys and tokens, by the sandbox's own clock.

    Args:
        time: seconds since the epoch, such as :func:`time.time`; the settings' offset is added to it.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._frozen_at = 0.0
        self._lock = threading.RLock()
        self._signing_key = secrets.token_bytes(32)
        self.settings = Settings()
        self._organizations: dict[str, Organization] = {}
        self._users: dict[str, User] = {}
        self._keys: dict[str, ApiKey] = {}
        self._access: dict[str, _Token] = {}
        self._refresh: dict[str, _Token] = {}
        self._calls_in_second: dict[str, tuple[int, int]] = {}

    def saved(self) -> dict[str, Any]:
        """Return a copy of everything but the rates, for :meth:`restore`."""
        with self._lock:
            return copy.deepcopy({name: value for name, value in vars(self).items() if name in _SAVED})

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to what :meth:`saved` has returned."""
        with self._lock:
            vars(self).update(copy.deepcopy(saved))
            self._calls_in_second = {}

    # Settings and clock

    def change_settings(self, **changes: Any) -> dict[str, Any]:
        """Change some settings, or none where one of them is impossible, and return all."""
        with self._lock:
            changed = self.settings.changed(changes)
            if changed.clock_frozen and not self.settings.clock_frozen:
                self._frozen_at = self._time()
            self.settings = changed
            self._calls_in_second.clear()
            return asdict(changed)

    def advance_clock(self, seconds: float) -> float:
        """Move the clock and return its new time."""
        self.change_settings(clock_offset_seconds=self.settings.clock_offset_seconds + seconds)
        return self.now()

    def now(self) -> float:
        """Seconds since the epoch by the sandbox's own clock."""
        settings = self.settings
        return (self._frozen_at if settings.clock_frozen else self._time()) + settings.clock_offset_seconds

    # Who exists

    def add_organization(self, org_id: str, display_name: str = "", default_language: str = "en") -> str:
        """Add or replace an organization and return its id."""
        with self._lock:
            if not org_id:
                raise ValueError("An organization needs an id.")
            self._organizations[org_id] = Organization(org_id, display_name or org_id, default_language)
            return org_id

    def organization(self, org_id: str) -> Organization | None:
        """The organization with this id, or None."""
        return self._organizations.get(org_id)

    def add_user(self, username: str, password: str, organizations: Iterable[str]) -> None:
        """Add or replace a user."""
        with self._lock:
            if not username or ":" in username:
                raise ValueError("A user name is not empty and contains no colon (RFC 7617 section 2).")
            opened = tuple(self._require_organization(one) for one in organizations)
            self._users[username] = User(username, fingerprint(f"{username}:{password}"), opened)

    def remove_user(self, username: str) -> None:
        """Remove a user, and revoke at once what their logins obtained."""
        with self._lock:
            if self._users.pop(username, None) is None:
                raise LookupError("There is no such user.")
            for token in (*self._access.values(), *self._refresh.values()):
                owner = token.family.owner
                if isinstance(owner, User) and owner.username == username:
                    token.family.revoked = True

    def add_key(
        self, organization: str, name: str = "", value: str | None = None, permission: Permission = "find"
    ) -> str:
        """Add an API key for one of the APIs, by default with a random value, and return its value."""
        with self._lock:
            self._require_organization(organization)
            value = secrets.token_urlsafe(32) if value is None else value
            mark = fingerprint(value)
            if not value or mark in self._keys:
                raise ValueError("An API key is not empty and exists once.")
            self._keys[mark] = ApiKey(mark, organization, name, permission)
            return value

    def _require_organization(self, org_id: str) -> str:
        if org_id not in self._organizations:
            raise ValueError(f"There is no organization {org_id!r}.")
        return org_id

    def describe(self) -> dict[str, Any]:
        """What exists, as JSON-able values without a single credential."""
        with self._lock:
            return {
                "settings": asdict(self.settings),
                "now": self.now(),
                "organizations": [asdict(one) for one in self._organizations.values()],
                "users": [
                    {"username": one.username, "organizations": one.organizations} for one in self._users.values()
                ],
                "keys": [asdict(one) for one in self._keys.values()],
            }

    # Issuing tokens

    def exchange_password(self, username: str, password: str) -> Issued:
        """Tokens for user name and password. The message of :class:`Rejected` does not tell which one is wrong."""
        with self._lock:
            user = self._users.get(username)
            if user is None or user.fingerprint != fingerprint(f"{username}:{password}"):
                raise Rejected("Unknown user name or wrong password.")
            return self._issue(_Family(user, user.organizations))

    def exchange_key(self, value: str) -> Issued:
        """Tokens for an API key."""
        with self._lock:
            key = self._keys.get(fingerprint(value))
            if key is None:
                raise Rejected("Unknown API key.")
            if key.revoked:
                raise Rejected("This API key was revoked.")
            return self._issue(_Family(key, (key.organization,)))

    def refresh(self, value: str) -> Issued:
        """New tokens for a refresh token. Using one again after a rotation revokes its whole family."""
        with self._lock:
            settings, now = self.settings, self.now()
            token = self._refresh.get(fingerprint(value))
            if token is None:
                raise Rejected("Unknown refresh token.")
            family = token.family
            key_revoked = isinstance(family.owner, ApiKey) and family.owner.revoked
            if token.revoked or family.revoked or key_revoked:
                raise Rejected("This refresh token was revoked.")
            if token.expires_at <= now:
                raise Rejected("This refresh token has expired.")
            if token.rotated_at is not None:
                is_previous = token.generation == family.generation - 1
                if not is_previous or now - token.rotated_at > settings.grace_seconds:
                    family.revoked = True
                    raise Rejected("This refresh token was used before: all tokens of its family are revoked now.")
                return self._issue(family, token)
            if settings.rotate and settings.refresh_token_in == "all":
                token.rotated_at = now
                return self._issue(family, token)
            return self._issue(family, token, unchanged=value)

    def _issue(self, family: _Family, predecessor: _Token | None = None, unchanged: str | None = None) -> Issued:
        """Issue an access token, and a refresh token: a new one, or the one that stays ``unchanged``."""
        settings, now = self.settings, self.now()
        refresh_token = unchanged if settings.refresh_token_in == "all" else None
        if unchanged is None and settings.refresh_token_in != "none":
            refresh_token = secrets.token_urlsafe(32)
            generation = predecessor.generation + 1 if predecessor else 0
            family.generation = max(family.generation, generation)
            expires_at = now + settings.refresh_lifetime_seconds
            self._refresh[fingerprint(refresh_token)] = _Token(family, expires_at, generation)
        expires_at = now + settings.lifetime_seconds
        access_token = secrets.token_urlsafe(32)
        if settings.token_format == "jwt":
            access_token = self._jwt(family, now, expires_at)
        self._access[fingerprint(access_token)] = _Token(family, expires_at, family.generation)
        return Issued(access_token, refresh_token, settings.lifetime_seconds, family.organizations)

    def _jwt(self, family: _Family, now: float, expires_at: float) -> str:
        """A JWT whose ``exp`` a client may read. The sandbox looks it up like any other token."""
        import jwt  # here, so that a sandbox without JWTs starts without loading the cryptography

        claims = {
            "iss": "partium-sandbox",
            "sub": family.owner.username if isinstance(family.owner, User) else f"key-{family.owner.fingerprint}",
            "organizations": family.organizations,
            "iat": int(now),
            "exp": int(expires_at),
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._signing_key, "HS256")

    # Recognizing tokens

    def organizations_of(self, value: str) -> tuple[str, ...] | None:
        """What an API key or an access token of the sandbox opens, or None where the sandbox has never issued it."""
        with self._lock:
            mark = fingerprint(value)
            key, token = self._keys.get(mark), self._access.get(mark)
            if key is not None:
                if key.revoked:
                    raise Rejected("This API key was revoked.")
                return (key.organization,)
            if token is None:
                return None
            if token.expires_at <= self.now():
                raise Rejected("This access token has expired.")
            if token.revoked or token.family.revoked:
                raise Rejected("This access token was revoked.")
            return token.family.organizations

    def permission_of(self, value: str) -> Permission:
        """The API that a bearer opens: people's tokens open Find."""
        with self._lock:
            mark = fingerprint(value)
            key, token = self._keys.get(mark), self._access.get(mark)
            owner = key or (token.family.owner if token is not None else None)
            return owner.permission if isinstance(owner, ApiKey) else "find"

    def kind_of(self, mark: str) -> CredentialKind:
        """What kind of credential has this fingerprint, also after its end; ``unknown`` for none."""
        with self._lock:
            if mark in self._keys:
                return "api_key"
            if mark in self._access:
                return "access_token"
            return "refresh" if mark in self._refresh else "unknown"

    # Revoking

    def revoke_key(self, value: str) -> None:
        """Revoke an API key, and with it the refresh tokens obtained with it."""
        with self._lock:
            key = self._keys.get(fingerprint(value))
            if key is None:
                raise LookupError("There is no such API key.")
            key.revoked = True

    def revoke_token(self, value: str) -> None:
        """Revoke one access or refresh token and nothing else."""
        with self._lock:
            self._token(value).revoked = True

    def revoke_family(self, value: str) -> None:
        """Revoke every access and refresh token that came from the same password or key exchange as this one."""
        with self._lock:
            self._token(value).family.revoked = True

    def _token(self, value: str) -> _Token:
        mark = fingerprint(value)
        token = self._access.get(mark) or self._refresh.get(mark)
        if token is None:
            raise LookupError("There is no such access or refresh token.")
        return token

    # Rate limit

    def seconds_until_allowed(self, organization: str) -> float:
        """Count a Find call against the organization's rate; 0 where it may pass."""
        with self._lock:
            now = self.now()
            second = math.floor(now)
            last, calls = self._calls_in_second.get(organization, (second, 0))
            calls = calls if last == second else 0
            if calls >= self.settings.rate_limit_per_second:
                return second + 1 - now
            self._calls_in_second[organization] = second, calls + 1
            return 0.0
