"""Who is this? Two backends for ``AUTHENTICATION_BACKENDS``.

Both act only on what this app's own views hand them under a name of their own: a request that happens to carry ``code``
and ``state``, or a user name and a password typed into some other form of the site, concerns neither.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from partium_auth.accounts import claims as claims_
from partium_auth.accounts import matching
from partium_auth.accounts.matching import VerifiedLogin
from partium_auth.exceptions import CredentialsRejected
from partium_auth.host import upstream
from partium_auth.models import Identity
from partium_auth.oidc.errors import Refused
from partium_auth.partium.token_response import TokenResponse

logger = logging.getLogger("partium_auth.login")


class PartiumOIDCBackend(OIDCAuthenticationBackend):  # type: ignore[misc]  # the base library has no types
    """Logs people in whom an identity provider has vouched for; passes wherever an ``OIDCAuthenticationBackend`` does.

    The protocol is done before (``login.flow``); this decides which account it is. The base library's hooks stay what
    they are and may be overridden: ``verify_claims``, ``filter_users_by_claims``, ``create_user``, ``update_user`` and
    ``get_username``. Whoever has logged in before is found by issuer and subject, whatever the hooks say.
    """

    def __init__(self) -> None:
        # Not the base's: it raises without OIDC_… settings, and every login of the site with it.
        self.UserModel = get_user_model()
        self.request: HttpRequest | None = None
        self.login: VerifiedLogin | None = None

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        """Return the user of a verified login that our own callback passes as ``partium_login_attempt``; else None.

        Why somebody is refused is left on the attempt: None lets Django send ``user_login_failed``.
        """
        login = kwargs.get("partium_login_attempt")
        if not isinstance(login, VerifiedLogin) or login.refusal is not None:
            return None
        self.request, self.login = request, login
        try:
            return matching.record_login(login, self)
        except Refused as e:
            login.refusal = e
            return None

    async def aauthenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        """Like :meth:`authenticate`."""
        return await sync_to_async(self.authenticate)(request, **kwargs)

    def get_user(self, user_id: Any) -> Any:
        """Return the user of a session, or None: deactivated people are out on their next request."""
        return ModelBackend.get_user(self, user_id)

    async def aget_user(self, user_id: Any) -> Any:
        """Like :meth:`get_user`."""
        return await sync_to_async(self.get_user)(user_id)

    def get_or_create_user(self, access_token: Any, id_token: Any, payload: Any) -> Any:
        """Refuse: nobody has verified that the token was issued for this site (``mozilla_django_oidc.contrib.drf``)."""
        raise ImproperlyConfigured(
            "PartiumOIDCBackend logs people in; it does not authenticate requests by a bearer. Name another one, "
            "such as mozilla_django_oidc.auth.OIDCAuthenticationBackend, in OIDC_DRF_AUTH_BACKEND."
        )

    def verify_claims(self, claims: Any) -> bool:
        """Hook: whether somebody with these verified claims may log in at all. Here: yes."""
        return True

    def filter_users_by_claims(self, claims: Any) -> Any:
        """Hook: the users that a first login may be connected with, as a query set. One is connected, several are refused.

        Here: by issuer and subject, then by verified e-mail address where ``PARTIUM_LINK_BY_VERIFIED_EMAIL`` allows it.
        """
        if self.login is None:
            return self.UserModel.objects.none()
        return matching.users_for(self.login)

    def create_user(self, claims: Any) -> Any:
        """Hook: return a new user."""
        email = claims.get("email")
        user = matching.new_user(self.get_username(claims), email if isinstance(email, str) else "")
        if changed := matching.set_names(user, claims):
            user.save(update_fields=changed)
        return user

    def update_user(self, user: Any, claims: Any) -> Any:
        """Hook: bring a known user up to date, and return the user."""
        if changed := matching.set_names(user, claims):
            user.save(update_fields=changed)
        return user

    def get_username(self, claims: Any) -> str:
        """Hook: the user name of a new user.

        ``OIDC_USERNAME_ALGO`` where the site has it; else the verified e-mail address if it is free, else one made of
        issuer and subject. The base library's own is made of the e-mail address alone, which anybody may have.
        """
        if self.login is None or getattr(settings, "OIDC_USERNAME_ALGO", None):
            return str(super().get_username(claims))
        return matching.new_username(self.login.issuer, self.login.subject, claims_.verified_email(claims))


@dataclass
class PasswordLogin:
    """A Partium user name and password typed into this app's own login page, and what became of them."""

    username: str
    password: str = field(repr=False)
    tokens: TokenResponse | None = field(default=None, repr=False)
    issued_at: dt.datetime | None = None
    identity: Identity | None = field(default=None, repr=False)
    refusal: Refused | None = None


class PartiumPasswordBackend(ModelBackend):
    """Logs people in with their Partium user name and password. In ``AUTHENTICATION_BACKENDS``, the login page offers it."""

    @sensitive_variables()
    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Return the user whom Partium knows by ``partium_password_login``; None if it does not, or for anything else.

        Raises:
            UpstreamError: Partium cannot be asked; it says nothing about the password, so this is no failed login.
        """
        login = kwargs.get("partium_password_login")
        if not isinstance(login, PasswordLogin) or not login.username or not login.password:
            return None
        login.issued_at = timezone.now()
        try:
            login.tokens = upstream.authentication_api().exchange_password(login.username, login.password)
        except (CredentialsRejected, ValueError):
            return None
        try:
            login.identity = matching.record_password_login(login.username)
        except Refused as e:
            login.refusal = e
            return None
        return login.identity.user

    async def aauthenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Like :meth:`authenticate`."""
        return await sync_to_async(self.authenticate)(request, **kwargs)


def is_password_login_enabled() -> bool:
    """Tell whether ``AUTHENTICATION_BACKENDS`` has :class:`PartiumPasswordBackend`, or a subclass."""
    return _is_enabled(PartiumPasswordBackend)


def is_oidc_login_enabled() -> bool:
    """Tell whether ``AUTHENTICATION_BACKENDS`` has :class:`PartiumOIDCBackend`, or a subclass."""
    return _is_enabled(PartiumOIDCBackend)


def _is_enabled(backend: type) -> bool:
    return any(issubclass(import_string(path), backend) for path in settings.AUTHENTICATION_BACKENDS)
