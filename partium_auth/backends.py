"""Who is this? Two backends for ``AUTHENTICATION_BACKENDS``.

Both act only on what this app's own views pass under a name of their own: a request that happens to carry ``code`` and
``state``, or a user name and a password typed into another form of the site, concerns neither.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from partium_auth.accounts import claims as claims_
from partium_auth.accounts import matching, new_users, passwords
from partium_auth.accounts.passwords import TypedPassword
from partium_auth.models import Grant
from partium_auth.oidc.errors import Refused
from partium_auth.tokens.verified_login import VerifiedLogin


class PartiumOIDCBackend(OIDCAuthenticationBackend):  # type: ignore[misc]  # the base library has no types
    """Logs people in whom an identity provider has verified; passes wherever an ``OIDCAuthenticationBackend`` does.

    The protocol is done before (``accounts.code_flow``); this decides which account it is. The base library's hooks stay
    and may be overridden: ``verify_claims``, ``filter_users_by_claims``, ``create_user``, ``update_user`` and
    ``get_username``. A person who has logged in before is found by issuer and subject, whatever the hooks say.
    """

    partium_login_kind = Grant.Kind.OIDC

    def __getattr__(self, name: str) -> Any:
        """The base library's attributes, such as ``self.OIDC_RP_CLIENT_ID``, which a site's hooks may read."""
        if name.startswith("OIDC_"):
            return getattr(settings, name, None)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __init__(self) -> None:
        # Not the base's: it raises without OIDC_… settings, and every login of the site with it.
        self.UserModel = get_user_model()
        self.request: HttpRequest | None = None
        self.login: VerifiedLogin | None = None

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        """Return the user of a verified login that our own callback passes as ``partium_login_token``; else None.

        The reason of a refusal is left on the login: None lets Django send ``user_login_failed``.
        """
        login = kwargs.get("partium_login_token")
        if not isinstance(login, VerifiedLogin) or login.provider is None or login.refusal is not None:
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

        Here: by verified e-mail address, where ``PARTIUM_LINK_BY_VERIFIED_EMAIL`` allows it.
        """
        if self.login is None:
            return self.UserModel.objects.none()
        return matching.users_for(self.login)

    def create_user(self, claims: Any) -> Any:
        """Hook: return a new user."""
        user = new_users.new_user(self.get_username(claims), claims_.verified_email(claims))
        if changed := new_users.set_names(user, claims):
            user.save(update_fields=changed)
        return user

    def update_user(self, user: Any, claims: Any) -> Any:
        """Hook: bring a known user up to date, and return the user."""
        if changed := new_users.set_names(user, claims) + new_users.set_email(user, claims_.verified_email(claims)):
            user.save(update_fields=changed)
        return user

    def get_username(self, claims: Any) -> str:
        """Hook: the user name of a new user.

        ``OIDC_USERNAME_ALGO`` where the site has it; else the verified e-mail address if it is free, else one made of
        issuer and subject. The base library's own is made of the e-mail address alone, which anybody may have.
        """
        if self.login is None or getattr(settings, "OIDC_USERNAME_ALGO", None):
            return str(super().get_username(claims))
        return new_users.new_username(self.login.issuer, self.login.subject, claims_.verified_email(claims))


class PartiumPasswordBackend(ModelBackend):
    """Logs people in with their Partium user name and password. In ``AUTHENTICATION_BACKENDS``, the login page offers it.

    It has the hooks of :class:`PartiumOIDCBackend`. Their claims are ``iss``, Partium's address, and ``sub``, the user name.
    """

    partium_login_kind = Grant.Kind.PASSWORD

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Return the user whom Partium knows by ``partium_password_login``; None if it does not, or for anything else.

        Raises:
            UpstreamError: Partium cannot be asked; it says nothing about the password, so this is no failed login.
        """
        typed = kwargs.get("partium_password_login")
        login = passwords.log_in(typed, self) if isinstance(typed, TypedPassword) else None
        return None if login is None else login.user

    async def aauthenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Like :meth:`authenticate`."""
        return await sync_to_async(self.authenticate)(request, **kwargs)

    def verify_claims(self, claims: Any) -> bool:
        """Hook: whether this person may log in at all. Here: yes."""
        return True

    def filter_users_by_claims(self, claims: Any) -> Any:
        """Hook: the users that a first login may be connected with, as a query set. Here: none."""
        return get_user_model()._default_manager.none()

    def create_user(self, claims: Any) -> Any:
        """Hook: return a new user."""
        return new_users.new_user(self.get_username(claims))

    def update_user(self, user: Any, claims: Any) -> Any:
        """Hook: bring a known user up to date, and return the user."""
        return user

    def get_username(self, claims: Any) -> str:
        """Hook: the user name of a new user: Partium's if it is free, else one made of it.

        Where user names are e-mail addresses, it is not used as one: Partium has verified a user name, not an address.
        """
        issuer, name = str(claims["iss"]), str(claims["sub"])
        return new_users.new_username(issuer, name, new_users.readable_username(name))
