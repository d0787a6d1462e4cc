"""Who exists in the sandbox and which credentials it has given out: organizations, users, API keys, tokens, families.

No sockets and no JSON here. The clock is passed in; every public method takes the one lock, so two refreshes with the
same token have exactly one winner. Credentials are kept as fingerprints only: the sandbox hands a token out once and
recognizes it later, it could not show it again.
"""

# ruff: noqa: S105 - settings whose names contain "token" hold no secret

from __future__ import annotations

import base64
import difflib
import hashlib
import hmac
import json
import math
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

CredentialKind = Literal["password", "api_key", "refresh", "access_token", "unknown", "none"]

_PRUNE_EVERY = 1_000


def fingerprint(credential: str) -> str:
    """The name under which the sandbox knows a credential: the first 16 hex digits of its SHA-256.

    Args:
        credential: an API key, access token or refresh token; for a password log-in ``username:password``.
    """
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Settings:
    """How the sandbox behaves. What Partium does not document is a setting, and the default is the common case.

    Attributes:
        lifetime_seconds: of new access tokens. Partium's default is 600.
        refresh_lifetime_seconds: of new refresh tokens.
        token_format: new access tokens are ``"opaque"`` or ``"jwt"`` (a signed JWT with ``exp``).
        rotate: a refresh spends its refresh token and answers with a new one; off, the same one stays valid.
        grace_seconds: how long the *previous* refresh token of a family is still accepted after it was spent.
        refresh_token_in: which answers carry a refresh token: ``"all"``, only the ``"exchange"`` of a password or key
            (refreshes then do not rotate), or ``"none"``.
        send_expires_in: whether answers carry the lifetime.
        naming: ``"snake"`` (``access_token``, RFC 6749 section 5.1) or ``"camel"`` (``accessToken``).
        revoke_cascades: revoking an API key ends the access tokens obtained with it at once. Off by default: they live
            on to their end, as with any token that is checked by its signature alone, so that is what a client has to
            cope with. Their refresh tokens die with the key either way.
        rate_limit_per_second: Find calls per organization and second, and the burst from a cold start.
        search_lifetime_seconds: how long the pages of a search can be fetched.
        issuer_cache_seconds: how long a provider's keys, and its answer about a token, are remembered.
        auth_paths, refresh_paths: the paths that exist; on any other the sandbox answers 404.
        clock_offset_seconds: how far the sandbox's clock, and its ``Date`` header, is ahead of this machine's.
        clock_frozen: the clock stands still, so that only :attr:`clock_offset_seconds` moves it.
    """

    lifetime_seconds: float = 600
    refresh_lifetime_seconds: float = 30 * 86_400
    token_format: Literal["opaque", "jwt"] = "opaque"
    rotate: bool = True
    grace_seconds: float = 0
    refresh_token_in: Literal["all", "exchange", "none"] = "all"
    send_expires_in: bool = True
    naming: Literal["snake", "camel"] = "snake"
    revoke_cascades: bool = False
    rate_limit_per_second: float = 150
    search_lifetime_seconds: float = 3_600
    issuer_cache_seconds: float = 60
    auth_paths: tuple[str, ...] = ("/auth", "/auth/", "/1/auth", "/1/auth/")
    refresh_paths: tuple[str, ...] = ("/auth/refresh", "/1/auth/refresh")
    clock_offset_seconds: float = 0
    clock_frozen: bool = False

    def changed(self, changes: dict[str, Any]) -> Settings:
        """A copy with some settings changed.

        Raises:
            ValueError: an unknown name (with the nearest known one), or a value of the wrong type or range.
        """
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        choices = {
            "token_format": ("opaque", "jwt"),
            "refresh_token_in": ("all", "exchange", "none"),
            "naming": ("snake", "camel"),
        }
        checked: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(f"Unknown setting {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
            now = known[name]
            if name in choices:
                fits = value in choices[name]
            elif isinstance(now, bool):
                fits = isinstance(value, bool)
            elif isinstance(now, tuple):
                fits = isinstance(value, list | tuple) and all(isinstance(path, str) for path in value)
                value = tuple(value) if fits else value
            else:
                fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
                fits = fits and (value >= 0 or name == "clock_offset_seconds")
            if not fits:
                raise ValueError(f"The setting {name!r} cannot be {value!r}.")
            checked[name] = value
        return replace(self, **checked)

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Organization:
    """One organization of a catalog (Partium's Catalog API, organizations)."""

    org_id: str
    display_name: str
    parent_id: str | None = None
    default_language: str = "en"


@dataclass(frozen=True)
class User:
    """A person who logs in with Partium user name and password."""

    username: str
    login_fingerprint: str
    organizations: tuple[str, ...]


@dataclass
class ApiKey:
    """An API key: it belongs to exactly one organization."""

    fingerprint: str
    organization: str
    name: str
    hint: str
    revoked: bool = False


@dataclass(frozen=True)
class Bearer:
    """What a bearer credential opens."""

    kind: Literal["api_key", "access_token"]
    organizations: tuple[str, ...]


@dataclass(frozen=True)
class Issued:
    """A freshly issued pair of tokens; the only place that holds their values."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: float
    organizations: tuple[str, ...]


class Rejected(Exception):
    """The credential is unknown, spent, expired or revoked. The message says which and holds no credential."""


@dataclass
class _Family:
    """Everything that came from one exchange; it is revoked as one."""

    subject: str
    user: str | None
    key: str | None
    organizations: tuple[str, ...]
    generation: int = 0
    revoked: bool = False


@dataclass
class _Token:
    family: _Family
    expires_at: float
    generation: int
    revoked: bool = False
    spent_at: float | None = None


@dataclass
class _Bucket:
    tokens: float
    updated_at: float


class State:
    """Everything the sandbox knows about credentials.

    Args:
        time: seconds since the epoch, such as :func:`time.time`; the settings' offset is added to it.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._frozen_at = 0.0
        self._lock = threading.RLock()
        # Signs the JWTs. Clients have no use for the key: only the sandbox accepts them, and by looking them up.
        self._signing_key = secrets.token_bytes(32)
        self.clear()

    def clear(self) -> None:
        """Forget everything, settings included."""
        with self._lock:
            self._settings = Settings()
            self._organizations: dict[str, Organization] = {}
            self._users: dict[str, User] = {}
            self._keys: dict[str, ApiKey] = {}
            self._access: dict[str, _Token] = {}
            self._refresh: dict[str, _Token] = {}
            self._buckets: dict[str, _Bucket] = {}
            self._issued = 0

    # Settings and clock

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def change_settings(self, changes: dict[str, Any]) -> Settings:
        """Change some settings at once for everything that happens from now on.

        Raises:
            ValueError: an unknown name or an impossible value; nothing is changed then.
        """
        with self._lock:
            changed = self._settings.changed(changes)
            if changed.clock_frozen and not self._settings.clock_frozen:
                self._frozen_at = self._time()
            self._settings = changed
            self._buckets.clear()
            return changed

    def now(self) -> float:
        """Seconds since the epoch by the sandbox's own clock."""
        settings = self._settings
        return (self._frozen_at if settings.clock_frozen else self._time()) + settings.clock_offset_seconds

    # Who exists

    def add_organization(
        self, org_id: str, display_name: str = "", parent_id: str | None = None, default_language: str = "en"
    ) -> Organization:
        """Add an organization, or replace the one with this id.

        Raises:
            ValueError: an empty id, or an unknown parent.
        """
        with self._lock:
            if not org_id:
                raise ValueError("An organization needs an id.")
            if parent_id is not None and parent_id not in self._organizations:
                raise ValueError(f"There is no organization {parent_id!r} to be the parent.")
            organization = Organization(org_id, display_name or org_id, parent_id, default_language)
            self._organizations[org_id] = organization
            return organization

    def organization(self, org_id: str) -> Organization | None:
        """The organization with this id, or None."""
        return self._organizations.get(org_id)

    def add_user(self, username: str, login_fingerprint: str, organizations: Iterable[str]) -> User:
        """Add a user, or replace the one of this name (a new password; tokens already issued stay).

        Args:
            username: without ``:`` (RFC 7617 section 2).
            login_fingerprint: :func:`fingerprint` of ``username:password``.
            organizations: ids of the organizations that this person may search.

        Raises:
            ValueError: an unusable name, or an unknown organization.
        """
        with self._lock:
            if not username or ":" in username:
                raise ValueError("A user name is not empty and contains no colon (RFC 7617 section 2).")
            user = User(username, login_fingerprint, tuple(self._require_organization(one) for one in organizations))
            self._users[username] = user
            return user

    def remove_user(self, username: str) -> None:
        """Remove a user; what their log-ins obtained is revoked at once.

        Raises:
            LookupError: no such user.
        """
        with self._lock:
            if self._users.pop(username, None) is None:
                raise LookupError("There is no such user.")
            for token in (*self._access.values(), *self._refresh.values()):
                if token.family.user == username:
                    token.family.revoked = True

    def add_key(self, organization: str, name: str = "", value: str | None = None) -> str:
        """Add an API key and return its value.

        Raises:
            ValueError: an unknown organization, an empty value, or a value that exists already.
        """
        with self._lock:
            self._require_organization(organization)
            if value is None:
                value = secrets.token_urlsafe(32)
            mark = fingerprint(value)
            if not value or mark in self._keys:
                raise ValueError("An API key is not empty and exists once.")
            self._keys[mark] = ApiKey(mark, organization, name, value[-4:])
            return value

    def revoke_key(self, mark: str) -> None:
        """Revoke an API key for good. See :attr:`Settings.revoke_cascades` for the tokens obtained with it.

        Args:
            mark: the key's fingerprint.

        Raises:
            LookupError: no such key.
        """
        with self._lock:
            key = self._keys.get(mark)
            if key is None:
                raise LookupError("There is no such API key.")
            key.revoked = True

    def _require_organization(self, org_id: str) -> str:
        if org_id not in self._organizations:
            raise ValueError(f"There is no organization {org_id!r}.")
        return org_id

    # Issuing

    def exchange_password(self, username: str, password: str) -> Issued:
        """Tokens for user name and password.

        Raises:
            Rejected: unknown user or wrong password (deliberately the same words).
        """
        with self._lock:
            user = self._users.get(username)
            given = fingerprint(f"{username}:{password}")
            if user is None or not hmac.compare_digest(user.login_fingerprint, given):
                raise Rejected("Unknown user name or wrong password.")
            return self._issue(_Family(username, username, None, user.organizations), None)

    def exchange_key(self, value: str) -> Issued:
        """Tokens for an API key.

        Raises:
            Rejected: the key is unknown or revoked.
        """
        with self._lock:
            key = self._keys.get(fingerprint(value))
            if key is None:
                raise Rejected("Unknown API key.")
            if key.revoked:
                raise Rejected("This API key was revoked.")
            return self._issue(_Family(f"key-{key.hint}", None, key.fingerprint, (key.organization,)), None)

    def refresh(self, value: str) -> Issued:
        """New tokens for a refresh token; see :class:`Settings` for rotation and grace.

        Raises:
            Rejected: unknown, expired or revoked; or used again, which revokes the whole family.
        """
        with self._lock:
            token = self._refresh.get(fingerprint(value))
            if token is None:
                raise Rejected("Unknown refresh token.")
            family = token.family
            if self._ended(token):
                raise Rejected("This refresh token was revoked.")
            now = self.now()
            if token.expires_at <= now:
                raise Rejected("This refresh token has expired.")
            if token.spent_at is not None:
                previous = token.generation == family.generation - 1
                if not previous or now - token.spent_at > self._settings.grace_seconds:
                    family.revoked = True
                    raise Rejected("This refresh token was used before: all tokens of its family are revoked now.")
                return self._issue(family, token)
            if self._settings.rotate and self._settings.refresh_token_in == "all":
                token.spent_at = now
                return self._issue(family, token)
            return self._issue(family, token, repeat=value)

    def _issue(self, family: _Family, predecessor: _Token | None, repeat: str | None = None) -> Issued:
        settings = self._settings
        now = self.now()
        self._prune(now)
        refresh_token: str | None = None
        if repeat is not None:
            refresh_token = repeat if settings.refresh_token_in == "all" else None
        elif settings.refresh_token_in != "none":
            refresh_token = secrets.token_urlsafe(32)
            generation = 0 if predecessor is None else predecessor.generation + 1
            family.generation = max(family.generation, generation)
            self._refresh[fingerprint(refresh_token)] = _Token(
                family, now + settings.refresh_lifetime_seconds, generation
            )
        expires_at = now + settings.lifetime_seconds
        access_token = (
            self._jwt(family, now, expires_at) if settings.token_format == "jwt" else secrets.token_urlsafe(32)
        )
        self._access[fingerprint(access_token)] = _Token(family, expires_at, family.generation)
        return Issued(access_token, refresh_token, settings.lifetime_seconds, family.organizations)

    def _jwt(self, family: _Family, now: float, expires_at: float) -> str:
        """An HS256 JWT (RFC 7519) whose ``exp`` a client may read, made without a library so that starting is quick."""
        claims = {
            "iss": "partium-sandbox",
            "sub": family.subject,
            "organizations": list(family.organizations),
            "iat": int(now),
            "exp": int(expires_at),
            "jti": secrets.token_hex(8),
        }
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256", "typ": "JWT"}, claims)
        ]
        signed = b".".join(parts)
        signature = hmac.digest(self._signing_key, signed, "sha256")
        return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

    def _prune(self, now: float) -> None:
        """Forget long expired tokens now and then, so that a demo can run for weeks."""
        self._issued += 1
        if self._issued % _PRUNE_EVERY == 0:
            for store in (self._access, self._refresh):
                for mark in [mark for mark, token in store.items() if token.expires_at < now - 3_600]:
                    del store[mark]

    # Recognizing

    def _ended(self, token: _Token) -> bool:
        """Whether a token was revoked: itself, or with its family, or (refresh tokens only) with its API key."""
        if token.revoked or token.family.revoked:
            return True
        key = self._keys.get(token.family.key) if token.family.key else None
        return key is not None and key.revoked

    def bearer(self, value: str) -> Bearer | None:
        """What an API key or one of the sandbox's own access tokens opens.

        Returns:
            None where the sandbox has never issued it (an identity provider may have).

        Raises:
            Rejected: it was issued here and is expired or revoked.
        """
        with self._lock:
            mark = fingerprint(value)
            key = self._keys.get(mark)
            if key is not None:
                if key.revoked:
                    raise Rejected("This API key was revoked.")
                return Bearer("api_key", (key.organization,))
            token = self._access.get(mark)
            if token is None:
                return None
            if token.expires_at <= self.now():
                raise Rejected("This access token has expired.")
            revoked = self._ended(token) if self._settings.revoke_cascades else token.revoked or token.family.revoked
            if revoked:
                raise Rejected("This access token was revoked.")
            return Bearer("access_token", token.family.organizations)

    def kind_of(self, mark: str) -> CredentialKind:
        """What kind of credential has this fingerprint, expired and revoked ones included; ``unknown`` otherwise."""
        with self._lock:
            if mark in self._keys:
                return "api_key"
            if mark in self._access:
                return "access_token"
            return "refresh" if mark in self._refresh else "unknown"

    # Revoking

    def revoke_token(self, mark: str) -> None:
        """Revoke one access or refresh token and nothing else.

        Raises:
            LookupError: no such token.
        """
        with self._lock:
            self._token(mark).revoked = True

    def revoke_family(self, mark: str) -> None:
        """Revoke every access and refresh token that came from the same exchange as this one.

        Raises:
            LookupError: no such token.
        """
        with self._lock:
            self._token(mark).family.revoked = True

    def _token(self, mark: str) -> _Token:
        token = self._access.get(mark) or self._refresh.get(mark)
        if token is None:
            raise LookupError("There is no such access or refresh token.")
        return token

    # Rate limit

    def admit(self, organization: str) -> float | None:
        """Count one Find call against the organization's rate.

        Returns:
            None where the call may pass, otherwise the seconds until the next one may.
        """
        with self._lock:
            rate, now = self._settings.rate_limit_per_second, self.now()
            burst = max(rate, 1.0) if rate else 0.0
            bucket = self._buckets.setdefault(organization, _Bucket(burst, now))
            bucket.tokens = min(burst, bucket.tokens + max(0.0, now - bucket.updated_at) * rate)
            bucket.updated_at = now
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                return None
            return (1 - bucket.tokens) / rate if rate else 60.0

    def describe(self) -> dict[str, Any]:
        """What exists, as JSON-able values without a single credential."""
        with self._lock:
            return {
                "settings": self._settings.as_json(),
                "now": self.now(),
                "organizations": [asdict(one) for one in self._organizations.values()],
                "users": [
                    {"username": one.username, "organizations": one.organizations} for one in self._users.values()
                ],
                "keys": [asdict(one) for one in self._keys.values()],
            }
